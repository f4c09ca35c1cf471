//! Calculator: arithmetic on an expression written as Python writes it, and nothing but arithmetic.

mod evaluate;
mod lexer;
mod parser;

use serde_json::{Map, Value as Json};

use super::{params, wants};
use crate::component::{NodeCall, NodeError, NodeOutput};
use crate::value::Value;

pub(super) const OUTPUT: &str = "result";

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let expression = params::text(call, "expression", "")?;
    let mut output = NodeOutput::default();
    if wants(call, OUTPUT) {
        output
            .values
            .insert(OUTPUT.to_owned(), Value::Data(answer(&expression)));
    }
    Ok(output)
}

/// What cannot be computed is an answer too: a model reads it and tries again.
fn answer(expression: &str) -> Map<String, Json> {
    let mut data = Map::new();
    match parser::parse(expression).and_then(|tree| evaluate::evaluate(&tree)) {
        Ok(result) => {
            data.insert("result".to_owned(), result.into());
        }
        Err(error) => {
            data.insert("error".to_owned(), error.into());
            data.insert("input".to_owned(), expression.into());
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(expression: &str) -> String {
        let answer = answer(expression);
        let said = answer.get("result").or_else(|| answer.get("error"));
        said.and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    #[test]
    fn arithmetic_is_pythons() {
        for (expression, expected) in [
            ("4*4*(33/22)+12-20", "16"),
            ("2**3**2", "512"),
            ("2**100", "1267650600228229401496703205376"),
            ("10/4", "2.5"),
            ("1e400", "inf"),
            ("1_000+1", "1001"),
            ("0.1+0.2", "0.3"),
            ("1e-7", "0"),
            ("2.5e-6", "0.000003"),
            ("123456789.123456789", "123456789.123457"),
            ("1/3", "0.333333"),
            ("2**0.5", "1.414214"),
            ("0x10", "16"),
            ("0b101 + 0o17", "20"),
            ("True+1", "2"),
            ("False*3", "0"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1_0.5e1_0", "105000000000"),
            ("1e308*10", "inf"),
            ("0**0", "1"),
            ("0*(0-1)", "-0"),
            ("1e22", "10000000000000000000000"),
            ("1+1  ", "2"),
            ("(1 +\n1)", "2"),
            ("1 # c", "1"),
        ] {
            assert_eq!(of(expression), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_not_arithmetic_is_named() {
        let other =
            |kind: &str| format!("Invalid expression: Unsupported operation or expression type: {kind}");
        for (expression, kind) in [
            ("-3", "UnaryOp"),
            ("2 ** -1", "UnaryOp"),
            ("~1", "UnaryOp"),
            ("not 1", "UnaryOp"),
            ("++1", "UnaryOp"),
            ("sqrt(16)", "Call"),
            ("x.y(z)", "Call"),
            ("print(\"x\")", "Call"),
            ("f(a=1, *b)", "Call"),
            ("x+1", "Name"),
            ("inf", "Name"),
            ("3 > 2", "Compare"),
            ("1 is 1", "Compare"),
            ("1 not in 2", "Compare"),
            ("[1,2]", "List"),
            ("1 if 2 else 3", "IfExp"),
            ("1,2", "Tuple"),
            ("()", "Tuple"),
            ("100,000*2", "Tuple"),
            ("a.b", "Attribute"),
            ("a[0]", "Subscript"),
            ("1 and 2", "BoolOp"),
            ("lambda: 1", "Lambda"),
            ("{1:2}", "Dict"),
            ("{1}", "Set"),
            ("f\"x\"", "JoinedStr"),
            ("await x", "Await"),
        ] {
            assert_eq!(of(expression), other(kind), "{expression}");
        }
        for (expression, operator) in [
            ("5 % 2", "Mod"),
            ("7 // 2", "FloorDiv"),
            ("2^3", "BitXor"),
            ("1 @ 2", "MatMult"),
            ("1 << 2", "LShift"),
            ("1 >> x", "RShift"),
            ("1 | 2", "BitOr"),
            ("1 & 2", "BitAnd"),
        ] {
            let expected = format!("Invalid expression: Unsupported binary operator: {operator}");
            assert_eq!(of(expression), expected, "{expression}");
        }
        for (expression, constant) in [
            ("\"a\"*3", "str"),
            ("b\"a\"", "bytes"),
            ("1+1j", "complex"),
            ("None", "NoneType"),
            ("...", "ellipsis"),
        ] {
            let expected = format!("Invalid expression: Unsupported constant type: {constant}");
            assert_eq!(of(expression), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_says_so() {
        for (expression, expected) in [
            ("", "invalid syntax (<unknown>, line 0)"),
            ("1\n ", "unexpected indent (<unknown>, line 2)"),
            ("\n\n#", "invalid syntax (<unknown>, line 3)"),
            ("4é", "invalid syntax (<unknown>, line 1)"),
            (" ", "unexpected indent (<unknown>, line 1)"),
            ("\n ", "unexpected indent (<unknown>, line 2)"),
            ("\n 1", "unexpected indent (<unknown>, line 2)"),
            ("\n", "invalid syntax (<unknown>, line 1)"),
            (" \n", "invalid syntax (<unknown>, line 1)"),
            ("\n\n", "invalid syntax (<unknown>, line 2)"),
            ("1\n 2", "unexpected indent (<unknown>, line 2)"),
            ("# c", "invalid syntax (<unknown>, line 1)"),
            ("1+", "invalid syntax (<unknown>, line 1)"),
            ("x=1", "invalid syntax (<unknown>, line 1)"),
            ("15% of 200", "invalid syntax (<unknown>, line 1)"),
            ("2 3", "invalid syntax (<unknown>, line 1)"),
            ("*3", "invalid syntax (<unknown>, line 1)"),
            ("$5+1", "invalid syntax (<unknown>, line 1)"),
            ("5!", "invalid syntax (<unknown>, line 1)"),
            ("1.5.2", "invalid syntax (<unknown>, line 1)"),
            ("1 +\n1", "invalid syntax (<unknown>, line 1)"),
            ("1;2", "invalid syntax (<unknown>, line 1)"),
            ("a:=1", "invalid syntax (<unknown>, line 1)"),
            ("yield", "invalid syntax (<unknown>, line 1)"),
            ("1 or", "invalid syntax (<unknown>, line 1)"),
            ("a\nb", "invalid syntax (<unknown>, line 2)"),
            ("(1+2", "'(' was never closed (<unknown>, line 1)"),
            ("1)", "unmatched ')' (<unknown>, line 1)"),
            (
                "'a",
                "unterminated string literal (detected at line 1) (<unknown>, line 1)",
            ),
            ("  1+1", "unexpected indent (<unknown>, line 1)"),
            ("2×3", "invalid character '×' (U+00D7) (<unknown>, line 1)"),
            ("€5", "invalid character '€' (U+20AC) (<unknown>, line 1)"),
            ("1__0", "invalid decimal literal (<unknown>, line 1)"),
            ("1e", "invalid decimal literal (<unknown>, line 1)"),
            ("3abc", "invalid decimal literal (<unknown>, line 1)"),
            ("0xg", "invalid hexadecimal literal (<unknown>, line 1)"),
            ("0b102", "invalid digit '2' in binary literal (<unknown>, line 1)"),
            (
                "01",
                "leading zeros in decimal integer literals are not permitted; use an 0o prefix for octal integers \
                 (<unknown>, line 1)",
            ),
        ] {
            assert_eq!(
                of(expression),
                format!("Invalid expression: {expected}"),
                "{expression:?}"
            );
        }
    }

    #[test]
    fn numbers_that_do_not_exist() {
        assert_eq!(of("1/0"), "Error: Division by zero");
        assert_eq!(of("0**(1-2)"), "Error: Division by zero");
        let range = "Invalid expression: (34, 'Numerical result out of range')";
        assert_eq!(
            (of("9**999"), of("1e200**2")),
            (range.to_owned(), range.to_owned())
        );
        let complex = "Invalid expression: float() argument must be a string or a real number, not 'complex'";
        assert_eq!(of("(0-8)**0.5"), complex);
        assert_eq!(of("(0-8)**0.5 + 1"), complex);
        assert_eq!(
            of(&"9".repeat(400)),
            "Invalid expression: int too large to convert to float"
        );
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(of(&deep).contains("too many nested"), "{}", of(&deep));
        let long = vec!["1"; 50_000].join("+");
        assert!(of(&long).contains("recursion"), "{}", of(&long));
        assert_eq!(of(&vec!["1"; 500].join("+")), "500");
        assert!(of(&"2**".repeat(50_000)).contains("Invalid"));
        assert!(of(&"-".repeat(50_000)).contains("Invalid"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_an_answer(text in "\\PC{0,40}") {
            proptest::prop_assert_eq!(answer(&text).len(), usize::from(answer(&text).contains_key("error")) + 1);
        }

        #[test]
        fn anything_of_its_words_has_an_answer(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "1", "2.5", "(", ")", "[", "]", "{", "}", "+", "-", "*", "/", "**", "//", "%", "^", "x", "not", "in", "is",
                    "if", "else", "lambda", ":", ",", ".", "=", "==", "'a'", "\"", " ", "\n", "and", "or", "await", "None",
                ]),
                0..30,
            )
        ) {
            let text = words.concat();
            proptest::prop_assert!(!of(&text).is_empty());
        }
    }
}

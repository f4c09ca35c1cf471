//! Python's arithmetic on floats.

use super::parser::Tree;

/// A result on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Real(f64),
    /// A root of a negative number: it can be computed with, and is no answer.
    Complex,
}

const ZERO: &str = "Error: Division by zero";
const RANGE: &str = "Invalid expression: (34, 'Numerical result out of range')";

/// The result with at most six decimals.
pub(super) fn evaluate(tree: &Tree) -> Result<String, String> {
    match value(tree)? {
        Number::Real(result) => {
            let text = format!("{result:.6}");
            let text = if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.')
            } else {
                text.as_str()
            };
            Ok(text.replace("NaN", "nan"))
        }
        Number::Complex => Err(
            "Invalid expression: float() argument must be a string or a real number, not 'complex'"
                .to_owned(),
        ),
    }
}

fn value(tree: &Tree) -> Result<Number, String> {
    match tree {
        Tree::Number(number) => Ok(Number::Real(*number)),
        Tree::Constant(name) => Err(format!("Invalid expression: Unsupported constant type: {name}")),
        Tree::Other(name) => Err(format!(
            "Invalid expression: Unsupported operation or expression type: {name}"
        )),
        Tree::Binary(operator, sides) => {
            let compute = match *operator {
                "Add" => |a: f64, b: f64| Ok(Number::Real(a + b)),
                "Sub" => |a: f64, b: f64| Ok(Number::Real(a - b)),
                "Mult" => |a: f64, b: f64| Ok(Number::Real(a * b)),
                "Div" => |a: f64, b: f64| divide(a, b),
                "Pow" => power,
                other => {
                    return Err(format!(
                        "Invalid expression: Unsupported binary operator: {other}"
                    ));
                }
            };
            match (value(&sides.0)?, value(&sides.1)?) {
                (Number::Real(left), Number::Real(right)) => compute(left, right),
                (Number::Complex, Number::Real(0.0)) if *operator == "Div" => Err(ZERO.to_owned()),
                _ => Ok(Number::Complex),
            }
        }
    }
}

fn divide(dividend: f64, divisor: f64) -> Result<Number, String> {
    if divisor == 0.0 {
        return Err(ZERO.to_owned());
    }
    Ok(Number::Real(dividend / divisor))
}

fn power(base: f64, exponent: f64) -> Result<Number, String> {
    if base == 0.0 && exponent < 0.0 {
        return Err(ZERO.to_owned());
    }
    if base < 0.0 && base.is_finite() && exponent.is_finite() && exponent.fract() != 0.0 {
        return Ok(Number::Complex);
    }
    let result = base.powf(exponent);
    if result.is_infinite() && base.is_finite() && exponent.is_finite() {
        return Err(RANGE.to_owned());
    }
    Ok(Number::Real(result))
}

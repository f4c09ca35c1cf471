//! Python's format specifications: `[[fill]align][sign][#][0][width][grouping][.precision][type]`.

use serde_json::Value as Json;

use super::text::{float_text, to_text};

/// Wider or more precise than any text a flow needs; Python would allocate it.
const MAX_WIDTH: usize = 100_000;
const MAX_PRECISION: usize = 1_000;

#[derive(Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Formats a value, or says why it cannot be.
pub(super) fn format(value: &Json, text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(to_text(value));
    }
    let spec = parse(text)?;
    if let Some(detail) = refused(&spec, value) {
        return Err(detail.to_owned());
    }
    match value {
        Json::String(string) => string_field(string, &spec),
        Json::Bool(flag) => integer_field(i128::from(*flag), &spec),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => integer_field(i128::from(int), &spec),
            (_, Some(int), _) => integer_field(i128::from(int), &spec),
            (_, _, Some(float)) => float_field(float, &spec),
            _ => Err("this number cannot be formatted".to_owned()),
        },
        Json::Null | Json::Array(_) | Json::Object(_) => {
            Err("only text and numbers can have a format".to_owned())
        }
    }
}

/// Combinations that Python refuses, or that are too rare to get right: an error is better than another text.
fn refused(spec: &Spec, value: &Json) -> Option<&'static str> {
    let zeros = spec.zero || (spec.fill == Some('0') && spec.align == Some('='));
    match spec.kind {
        _ if value.is_string() => None,
        Some('c') if spec.sign.is_some() || spec.alternate || spec.grouping.is_some() => {
            Some("a character has no sign, # or grouping")
        }
        Some('n') if spec.grouping.is_some() => Some("n groups by itself"),
        _ if zeros && spec.grouping.is_some() && spec.width > 0 => {
            Some("grouping cannot be combined with leading zeros here")
        }
        Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') if spec.alternate => {
            Some("# is for whole numbers here")
        }
        _ if spec.alternate && value.is_f64() => Some("# is for whole numbers here"),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Spec, String> {
    let invalid = || format!("{text:?} is not a format");
    let mut spec = Spec::default();
    let mut chars: Vec<char> = text.chars().collect();
    let is_align = |c: char| matches!(c, '<' | '>' | '=' | '^');
    if chars.len() >= 2 && is_align(chars[1]) {
        spec.fill = Some(chars[0]);
        spec.align = Some(chars[1]);
        chars.drain(..2);
    } else if is_align(chars[0]) {
        spec.align = Some(chars[0]);
        chars.drain(..1);
    }
    let mut rest = chars.into_iter().peekable();
    spec.sign = rest.next_if(|c| matches!(c, '+' | '-' | ' '));
    spec.alternate = rest.next_if_eq(&'#').is_some();
    spec.zero = rest.next_if_eq(&'0').is_some();
    let number = |rest: &mut std::iter::Peekable<std::vec::IntoIter<char>>| {
        let mut digits = String::new();
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits
    };
    let width = number(&mut rest);
    if !width.is_empty() {
        spec.width = width
            .parse()
            .ok()
            .filter(|width| *width <= MAX_WIDTH)
            .ok_or_else(invalid)?;
    }
    spec.grouping = rest.next_if(|c| matches!(c, ',' | '_'));
    if rest.next_if_eq(&'.').is_some() {
        let digits = number(&mut rest);
        let precision = digits
            .parse()
            .ok()
            .filter(|precision| *precision <= MAX_PRECISION);
        spec.precision = Some(precision.ok_or_else(invalid)?);
    }
    spec.kind = rest.next();
    if rest.next().is_some() {
        Err(invalid())
    } else {
        Ok(spec)
    }
}

fn string_field(text: &str, spec: &Spec) -> Result<String, String> {
    if !matches!(spec.kind, None | Some('s')) {
        return Err(format!(
            "text cannot be formatted with {:?}",
            spec.kind.unwrap_or_default()
        ));
    }
    if spec.sign.is_some() || spec.alternate || spec.grouping.is_some() || spec.align == Some('=') {
        return Err("sign, #, grouping and = are for numbers".to_owned());
    }
    let text: String = match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    };
    Ok(pad("", &text, spec, '<'))
}

fn integer_field(value: i128, spec: &Spec) -> Result<String, String> {
    let kind = spec.kind.unwrap_or('d');
    if matches!(kind, 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') {
        return float_field(value as f64, spec);
    }
    if spec.precision.is_some() {
        return Err("a whole number has no precision".to_owned());
    }
    let magnitude = value.unsigned_abs();
    let (prefix, digits, every) = match kind {
        'd' | 'n' => ("", magnitude.to_string(), 3),
        'b' => ("0b", format!("{magnitude:b}"), 4),
        'o' => ("0o", format!("{magnitude:o}"), 4),
        'x' => ("0x", format!("{magnitude:x}"), 4),
        'X' => ("0X", format!("{magnitude:X}"), 4),
        'c' => {
            let c = u32::try_from(value).ok().and_then(char::from_u32);
            return c
                .map(|c| pad("", &c.to_string(), spec, '<'))
                .ok_or_else(|| "not a character".to_owned());
        }
        other => return Err(format!("a whole number cannot be formatted with {other:?}")),
    };
    if spec.grouping == Some(',') && every != 3 {
        return Err("a comma can only group decimal digits".to_owned());
    }
    let prefix = if spec.alternate { prefix } else { "" };
    let digits = group(&digits, spec.grouping, every);
    Ok(pad(
        &format!("{}{prefix}", sign(value < 0, spec)),
        &digits,
        spec,
        '>',
    ))
}

fn float_field(value: f64, spec: &Spec) -> Result<String, String> {
    let magnitude = value.abs();
    let precision = spec.precision.unwrap_or(6);
    let digits = if value.is_finite() {
        match spec.kind {
            None => match spec.precision {
                None => float_text(magnitude),
                Some(precision) => with_fraction(shorter(magnitude, precision.max(1), 1)),
            },
            Some('f' | 'F') => format!("{magnitude:.precision$}"),
            Some('e' | 'E') => exponent(&format!("{magnitude:.precision$e}")),
            Some('g' | 'G' | 'n') => general(magnitude, precision.max(1)),
            Some('%') => format!("{:.precision$}%", magnitude * 100.0),
            Some(other) => {
                return Err(format!(
                    "a number with a fraction cannot be formatted with {other:?}"
                ));
            }
        }
    } else {
        let name = float_text(magnitude);
        if spec.kind == Some('%') {
            format!("{name}%")
        } else {
            name
        }
    };
    let digits = match spec.kind {
        Some('E' | 'G' | 'F') => digits.to_uppercase(),
        _ => digits,
    };
    let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let digits = format!(
        "{}{}",
        group(&digits[..whole], spec.grouping, 3),
        &digits[whole..]
    );
    Ok(pad(
        sign(value.is_sign_negative() && !value.is_nan(), spec),
        &digits,
        spec,
        '>',
    ))
}

/// `%g`: the shorter of fixed and scientific, without trailing zeros.
pub(super) fn general(value: f64, precision: usize) -> String {
    shorter(value, precision, 0)
}

/// [`general`] with room for this many digits after the point: without a type Python keeps one.
fn shorter(value: f64, precision: usize, decimals: i64) -> String {
    let scientific = format!("{value:.*e}", precision - 1);
    let power = scientific
        .split_once('e')
        .and_then(|(_, power)| power.parse::<i64>().ok())
        .unwrap_or(0);
    let digits = i64::try_from(precision).unwrap_or(i64::MAX);
    if power < -4 || power >= digits - decimals {
        let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return exponent(&format!("{}e{power}", trim_zeros(mantissa)));
    }
    let decimals = usize::try_from(digits - 1 - power).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

fn with_fraction(text: String) -> String {
    if text.contains(['.', 'e']) {
        text
    } else {
        format!("{text}.0")
    }
}

/// An exponent with its sign and two digits at least.
fn exponent(text: &str) -> String {
    let Some((mantissa, power)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = power
        .strip_prefix('-')
        .map_or(('+', power), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn sign(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    }
}

fn group(digits: &str, separator: Option<char>, every: usize) -> String {
    let Some(separator) = separator else {
        return digits.to_owned();
    };
    let mut out = String::with_capacity(digits.len() + digits.len() / every);
    for (index, c) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(every) {
            out.push(separator);
        }
        out.push(c);
    }
    out
}

fn pad(prefix: &str, text: &str, spec: &Spec, natural: char) -> String {
    let missing = spec
        .width
        .saturating_sub(prefix.chars().count() + text.chars().count());
    let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
    let align = spec
        .align
        .unwrap_or(if spec.zero && natural == '>' { '=' } else { natural });
    let filling = |count: usize| fill.to_string().repeat(count);
    match align {
        '<' => format!("{prefix}{text}{}", filling(missing)),
        '^' => format!(
            "{}{prefix}{text}{}",
            filling(missing / 2),
            filling(missing - missing / 2)
        ),
        '=' => format!("{prefix}{}{text}", filling(missing)),
        _ => format!("{}{prefix}{text}", filling(missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each expectation was printed by Python 3.11.
    #[test]
    fn table() {
        let cases = [
            (json!(4.56789), ".2f", Some("4.57")),
            (json!(42), "05d", Some("00042")),
            (json!(42), "x", Some("2a")),
            (json!(42), "#x", Some("0x2a")),
            (json!(1_234_567), ",", Some("1,234,567")),
            (json!(1_234_567), "_", Some("1_234_567")),
            (json!(1234.5), ",.2f", Some("1,234.50")),
            (json!(4.56789), "e", Some("4.567890e+00")),
            (json!(4.56789), "g", Some("4.56789")),
            (json!(1e10), "g", Some("1e+10")),
            (json!(0.00001), "g", Some("1e-05")),
            (json!(100_000.0), "g", Some("100000")),
            (json!(4.56789), "%", Some("456.789000%")),
            (json!(42), "+", Some("+42")),
            (json!(4.56789), "10.3f", Some("     4.568")),
            (json!(42), "<5", Some("42   ")),
            (json!(42), "^5", Some(" 42  ")),
            (json!(-42), "06", Some("-00042")),
            (json!(-42), "=6", Some("-   42")),
            (json!(3.0), ".3", Some("3.0")),
            (json!(1234.0), ".3", Some("1.23e+03")),
            (json!(123.0), ".3", Some("1.23e+02")),
            (json!(3.75), ".0", Some("4e+00")),
            (json!(1.0), "", Some("1.0")),
            (json!(true), ">5", Some("    1")),
            (json!(true), "d", Some("1")),
            (json!("abc"), ".2", Some("ab")),
            (json!("abc"), "*^7", Some("**abc**")),
            (json!("a"), "05", Some("a0000")),
            (json!(65), "c", Some("A")),
            (json!("abc"), "d", None),
            (json!(1.5), "#g", None),
            (json!(1.5), "012,.2f", None),
            (json!(65), "+c", None),
            (json!(65), ",n", None),
            (json!("abc"), "=5", None),
            (json!(null), ">5", None),
            (json!([1]), "s", None),
            (json!(1), ".2d", None),
            (json!(1.5), "d", None),
            (json!(1), "q", None),
            (json!(1), "5.", None),
            (json!(1), "dd", None),
        ];
        for (value, spec, expected) in cases {
            assert_eq!(format(&value, spec).ok().as_deref(), expected, "{value} {spec}");
        }
    }
}

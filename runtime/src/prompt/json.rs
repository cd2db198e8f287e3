//! JSON as Python's `json.dumps(value, ensure_ascii=False)` prints it: the form in which the model saw schemas and arguments.
//!
//! Limits, all of how `serde_json` reads numbers: an integer beyond 64 bits prints as the nearest float (`1e+20`), `-0` as `-0.0`,
//! and without its `float_roundtrip` feature a float of 17 digits may come out one unit off in the last.

use serde_json::{Map, Number, Value};

/// `value` with `", "` and `": "` as separators and the keys in their own order.
pub(super) fn dumps(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

/// As [`dumps`], for an object that is not wrapped in a `Value`.
pub(super) fn dumps_object(object: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_object(object, &mut out);
    out
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(object) => write_object(object, out),
    }
}

fn write_object(object: &Map<String, Value>, out: &mut String) {
    out.push('{');
    for (i, (key, value)) in object.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_string(key, out);
        out.push_str(": ");
        write_value(value, out);
    }
    out.push('}');
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            // DEL and everything above it stay as they are.
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_number(number: &Number, out: &mut String) {
    match number.as_f64() {
        Some(value) if number.is_f64() => write_float(value, out),
        _ => out.push_str(&number.to_string()),
    }
}

/// Python's `repr(float)`. Both languages print the shortest digits that read back as the same number, and turn to an exponent
/// below 1e-4 and from 1e16; Python then writes the sign and at least two digits of it.
fn write_float(value: f64, out: &mut String) {
    let text = format!("{value:?}");
    match text.split_once('e') {
        None => out.push_str(&text),
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            out.push_str(&format!("{mantissa}e{sign}{digits:0>2}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Each pair: JSON read, and what Python 3 prints for it (`json.dumps(json.loads(s), ensure_ascii=False)`).
    #[test]
    fn prints_as_python_does() {
        for (read, printed) in [
            (r#"{"b":1,"a":[true,false,null,{}],"c":[]}"#, r#"{"b": 1, "a": [true, false, null, {}], "c": []}"#),
            (r#""\u00e9\u4f60\ud83d\ude00/\/""#, "\"é你😀//\""),
            (r#""\"\\\n\r\t\b\f\u0000\u001f\u007f\u2028""#, "\"\\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001f\u{7f}\u{2028}\""),
            ("-9223372036854775808", "-9223372036854775808"),
            ("18446744073709551615", "18446744073709551615"),
            ("1.0", "1.0"),
            ("-0.0", "-0.0"),
            ("1e2", "100.0"),
            ("0.1", "0.1"),
            ("3.141592653589793", "3.141592653589793"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("0.00012345", "0.00012345"),
            ("1.5e-7", "1.5e-07"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("1e16", "1e+16"),
            ("1.25e22", "1.25e+22"),
            ("1e100", "1e+100"),
            ("2.5e-110", "2.5e-110"),
            ("123456789.125", "123456789.125"),
        ] {
            assert_eq!(dumps(&serde_json::from_str(read).unwrap()), printed, "{read}");
        }
    }

    #[test]
    fn floats_at_the_edges() {
        for (value, printed) in [
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1.0 / 3.0, "0.3333333333333333"),
            (9.999_999_999_999_999e-5, "9.999999999999999e-05"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
        ] {
            let mut out = String::new();
            write_float(value, &mut out);
            assert_eq!(out, printed);
        }
    }
}

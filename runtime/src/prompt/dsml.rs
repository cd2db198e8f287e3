//! DSML: how tools are offered to the model and how its calls are written back into the conversation.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::PromptError;
use super::json::{dumps, dumps_object};
use super::message::{FunctionCall, Tool, ToolCall};
use super::text::{TOOLS_HEAD, TOOLS_TAIL};

/// The tools section of a system or developer message: the calling convention, then one function schema a line.
pub(super) fn write_tools(tools: &[Tool], out: &mut String) {
    out.push_str(TOOLS_HEAD);
    for (i, tool) in tools.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.push_str(&dumps_object(&tool.function));
    }
    out.push_str(TOOLS_TAIL);
}

/// The calls of one assistant turn. A string argument is written raw, anything else as JSON.
///
/// Nothing is escaped, as the model was trained: a value that itself contains `</｜DSML｜parameter>` closes its parameter early.
pub(super) fn write_calls(calls: &[ToolCall], index: usize, out: &mut String) -> Result<(), PromptError> {
    out.push_str("<｜DSML｜tool_calls>");
    for ToolCall { function, .. } in calls {
        out.push_str("\n<｜DSML｜invoke name=\"");
        out.push_str(&function.name);
        out.push_str("\">\n");
        for (i, (name, value)) in arguments(function, index)?.iter().enumerate() {
            let (is_string, value) = match value {
                Value::String(text) => ("true", Cow::Borrowed(text.as_str())),
                other => ("false", Cow::Owned(dumps(other))),
            };
            if i > 0 {
                out.push('\n');
            }
            let parts =
                ["<｜DSML｜parameter name=\"", name, "\" string=\"", is_string, "\">", &value, "</｜DSML｜parameter>"];
            out.extend(parts);
        }
        out.push_str("\n</｜DSML｜invoke>");
    }
    out.push_str("\n</｜DSML｜tool_calls>");
    Ok(())
}

fn arguments(call: &FunctionCall, index: usize) -> Result<Cow<'_, Map<String, Value>>, PromptError> {
    let not_object = |value: &Value| PromptError::ArgumentsNotObject {
        index,
        name: call.name.clone(),
        got: match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        },
    };
    match &call.arguments {
        Value::Object(map) => Ok(Cow::Borrowed(map)),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Cow::Owned(map)),
            Ok(other) => Err(not_object(&other)),
            Err(source) => Err(PromptError::ArgumentsNotJson { index, name: call.name.clone(), source }),
        },
        other => Err(not_object(other)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn call(name: &str, arguments: Value) -> ToolCall {
        ToolCall { id: None, function: FunctionCall { name: name.into(), arguments } }
    }

    fn written(calls: &[ToolCall]) -> String {
        let mut out = String::new();
        write_calls(calls, 3, &mut out).unwrap();
        out
    }

    #[test]
    fn values_are_raw_strings_or_json() {
        let arguments = r#"{"z": "a\n\"b\"", "n": 1.50, "l": [1,{"k":"é"}], "t": true, "u": null, "e": ""}"#;
        let expected = "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n\
            <｜DSML｜parameter name=\"z\" string=\"true\">a\n\"b\"</｜DSML｜parameter>\n\
            <｜DSML｜parameter name=\"n\" string=\"false\">1.5</｜DSML｜parameter>\n\
            <｜DSML｜parameter name=\"l\" string=\"false\">[1, {\"k\": \"é\"}]</｜DSML｜parameter>\n\
            <｜DSML｜parameter name=\"t\" string=\"false\">true</｜DSML｜parameter>\n\
            <｜DSML｜parameter name=\"u\" string=\"false\">null</｜DSML｜parameter>\n\
            <｜DSML｜parameter name=\"e\" string=\"true\"></｜DSML｜parameter>\n\
            </｜DSML｜invoke>\n</｜DSML｜tool_calls>";
        assert_eq!(written(&[call("f", arguments.into())]), expected);
        assert_eq!(written(&[call("f", serde_json::from_str(arguments).unwrap())]), expected);
    }

    #[test]
    fn calls_without_arguments_keep_their_empty_line() {
        assert_eq!(
            written(&[call("a", "{}".into()), call("b", json!({}))]),
            "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"a\">\n\n</｜DSML｜invoke>\n\
             <｜DSML｜invoke name=\"b\">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>"
        );
    }

    #[test]
    fn arguments_that_are_no_object_are_refused() {
        for (arguments, got) in [
            (json!("[1]"), "an array"),
            (json!("\"x\""), "a string"),
            (json!("null"), "null"),
            (json!(3), "a number"),
            (json!([1]), "an array"),
            (json!(true), "a boolean"),
        ] {
            match write_calls(&[call("f", arguments)], 3, &mut String::new()) {
                Err(PromptError::ArgumentsNotObject { index: 3, name, got: g }) => {
                    assert_eq!((name.as_str(), g), ("f", got))
                }
                other => panic!("{other:?}"),
            }
        }
        for text in ["", "{", "{\"a\": NaN}", "{\"a\": \"\\ud800\"}", "{} x"] {
            let result = write_calls(&[call("f", text.into())], 3, &mut String::new());
            assert!(matches!(result, Err(PromptError::ArgumentsNotJson { .. })), "{text}: {result:?}");
        }
    }
}

//! The messages of a conversation, in the JSON form that chat clients write.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::PromptError;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Standing instructions, with tools and response format.
    System,
    /// Instructions in the place of a user turn; dropped once a later user turn exists (thinking modes, no tools).
    Developer,
    /// The person asking.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call; becomes part of a user turn.
    Tool,
    /// Facts of the moment: date, place, application.
    LatestReminder,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::LatestReminder => "latest_reminder",
        })
    }
}

/// A quick instruction: the model is asked for a classification or a short text in place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Whether to search or to answer; the only task that is asked inside an assistant turn.
    Action,
    /// The search query.
    Query,
    /// How authoritative the sources must be.
    Authority,
    /// The subject.
    Domain,
    /// A title for the conversation.
    Title,
    /// Which address to read.
    ReadUrl,
}

/// One part of a content list.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Part {
    /// `text`, or a kind that this model does not read.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a text part.
    #[serde(default)]
    pub text: String,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "content must be a string or a list of parts such as {\"type\": \"text\", \"text\": \"Hi\"}"
)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts, which the prompt joins with an empty line.
    Parts(Vec<Part>),
}

impl Content {
    /// The text; a part of another kind leaves the note that the reference writes into tool results.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Content::Text(text) => Cow::Borrowed(text),
            Content::Parts(parts) => {
                let texts: Vec<Cow<'_, str>> = parts
                    .iter()
                    .map(|part| match part.kind.as_str() {
                        "text" => Cow::Borrowed(part.text.as_str()),
                        kind => Cow::Owned(format!("[Unsupported {kind}]")),
                    })
                    .collect();
                Cow::Owned(texts.join("\n\n"))
            }
        }
    }

    fn unsupported_part(&self) -> Option<&str> {
        match self {
            Content::Text(_) => None,
            Content::Parts(parts) => parts.iter().map(|part| part.kind.as_str()).find(|kind| *kind != "text"),
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Content::Text(text.to_owned())
    }
}

/// A tool on offer: `{"type": "function", "function": {...}}`. Only the function object reaches the prompt, as it stands.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Tool {
    /// `name`, `description`, `parameters` (a JSON schema).
    pub function: Map<String, Value>,
}

/// A call that the model made: `{"id": ..., "function": {"name": ..., "arguments": ...}}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ToolCall {
    /// The name by which a tool result refers to this call.
    #[serde(default)]
    pub id: Option<String>,
    /// What is called, with what.
    pub function: FunctionCall,
}

/// The function of a [`ToolCall`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FunctionCall {
    /// The tool's name.
    pub name: String,
    /// A JSON object, or a string that holds one.
    pub arguments: Value,
}

/// One message. Fields that the prompt has no place for (`name`, `mask`, ...) are ignored when read from JSON.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; a system or assistant message may go without.
    #[serde(default)]
    pub content: Option<Content>,
    /// Assistant: the reasoning before the content.
    #[serde(default, alias = "reasoning_content")]
    pub reasoning: Option<String>,
    /// System, developer: the tools on offer.
    #[serde(default, deserialize_with = "null_as_default")]
    pub tools: Vec<Tool>,
    /// System, developer: the JSON schema of the reply.
    #[serde(default)]
    pub response_format: Option<Value>,
    /// Assistant: the calls after the content.
    #[serde(default, deserialize_with = "null_as_default")]
    pub tool_calls: Vec<ToolCall>,
    /// Tool: which call this answers.
    #[serde(default)]
    pub tool_call_id: Option<String>,
    /// The quick instruction that the next assistant turn answers.
    #[serde(default)]
    pub task: Option<Task>,
    /// Assistant: leave the turn open (no end-of-sentence token), for the model to continue it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub wo_eos: bool,
}

/// Chat clients write `null` for a list they do not use.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, text: &str) -> Self {
        Message {
            role,
            content: Some(text.into()),
            reasoning: None,
            tools: Vec::new(),
            response_format: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            task: None,
            wo_eos: false,
        }
    }

    /// The response format, unless it is one that asks for nothing (`{}`).
    pub(super) fn schema(&self) -> Option<&Value> {
        self.response_format.as_ref().filter(|v| !v.is_null() && v.as_object().is_none_or(|o| !o.is_empty()))
    }

    /// The content's text, empty where there is none.
    pub(super) fn text(&self) -> Cow<'_, str> {
        self.content.as_ref().map_or(Cow::Borrowed(""), Content::text)
    }

    /// Refuses what the prompt could only drop.
    pub(super) fn check(&self, index: usize) -> Result<(), PromptError> {
        let role = self.role;
        let instructs = matches!(role, Role::System | Role::Developer);
        let assistant = role == Role::Assistant;
        let fields = [
            ("tools", !self.tools.is_empty(), instructs, "a system or developer message"),
            ("response_format", self.schema().is_some(), instructs, "a system or developer message"),
            ("tool_calls", !self.tool_calls.is_empty(), assistant, "an assistant message"),
            ("reasoning", self.reasoning.as_deref().is_some_and(|r| !r.is_empty()), assistant, "an assistant message"),
            ("wo_eos", self.wo_eos, assistant, "an assistant message"),
            ("tool_call_id", self.tool_call_id.is_some(), role == Role::Tool, "a tool message"),
            ("task", self.task.is_some(), role != Role::Tool, "the user or assistant message it asks about"),
        ];
        if let Some((field, .., belongs)) = fields.into_iter().find(|(_, given, allowed, _)| *given && !*allowed) {
            return Err(PromptError::Misplaced { index, role, field, belongs });
        }
        match &self.content {
            None if !matches!(role, Role::System | Role::Assistant) => {
                return Err(PromptError::MissingContent { index, role });
            }
            Some(content) if role == Role::Developer && content.text().is_empty() => {
                return Err(PromptError::EmptyDeveloper { index });
            }
            Some(content) if role != Role::Tool => {
                if let Some(kind) = content.unsupported_part() {
                    return Err(PromptError::UnsupportedPart { index, role, kind: kind.to_owned() });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads a conversation from the JSON list that chat clients write.
///
/// # Errors
/// [`PromptError::Json`] names the line, the column and the field; an unknown role or task lists the known ones.
pub fn messages_from_json(text: &str) -> Result<Vec<Message>, PromptError> {
    serde_json::from_str(text).map_err(PromptError::Json)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn one(json: &str) -> Message {
        messages_from_json(&format!("[{json}]")).unwrap().remove(0)
    }

    #[test]
    fn reads_what_clients_write() {
        let m =
            one(r#"{"role": "assistant", "content": null, "reasoning_content": "r", "tools": null, "tool_calls": null,
                        "wo_eos": null, "refusal": null}"#);
        assert_eq!((m.content.as_ref(), m.reasoning.as_deref(), m.wo_eos), (None, Some("r"), false));
        assert!(m.check(0).is_ok());
        let m = one(r#"{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}"#);
        assert_eq!(m.text(), "a\n\nb");
    }

    #[test]
    fn parse_errors_name_the_field() {
        for (json, words) in [
            (r#"[{"role": "robot", "content": "x"}]"#, "unknown variant `robot`, expected one of `system`"),
            (
                r#"[{"role": "user", "content": "x", "task": "sing"}]"#,
                "unknown variant `sing`, expected one of `action`",
            ),
            (r#"[{"content": "x"}]"#, "missing field `role`"),
            (r#"[{"role": "user", "content": 3}]"#, "content must be a string or a list of parts"),
            (r#"[{"role": "system", "tools": [{"name": "f"}]}]"#, "missing field `function`"),
            (r#"{"role": "user"}"#, "expected a sequence"),
            ("[", "EOF"),
        ] {
            let message = messages_from_json(json).unwrap_err().to_string();
            assert!(message.contains(words), "{json}: {message}");
        }
    }

    #[test]
    fn misplaced_fields_are_refused() {
        for (json, field) in [
            (r#"{"role": "user", "content": "x", "tools": [{"function": {"name": "f"}}]}"#, "tools"),
            (r#"{"role": "user", "content": "x", "response_format": {"type": "object"}}"#, "response_format"),
            (r#"{"role": "user", "content": "x", "reasoning": "r"}"#, "reasoning"),
            (r#"{"role": "user", "content": "x", "wo_eos": true}"#, "wo_eos"),
            (r#"{"role": "user", "content": "x", "tool_call_id": "1"}"#, "tool_call_id"),
            (r#"{"role": "tool", "content": "x", "task": "title"}"#, "task"),
            (r#"{"role": "system", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}"#, "tool_calls"),
        ] {
            match one(json).check(7) {
                Err(PromptError::Misplaced { index: 7, field: got, .. }) => assert_eq!(got, field),
                other => panic!("{json}: {other:?}"),
            }
        }
        assert!(
            one(r#"{"role": "user", "content": "x", "tools": [], "response_format": {}, "reasoning": ""}"#)
                .check(0)
                .is_ok()
        );
    }

    #[test]
    fn content_rules() {
        assert!(matches!(one(r#"{"role": "user"}"#).check(0), Err(PromptError::MissingContent { .. })));
        assert!(matches!(one(r#"{"role": "latest_reminder"}"#).check(0), Err(PromptError::MissingContent { .. })));
        assert!(matches!(
            one(r#"{"role": "developer", "content": ""}"#).check(0),
            Err(PromptError::EmptyDeveloper { .. })
        ));
        assert!(one(r#"{"role": "user", "content": ""}"#).check(0).is_ok());
        let image = r#"{"role": "ROLE", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}"#;
        match one(&image.replace("ROLE", "user")).check(2) {
            Err(e @ PromptError::UnsupportedPart { .. }) => assert!(e.to_string().contains("`image_url`"), "{e}"),
            other => panic!("{other:?}"),
        }
        let tool = one(&image.replace("ROLE", "tool"));
        assert!(tool.check(0).is_ok());
        assert_eq!(tool.text(), "[Unsupported image_url]");
    }
}

//! What can be wrong with a conversation.

use thiserror::Error;

use super::{Profile, Role, Thinking};

/// A conversation that cannot be encoded. `index` counts messages from 0.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The text is not the JSON of a list of messages: bad syntax, an unknown role or task, a field of the wrong type.
    #[error(
        "the messages do not parse: {0}; give a JSON list of objects such as {{\"role\": \"user\", \"content\": \"Hi\"}}"
    )]
    Json(#[source] serde_json::Error),
    /// An empty conversation: there is nothing to answer.
    #[error("the conversation has no messages; give at least one user message")]
    NoMessages,
    /// A mode name that is not one of the four.
    #[error("unknown thinking mode `{0}`; write off, low, high or max")]
    UnknownThinking(String),
    /// A profile name that is not one of the two.
    #[error("unknown prompt profile `{0}`; write preview or official_0731")]
    UnknownProfile(String),
    /// The profile has no such effort.
    #[error("the {profile} profile has no thinking mode `{thinking}`; use `high`, which adds no effort prompt there")]
    NoSuchEffort {
        /// The mode asked for.
        thinking: Thinking,
        /// The profile that lacks it.
        profile: Profile,
    },
    /// A field on a message whose role has no use for it: it would be lost without a word.
    #[error("message {index} ({role}) has `{field}`, which belongs to {belongs}; move it there")]
    Misplaced {
        /// Which message.
        index: usize,
        /// Its role.
        role: Role,
        /// The field.
        field: &'static str,
        /// The roles that may carry it.
        belongs: &'static str,
    },
    /// No `content` on a message that consists of nothing else.
    #[error("message {index} ({role}) has no content; give it text, \"\" if it is meant to be empty")]
    MissingContent {
        /// Which message.
        index: usize,
        /// Its role.
        role: Role,
    },
    /// A developer message of no text.
    #[error("message {index} (developer) is empty; give it text or leave it out")]
    EmptyDeveloper {
        /// Which message.
        index: usize,
    },
    /// A content part that is not text. Only inside a tool result does the format have words for it.
    #[error("message {index} ({role}) has a content part of type `{kind}`; this model reads text parts only")]
    UnsupportedPart {
        /// Which message.
        index: usize,
        /// Its role.
        role: Role,
        /// The part's `type`.
        kind: String,
    },
    /// `arguments` is a string that is not JSON.
    #[error(
        "message {index}: the arguments of the call to `{name}` are not JSON: {source}; give an object such as {{\"city\": \"Paris\"}}"
    )]
    ArgumentsNotJson {
        /// Which message.
        index: usize,
        /// The tool called.
        name: String,
        /// Where the JSON breaks.
        source: serde_json::Error,
    },
    /// `arguments` is JSON, but not an object: its values would have no parameter names.
    #[error(
        "message {index}: the arguments of the call to `{name}` are {got}; give a JSON object such as {{\"city\": \"Paris\"}}"
    )]
    ArgumentsNotObject {
        /// Which message.
        index: usize,
        /// The tool called.
        name: String,
        /// The JSON type given.
        got: &'static str,
    },
    /// A tool result where no assistant turn with calls comes before it.
    #[error("message {index} (tool) follows no tool call; the assistant turn before it must carry `tool_calls`")]
    ResultWithoutCall {
        /// Which message.
        index: usize,
    },
    /// A tool result for a call that the assistant turn before it did not make.
    #[error(
        "message {index} (tool) answers call `{id}`, but the assistant turn before it made the calls {calls:?}; correct `tool_call_id`"
    )]
    UnknownCall {
        /// Which message.
        index: usize,
        /// The `tool_call_id` given.
        id: String,
        /// The calls it could answer.
        calls: Vec<String>,
    },
}

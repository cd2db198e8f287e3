//! The prompt text of DeepSeek V4: one string from a conversation, token for token what the model was trained on.
//!
//! Source: DeepSeek V4 reference `encoding/encoding_dsv4.py` (the checkpoints carry no chat template), with the repair that vLLM
//! made to it: a system message that ends the conversation, or comes just before an assistant turn, opens the assistant turn too.
//!
//! ```text
//! BOS [effort] {system} <｜User｜>{user} <｜Assistant｜><think>{reasoning}</think>{content}{calls} EOS ...   (no spaces)
//! ```
//!
//! Limit: special tokens inside a message are not escaped (the reference does not); whoever passes text of strangers on must
//! look for `<｜` in it first.

mod dsml;
mod error;
mod json;
mod message;
pub mod text;
mod turn;

use std::fmt;
use std::str::FromStr;

pub use error::PromptError;
pub use message::{Content, FunctionCall, Message, Part, Role, Task, Tool, ToolCall, messages_from_json};
use text::{ASSISTANT, BOS, EOS, LATEST_REMINDER, RESPONSE_FORMAT, THINK, THINK_END, USER};
use turn::{Block, Turn};

/// Context length in tokens that the model card recommends at least for [`Thinking::Max`].
pub const MAX_THINKING_CONTEXT: usize = 384 * 1024;

/// How much the model reasons before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// No reasoning.
    Off,
    /// Reasoning without an effort prompt; [`Profile::Official0731`] alone has it.
    Low,
    /// Reasoning; with [`Profile::Preview`] this adds no effort prompt.
    High,
    /// Reasoning at the greatest effort; see [`MAX_THINKING_CONTEXT`].
    Max,
}

impl fmt::Display for Thinking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Thinking::Off => "off",
            Thinking::Low => "low",
            Thinking::High => "high",
            Thinking::Max => "max",
        })
    }
}

impl FromStr for Thinking {
    type Err = PromptError;

    fn from_str(name: &str) -> Result<Self, PromptError> {
        [Thinking::Off, Thinking::Low, Thinking::High, Thinking::Max]
            .into_iter()
            .find(|thinking| thinking.to_string() == name)
            .ok_or_else(|| PromptError::UnknownThinking(name.to_owned()))
    }
}

/// Which release of the model reads the prompt: the two give different effort prompts to the same mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The preview checkpoints.
    Preview,
    /// The checkpoints of 0731 and 0813.
    Official0731,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Preview => "preview",
            Profile::Official0731 => "official_0731",
        })
    }
}

impl FromStr for Profile {
    type Err = PromptError;

    fn from_str(name: &str) -> Result<Self, PromptError> {
        [Profile::Preview, Profile::Official0731]
            .into_iter()
            .find(|profile| profile.to_string() == name)
            .ok_or_else(|| PromptError::UnknownProfile(name.to_owned()))
    }
}

/// The prompt of a conversation, from BOS to where the model speaks.
///
/// In a thinking mode the reasoning of assistant turns before the last user turn is left out and developer turns before it are
/// dropped, unless some message offers tools; then everything is kept. A `task` whose message is followed by another turn than the
/// assistant's is past, and leaves no token.
///
/// # Errors
/// [`PromptError`] for a conversation that the format cannot hold: no field of a message is left out in silence.
pub fn encode(messages: &[Message], thinking: Thinking, profile: Profile) -> Result<String, PromptError> {
    encode_keeping(messages, thinking, profile, false)
}

/// As [`encode`]; with `keep_reasoning` the reasoning of all turns and all developer turns stay (`drop_thinking=False` of the
/// reference).
///
/// # Errors
/// As [`encode`].
pub fn encode_keeping(
    messages: &[Message],
    thinking: Thinking,
    profile: Profile,
    keep_reasoning: bool,
) -> Result<String, PromptError> {
    if messages.is_empty() {
        return Err(PromptError::NoMessages);
    }
    let mut turns = turn::turns(messages)?;
    let drop = !keep_reasoning && messages.iter().all(|message| message.tools.is_empty());
    let thinks = thinking != Thinking::Off;
    if thinks && drop {
        turn::drop_old_developers(&mut turns);
    }
    let writer = Writer { thinks, drop, last_user: turn::last_user(&turns), turns: &turns };
    let mut out = String::from(BOS);
    out.push_str(text::effort(thinking, profile)?);
    for at in 0..turns.len() {
        writer.write_turn(at, &mut out)?;
        writer.write_transition(at, &mut out);
    }
    Ok(out)
}

/// The prompt of a single user message.
///
/// # Errors
/// [`PromptError::NoSuchEffort`].
pub fn user_turn(text: &str, thinking: Thinking, profile: Profile) -> Result<String, PromptError> {
    encode(&[Message::new(Role::User, text)], thinking, profile)
}

/// What every turn needs to know of the whole conversation.
struct Writer<'a> {
    turns: &'a [Turn<'a>],
    thinks: bool,
    drop: bool,
    last_user: Option<usize>,
}

impl Writer<'_> {
    fn write_turn(&self, at: usize, out: &mut String) -> Result<(), PromptError> {
        let turn = &self.turns[at];
        let message = turn.message;
        match turn.role {
            Role::System => {
                out.push_str(&message.text());
                write_instructions(message, out);
            }
            Role::Developer => {
                out.push_str(USER);
                out.push_str(&message.text());
                write_instructions(message, out);
            }
            Role::User | Role::Tool => {
                out.push_str(USER);
                for (i, block) in turn.blocks.iter().enumerate() {
                    if i > 0 {
                        out.push_str("\n\n");
                    }
                    match block {
                        Block::Text(text) => out.push_str(text),
                        Block::Result { text, .. } => out.extend(["<tool_result>", text, "</tool_result>"]),
                    }
                }
            }
            Role::LatestReminder => {
                out.push_str(LATEST_REMINDER);
                out.push_str(&message.text());
            }
            Role::Assistant => {
                let answers_task = at > 0 && self.turns[at - 1].task.is_some();
                if self.thinks && !answers_task && (!self.drop || self.last_user.is_none_or(|last| at > last)) {
                    out.push_str(message.reasoning.as_deref().unwrap_or_default());
                    out.push_str(THINK_END);
                }
                out.push_str(&message.text());
                if !message.tool_calls.is_empty() {
                    out.push_str("\n\n");
                    dsml::write_calls(&message.tool_calls, turn.index, out)?;
                }
                if !message.wo_eos {
                    out.push_str(EOS);
                }
            }
        }
        Ok(())
    }

    /// What stands between this turn and an assistant turn: the answer's opening, or the token of a task.
    fn write_transition(&self, at: usize, out: &mut String) {
        let turn = &self.turns[at];
        let opens = match self.turns.get(at + 1).map(|next| next.role) {
            None | Some(Role::Assistant) => matches!(turn.role, Role::User | Role::Developer | Role::System),
            // The reference opens the turn before a reminder too, so that the reminder stands inside the assistant turn.
            Some(Role::LatestReminder) => matches!(turn.role, Role::User | Role::Developer),
            Some(_) => return,
        };
        match turn.task {
            Some(Task::Action) => {
                out.extend([ASSISTANT, if self.thinks { THINK } else { THINK_END }, text::task(Task::Action)]);
            }
            Some(task) => out.push_str(text::task(task)),
            None if opens => {
                let reasons = self.thinks && (!self.drop || self.last_user.is_none_or(|last| at >= last));
                out.extend([ASSISTANT, if reasons { THINK } else { THINK_END }]);
            }
            None => {}
        }
    }
}

/// The sections that a system or developer message carries after its text.
fn write_instructions(message: &Message, out: &mut String) {
    if !message.tools.is_empty() {
        out.push_str("\n\n");
        dsml::write_tools(&message.tools, out);
    }
    if let Some(schema) = message.schema() {
        out.extend(["\n\n", RESPONSE_FORMAT, &json::dumps(schema)]);
    }
}

#[cfg(test)]
mod tests;

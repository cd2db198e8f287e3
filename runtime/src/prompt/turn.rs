//! From messages to turns: tool results join the user turn, and old developer turns leave.
//!
//! Source: `merge_tool_messages`, `sort_tool_results_by_call_order` and `_drop_thinking_messages` of DeepSeek V4 reference
//! `encoding/encoding_dsv4.py`.

use std::borrow::Cow;

use super::PromptError;
use super::message::{Message, Role, Task, ToolCall};

/// A piece of a user turn.
#[derive(Clone)]
pub(super) enum Block<'a> {
    Text(Cow<'a, str>),
    Result { call: Option<&'a str>, text: Cow<'a, str> },
}

/// What the prompt knows as one turn. `role` is never `Tool`; `blocks` is filled for `User` alone.
pub(super) struct Turn<'a> {
    pub(super) role: Role,
    pub(super) index: usize,
    pub(super) message: &'a Message,
    pub(super) blocks: Vec<Block<'a>>,
    pub(super) task: Option<Task>,
}

/// Merges and checks the messages. `index` of a turn is that of its first message.
pub(super) fn turns(messages: &[Message]) -> Result<Vec<Turn<'_>>, PromptError> {
    let mut turns: Vec<Turn<'_>> = Vec::with_capacity(messages.len());
    let mut calls: &[ToolCall] = &[];
    for (index, message) in messages.iter().enumerate() {
        message.check(index)?;
        let block = match message.role {
            Role::Tool => Block::Result { call: answered(message, calls, index)?, text: message.text() },
            Role::User => Block::Text(message.text()),
            role => {
                if role == Role::Assistant {
                    calls = &message.tool_calls;
                }
                turns.push(Turn { role, index, message, blocks: Vec::new(), task: message.task });
                continue;
            }
        };
        match turns.last_mut() {
            // A turn that asks for a task ends there: only tool results still join it.
            Some(last) if last.role == Role::User && (last.task.is_none() || message.role == Role::Tool) => {
                last.blocks.push(block);
                last.task = last.task.or(message.task);
            }
            _ => turns.push(Turn { role: Role::User, index, message, blocks: vec![block], task: message.task }),
        }
    }
    sort_results(&mut turns);
    Ok(turns)
}

/// The id of the call that a tool message answers. Clients that number nothing are taken at their word.
fn answered<'a>(message: &'a Message, calls: &[ToolCall], index: usize) -> Result<Option<&'a str>, PromptError> {
    if calls.is_empty() {
        return Err(PromptError::ResultWithoutCall { index });
    }
    let ids: Vec<&str> = calls.iter().filter_map(|call| call.id.as_deref()).collect();
    match message.tool_call_id.as_deref() {
        Some(id) if !ids.is_empty() && !ids.contains(&id) => Err(PromptError::UnknownCall {
            index,
            id: id.to_owned(),
            calls: ids.into_iter().map(str::to_owned).collect(),
        }),
        id => Ok(id),
    }
}

/// Puts the results of each user turn into the order of the calls; texts between them stay where they are.
fn sort_results(turns: &mut [Turn<'_>]) {
    let mut calls: &[ToolCall] = &[];
    for turn in turns {
        match turn.role {
            Role::Assistant => calls = &turn.message.tool_calls,
            Role::User => {
                let place = |block: &Block<'_>| match block {
                    Block::Result { call: Some(id), .. } => {
                        calls.iter().rposition(|call| call.id.as_deref() == Some(*id)).unwrap_or(0)
                    }
                    _ => 0,
                };
                let mut sorted: Vec<Block<'_>> =
                    turn.blocks.iter().filter(|b| matches!(b, Block::Result { .. })).cloned().collect();
                sorted.sort_by_key(place);
                let slots = turn.blocks.iter_mut().filter(|b| matches!(b, Block::Result { .. }));
                for (slot, block) in slots.zip(sorted) {
                    *slot = block;
                }
            }
            _ => {}
        }
    }
}

/// The last turn that a user or developer opened.
pub(super) fn last_user(turns: &[Turn<'_>]) -> Option<usize> {
    turns.iter().rposition(|turn| matches!(turn.role, Role::User | Role::Developer))
}

/// Removes the developer turns before the last user turn. The reasoning of assistant turns before it goes when they are written.
pub(super) fn drop_old_developers(turns: &mut Vec<Turn<'_>>) {
    let last = last_user(turns).unwrap_or(0);
    let mut position = 0;
    turns.retain(|turn| {
        let keep = position >= last || turn.role != Role::Developer;
        position += 1;
        keep
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::prompt::messages_from_json;

    /// Turns as `role:block,block`, results in angle brackets.
    fn shape(json: &str) -> Vec<String> {
        let messages = messages_from_json(json).unwrap();
        let mut turns = turns(&messages).unwrap();
        drop_old_developers(&mut turns);
        let block = |b: &Block<'_>| match b {
            Block::Text(text) => text.to_string(),
            Block::Result { text, .. } => format!("<{text}>"),
        };
        turns
            .iter()
            .map(|t| format!("{}:{}", t.role, t.blocks.iter().map(block).collect::<Vec<_>>().join(",")))
            .collect()
    }

    const CALLS: &str = r#"{"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {}}},
        {"id": "y", "function": {"name": "g", "arguments": {}}}, {"id": "z", "function": {"name": "h", "arguments": {}}}]}"#;

    fn after_calls(rest: &str) -> String {
        format!("[{CALLS}, {rest}]")
    }

    #[test]
    fn results_take_the_order_of_the_calls_and_text_keeps_its_place() {
        let json = after_calls(
            r#"{"role": "tool", "tool_call_id": "z", "content": "rz"}, {"role": "user", "content": "between"},
               {"role": "tool", "tool_call_id": "x", "content": "rx"}, {"role": "tool", "tool_call_id": "y", "content": "ry"}"#,
        );
        assert_eq!(shape(&json), ["assistant:", "user:<rx>,between,<ry>,<rz>"]);
    }

    #[test]
    fn results_without_ids_keep_their_order() {
        let json = r#"[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
            {"role": "tool", "content": "1"}, {"role": "tool", "content": "2", "tool_call_id": "any"}]"#;
        assert_eq!(shape(json), ["assistant:", "user:<1>,<2>"]);
    }

    #[test]
    fn user_texts_merge_until_a_task_is_asked() {
        let json = r#"[{"role": "user", "content": "a"}, {"role": "user", "content": "b", "task": "query"},
            {"role": "user", "content": "c"}]"#;
        assert_eq!(shape(json), ["user:a,b", "user:c"]);
        let messages = messages_from_json(json).unwrap();
        assert_eq!(turns(&messages).unwrap()[0].task, Some(Task::Query));
    }

    #[test]
    fn developer_turns_before_the_last_user_turn_leave() {
        let json = r#"[{"role": "developer", "content": "d1"}, {"role": "assistant", "content": "a"},
            {"role": "developer", "content": "d2"}, {"role": "latest_reminder", "content": "l"}, {"role": "user", "content": "u"}]"#;
        assert_eq!(shape(json), ["assistant:", "latest_reminder:", "user:u"]);
        let json = r#"[{"role": "user", "content": "u"}, {"role": "developer", "content": "d"}]"#;
        assert_eq!(shape(json), ["user:u", "developer:"]);
    }

    #[test]
    fn results_must_answer_a_call() {
        let error = |json: &str| turns(&messages_from_json(json).unwrap()).map(|_| ()).unwrap_err();
        let result = r#"{"role": "tool", "tool_call_id": "q", "content": "r"}"#;
        assert!(matches!(error(&format!("[{result}]")), PromptError::ResultWithoutCall { index: 0 }));
        let answered = format!("[{CALLS}, {{\"role\": \"assistant\", \"content\": \"done\"}}, {result}]");
        assert!(matches!(error(&answered), PromptError::ResultWithoutCall { index: 2 }));
        let message = error(&after_calls(result)).to_string();
        assert!(message.contains("answers call `q`") && message.contains(r#"["x", "y", "z"]"#), "{message}");
    }
}

//! The fixed texts of the prompt format: special tokens, the three effort prompts, the tools section.
//!
//! Source: DeepSeek V4 reference `encoding/encoding_dsv4.py`. The bars in the tokens are U+FF5C and the low lines U+2581, not
//! the ASCII characters they resemble; one wrong character makes a token of the vocabulary into ordinary text.

use super::PromptError;
use super::message::Task;
use super::{Profile, Thinking};

/// Begin of sentence (id 0): the first token of every prompt.
pub const BOS: &str = "<｜begin▁of▁sentence｜>";
/// End of sentence (id 1): closes an assistant turn, and ends generation.
pub const EOS: &str = "<｜end▁of▁sentence｜>";
/// Opens a user turn, a developer turn and a turn of tool results.
pub const USER: &str = "<｜User｜>";
/// Opens an assistant turn.
pub const ASSISTANT: &str = "<｜Assistant｜>";
/// Opens the reasoning of an assistant turn.
pub const THINK: &str = "<think>";
/// Closes the reasoning; directly after [`ASSISTANT`] it says that there is none.
pub const THINK_END: &str = "</think>";
/// Opens a latest-reminder turn (date, place, application).
pub const LATEST_REMINDER: &str = "<｜latest_reminder｜>";

/// The text directly after BOS that asks for more reasoning; empty where the profile has none for this mode.
///
/// The 0731 checkpoints moved every effort one step down: what the preview release calls `max` they call `high`.
pub(super) fn effort(thinking: Thinking, profile: Profile) -> Result<&'static str, PromptError> {
    match (thinking, profile) {
        (Thinking::Off, _) | (Thinking::Low, Profile::Official0731) | (Thinking::High, Profile::Preview) => Ok(""),
        (Thinking::High, Profile::Official0731) | (Thinking::Max, Profile::Preview) => Ok(EFFORT_ABSOLUTE),
        (Thinking::Max, Profile::Official0731) => Ok(EFFORT_BEYOND),
        (Thinking::Low, Profile::Preview) => Err(PromptError::NoSuchEffort { thinking, profile }),
    }
}

/// The special token that asks for a task's answer.
pub(super) fn task(task: Task) -> &'static str {
    match task {
        Task::Action => "<｜action｜>",
        Task::Query => "<｜query｜>",
        Task::Authority => "<｜authority｜>",
        Task::Domain => "<｜domain｜>",
        Task::Title => "<｜title｜>",
        Task::ReadUrl => "<｜read_url｜>",
    }
}

const EFFORT_ABSOLUTE: &str = "\
Reasoning Effort: Absolute maximum with no shortcuts permitted.\n\
You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, rigorously \
stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.\n\
Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, and \
rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n";

const EFFORT_BEYOND: &str = "\
Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n\
You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose the problem \
into its most fundamental components, trace every causal chain to its root, and resolve the underlying cause rather than any \
surface symptom.\n\
Do not stop reasoning until you have independently verified the solution from multiple angles and are certain that no \
assumption remains unchecked and no error remains undiscovered.\n\n";

/// The tools section up to the schemas, which follow one a line.
pub(super) const TOOLS_HEAD: &str = r#"## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<｜DSML｜tool_calls>" block like the following:

<｜DSML｜tool_calls>
<｜DSML｜invoke name="$TOOL_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$TOOL_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

"#;

/// The tools section after the schemas.
pub(super) const TOOLS_TAIL: &str =
    "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n";

/// The response-format section up to its schema.
pub(super) const RESPONSE_FORMAT: &str =
    "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";

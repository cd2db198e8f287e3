//! The golden prompts, and the rules that they do not reach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use serde_json::Value;

const B: &str = BOS;
const A: &str = "<｜Assistant｜>";
const U: &str = "<｜User｜>";
const E: &str = EOS;

fn encoded(json: &str, thinking: Thinking) -> String {
    encode(&messages_from_json(json).unwrap(), thinking, Profile::Preview).unwrap()
}

#[test]
fn golden_prompts_are_reproduced() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/encoding.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 36);
    for case in cases {
        let messages = messages_from_json(&case["messages"].to_string()).unwrap();
        let thinking = match (case["thinking_mode"].as_str(), case["reasoning_effort"].as_str()) {
            (Some("chat"), None) => Thinking::Off,
            (Some("thinking"), Some(effort)) => effort.parse().unwrap(),
            other => panic!("{other:?}"),
        };
        let profile: Profile = case["profile"].as_str().unwrap().parse().unwrap();
        let name = format!("{} {profile} {thinking}", case["conversation"]);
        assert_eq!(encode(&messages, thinking, profile).unwrap(), case["prompt"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn modes_and_profiles() {
    assert_eq!(user_turn("Hi", Thinking::Off, Profile::Official0731).unwrap(), format!("{B}{U}Hi{A}</think>"));
    assert_eq!(user_turn("Hi", Thinking::Low, Profile::Official0731).unwrap(), format!("{B}{U}Hi{A}<think>"));
    assert_eq!(
        user_turn("Hi", Thinking::High, Profile::Official0731).unwrap(),
        user_turn("Hi", Thinking::Max, Profile::Preview).unwrap()
    );
    let error = user_turn("Hi", Thinking::Low, Profile::Preview).unwrap_err();
    assert!(error.to_string().contains("preview profile has no thinking mode `low`"), "{error}");
    assert!(matches!("medium".parse::<Thinking>(), Err(PromptError::UnknownThinking(_))));
    assert!(matches!("0731".parse::<Profile>(), Err(PromptError::UnknownProfile(_))));
    assert!(matches!(encode(&[], Thinking::Off, Profile::Preview), Err(PromptError::NoMessages)));
}

#[test]
fn old_reasoning_is_dropped_unless_tools_are_offered() {
    let talk = |system: &str| {
        format!(
            r#"[{system}{{"role": "user", "content": "a"}}, {{"role": "assistant", "reasoning": "r1", "content": "b"}},
            {{"role": "user", "content": "c"}}, {{"role": "assistant", "reasoning": "r2", "content": "d"}}]"#
        )
    };
    let tail = format!("{U}c{A}<think>r2</think>d{E}");
    assert_eq!(encoded(&talk(""), Thinking::High), format!("{B}{U}a{A}</think>b{E}{tail}"));
    let kept = format!("{U}a{A}<think>r1</think>b{E}{tail}");
    let with_tools = encoded(&talk(r#"{"role": "system", "tools": [{"function": {"name": "f"}}]},"#), Thinking::High);
    assert!(with_tools.ends_with(&kept), "{with_tools}");
    assert!(with_tools.starts_with(&format!("{B}\n\n## Tools\n\n")), "{with_tools}");
    let messages = messages_from_json(&talk("")).unwrap();
    let all = encode_keeping(&messages, Thinking::High, Profile::Preview, true).unwrap();
    assert_eq!(all, format!("{B}{kept}"));
    assert_eq!(encoded(&talk(""), Thinking::Off), format!("{B}{U}a{A}</think>b{E}{U}c{A}</think>d{E}"));
}

#[test]
fn developer_turns_drop_only_while_thinking() {
    let json = r#"[{"role": "developer", "content": "d"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "u"}]"#;
    assert_eq!(encoded(json, Thinking::Off), format!("{B}{U}d{A}</think>a{E}{U}u{A}</think>"));
    assert_eq!(encoded(json, Thinking::High), format!("{B}a{E}{U}u{A}<think>"));
}

#[test]
fn developer_and_system_carry_sections() {
    let json = r#"[{"role": "system", "content": "s", "response_format": {"type":"object","x":[1,2.0]}},
        {"role": "developer", "content": "d", "tools": [{"function": {"name":"f"}}, {"type": "function", "function": {"name":"g"}}],
         "response_format": {"k":"é"}}]"#;
    let text = encoded(json, Thinking::Off);
    let format_section = "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";
    let head = format!("{B}s{format_section}{{\"type\": \"object\", \"x\": [1, 2.0]}}{U}d\n\n## Tools\n\nYou have");
    assert!(text.starts_with(&head), "{text}");
    let tail = format!(
        "### Available Tool Schemas\n\n{{\"name\": \"f\"}}\n{{\"name\": \"g\"}}\n\nYou MUST strictly follow the above defined tool \
         name and parameter schemas to invoke tool calls.\n{format_section}{{\"k\": \"é\"}}{A}</think>"
    );
    assert!(text.ends_with(&tail), "{text}");
}

#[test]
fn results_and_following_text_share_a_turn() {
    let json = r#"[{"role": "user", "content": "q"},
        {"role": "assistant", "content": "so", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}},
            {"id": "2", "function": {"name": "g", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "p"}, {"type": "text", "text": "q"}]},
        {"role": "tool", "tool_call_id": "1", "content": ""}, {"role": "user", "content": "well?"}]"#;
    let text = encoded(json, Thinking::Off);
    let tail = format!(
        "{A}</think>so\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"g\">\n\n\
         </｜DSML｜invoke>\n</｜DSML｜tool_calls>{E}{U}<tool_result></tool_result>\n\n<tool_result>p\n\nq</tool_result>\n\nwell?\
         {A}</think>"
    );
    assert!(text.ends_with(&tail), "{text}");
}

#[test]
fn tasks_replace_the_opening_and_their_answers_do_not_think() {
    for (task, token) in [
        ("query", "<｜query｜>"),
        ("authority", "<｜authority｜>"),
        ("domain", "<｜domain｜>"),
        ("title", "<｜title｜>"),
        ("read_url", "<｜read_url｜>"),
    ] {
        let user = format!(r#"{{"role": "user", "content": "u", "task": "{task}"}}"#);
        assert_eq!(encoded(&format!("[{user}]"), Thinking::High), format!("{B}{U}u{token}"));
        let answered = format!(r#"[{user}, {{"role": "assistant", "content": "x"}}]"#);
        assert_eq!(encoded(&answered, Thinking::High), format!("{B}{U}u{token}x{E}"));
    }
    let action = r#"[{"role": "user", "content": "u", "task": "action"}, {"role": "assistant", "content": "Search"}]"#;
    assert_eq!(encoded(action, Thinking::Off), format!("{B}{U}u{A}</think><｜action｜>Search{E}"));
    assert_eq!(encoded(action, Thinking::High), format!("{B}{U}u{A}<think><｜action｜>Search{E}"));
}

#[test]
fn reminders_and_system_messages_between_turns() {
    let usual = r#"[{"role": "system", "content": "s"}, {"role": "latest_reminder", "content": "2026-02-21"},
        {"role": "user", "content": "u"}]"#;
    assert_eq!(encoded(usual, Thinking::High), format!("{B}s<｜latest_reminder｜>2026-02-21{U}u{A}<think>"));
    let after = r#"[{"role": "user", "content": "u"}, {"role": "latest_reminder", "content": "now"}]"#;
    assert_eq!(encoded(after, Thinking::Off), format!("{B}{U}u{A}</think><｜latest_reminder｜>now"));
    let trailing = r#"[{"role": "system", "content": "rules"}, {"role": "user", "content": "question"},
        {"role": "system", "content": "final rules"}]"#;
    assert_eq!(encoded(trailing, Thinking::Off), format!("{B}rules{U}questionfinal rules{A}</think>"));
    assert_eq!(encoded(trailing, Thinking::High), format!("{B}rules{U}questionfinal rules{A}<think>"));
    let first = r#"[{"role": "system", "content": "rules"}, {"role": "assistant", "reasoning": "reason", "content": "answer"}]"#;
    assert_eq!(encoded(first, Thinking::High), format!("{B}rules{A}<think>reason</think>answer{E}"));
}

#[test]
fn an_open_assistant_turn_has_no_end() {
    let json = r#"[{"role": "user", "content": "write"}, {"role": "assistant", "content": "Once", "wo_eos": true}]"#;
    assert_eq!(encoded(json, Thinking::Off), format!("{B}{U}write{A}</think>Once"));
}

#[test]
fn errors_come_through_with_their_message() {
    let json = r#"[{"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "3"}}]}]"#;
    let error = encode(&messages_from_json(json).unwrap(), Thinking::Off, Profile::Preview).unwrap_err();
    assert_eq!(
        error.to_string(),
        "message 1: the arguments of the call to `f` are a number; give a JSON object such as {\"city\": \"Paris\"}"
    );
}

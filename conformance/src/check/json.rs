//! JSON that somebody else wrote: read so that it says one thing only, compared member by member, shown so that it cannot
//! command a terminal.

use super::{Finding, Findings};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Characters of a text that are shown.
const SHOWN: usize = 300;

/// Any JSON in which no object has a name twice: of two values one reader takes the first and another the last.
pub(super) struct Single(pub(super) Value);

impl<'de> Deserialize<'de> for Single {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Single, D::Error> {
        from.deserialize_any(Any).map(Single)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Single(value)) = from.next_element()? {
            all.push(value);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Single(value))) = from.next_entry::<String, Single>()? {
            if all.contains_key(&name) {
                return Err(A::Error::custom(format!("`{name}` stands twice in one object; take one of them out")));
            }
            all.insert(name, value);
        }
        Ok(all.into())
    }
}

/// Finds where `told` is not what `follows`. `place` is the path to both.
pub(super) fn compare(place: &str, told: &Value, follows: &Value, found: &mut Findings) {
    match (told, follows) {
        (Value::Object(told), Value::Object(follows)) => {
            for (name, value) in told {
                let place = join(place, &shown(name));
                match follows.get(name) {
                    Some(follows) => compare(&place, value, follows, found),
                    None => found.add(place, format!("the report says {}, and nothing belongs there", brief(value))),
                }
            }
            for (name, value) in follows.iter().filter(|(name, _)| !told.contains_key(*name)) {
                let what = format!("not in the report; {} follows from the rest of it", brief(value));
                found.add(join(place, name), what);
            }
        }
        (Value::Array(told), Value::Array(follows)) => {
            for (index, (told, follows)) in told.iter().zip(follows).enumerate() {
                compare(&format!("{place}[{}]", label(index, follows)), told, follows, found);
            }
            let (said, due) = (told.len(), follows.len());
            if said != due {
                found.add(place, format!("the report has {said} entries, and {due} follow from the rest of it"));
            }
        }
        (Value::Number(a), Value::Number(b)) if same_number(a, b) => {}
        (told, follows) if told == follows => {}
        (told, follows) => {
            let (told, follows) = (brief(told), brief(follows));
            found.add(place, format!("the report says {told}, and {follows} follows from the rest of it"));
        }
    }
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.into() } else { format!("{place}.{name}") }
}

/// What an entry of a list is of, where it says so: its number alone would have to be counted.
fn label(index: usize, entry: &Value) -> String {
    let named = |name| entry.get(name).and_then(Value::as_str);
    match (named("op"), named("format")) {
        (Some(op), Some(format)) => format!("{op}, {format}"),
        (Some(op), None) => op.into(),
        _ => index.to_string(),
    }
}

/// Programs that pass JSON on write 1.0 as 1, or the other way round.
fn same_number(a: &Number, b: &Number) -> bool {
    a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64())
}

fn brief(value: &Value) -> String {
    shown(&value.to_string())
}

/// A text out of a report as it may be shown: not without end, and what a terminal would obey spelt out.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => escaped(&text[..end]) + "...",
        None => escaped(text),
    }
}

/// Without what a terminal would act on.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                safe.extend(c.escape_unicode());
            }
            c if c.is_control() => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

/// The first of many texts, and how many more there are.
pub(super) fn some<'a>(most: usize, all: impl IntoIterator<Item = &'a str>) -> String {
    let mut all = all.into_iter();
    let first: Vec<String> = all.by_ref().take(most).map(shown).collect();
    match all.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn differences(told: Value, follows: Value) -> Vec<String> {
        let mut found = Findings::default();
        compare("", &told, &follows, &mut found);
        found.end().iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_name_stands_once_in_an_object() {
        let text = r#"{"a": [1, -2, 1.5, "x", null, true], "b": {"c": {}}}"#;
        let Single(value) = serde_json::from_str(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        let twice = serde_json::from_str::<Single>(r#"{"a": {"b": 1, "c": 2, "b": 1}}"#).map(|_| ()).unwrap_err();
        assert!(twice.to_string().contains("`b` stands twice"), "{twice}");
    }

    #[test]
    fn differences_have_their_place() {
        let same = json!({"a": 1.0, "b": [1, 2], "c": null});
        assert!(differences(json!({"c": null, "b": [1, 2.0], "a": 1}), same.clone()).is_empty());
        assert_eq!(
            differences(json!({"a": 2, "b": [1], "d": "\u{1b}[2J"}), same),
            [
                "a: the report says 2, and 1.0 follows from the rest of it",
                "b: the report has 1 entries, and 2 follow from the rest of it",
                "d: the report says \"\\u001b[2J\", and nothing belongs there",
                "c: not in the report; null follows from the rest of it",
            ]
        );
        let of = |cases: u32| json!({"ops": [{"op": "rope", "counts": {"passed": cases}}]});
        assert!(differences(of(3), of(2))[0].starts_with("ops[rope].counts.passed: the report says 3"));
        assert_eq!(differences(json!(u64::MAX), json!(u64::MAX - 1)).len(), 1);
    }

    #[test]
    fn what_is_shown_commands_nothing_and_ends() {
        assert_eq!(shown("a\u{1b}[2J\n\u{202e}b"), "a\\u{1b}[2J\\n\\u{202e}b");
        assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN + 3);
        assert_eq!(some(2, ["a", "b", "c", "d"]), "a, b and 2 more");
        assert_eq!(some(2, ["a", "b"]), "a, b");
    }
}

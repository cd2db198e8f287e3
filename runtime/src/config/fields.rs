//! Typed reads of a JSON object whose errors carry the path of the field.

use super::ConfigRule;
use serde_json::{Map, Value};

/// Largest size that is accepted: token ids, positions and index lists are I32 in the contract.
pub(super) const MAX_SIZE: u64 = i32::MAX as u64;

/// One JSON object and where it is. A null counts as absent: transformers writes null for "not set".
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

/// A value as error messages print it, short even when the file is hostile.
pub(super) fn show(value: &Value) -> String {
    const LIMIT: usize = 60;
    // Serialising a huge value only to cut it would make the error as large as the file.
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(map) => format!("an object of {} fields", map.len()),
        Value::String(text) if text.chars().nth(LIMIT).is_some() => {
            format!("\"{}...\"", text.chars().take(LIMIT).collect::<String>().escape_debug())
        }
        short => short.to_string(),
    }
}

/// `given` as a size, or the rule it breaks under the name `field`.
pub(super) fn size(field: &str, given: u64) -> Result<usize, ConfigRule> {
    let range = || ConfigRule::Range { field: field.to_owned(), max: MAX_SIZE, given };
    if given == 0 || given > MAX_SIZE {
        return Err(range());
    }
    usize::try_from(given).map_err(|_| range())
}

/// `value` as a whole number that is not negative.
pub(super) fn whole(field: &str, value: &Value) -> Result<u64, ConfigRule> {
    value.as_u64().ok_or_else(|| ConfigRule::Type {
        field: field.to_owned(),
        want: "a whole number that is not negative",
        given: show(value),
    })
}

impl<'a> Fields<'a> {
    pub(super) fn root(map: &'a Map<String, Value>) -> Fields<'a> {
        Fields { map, path: String::new() }
    }

    /// The full path of `key`, such as `rope_scaling.factor`.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn need(&self, key: &str) -> Result<&'a Value, ConfigRule> {
        self.get(key).ok_or_else(|| ConfigRule::Missing { field: self.name(key) })
    }

    fn wrong(&self, key: &str, want: &'static str, value: &Value) -> ConfigRule {
        ConfigRule::Type { field: self.name(key), want, given: show(value) }
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, ConfigRule> {
        size(&self.name(key), whole(&self.name(key), self.need(key)?)?)
    }

    /// A finite number above 0.
    pub(super) fn positive(&self, key: &str) -> Result<f64, ConfigRule> {
        let value = self.need(key)?;
        let given = value.as_f64().ok_or_else(|| self.wrong(key, "a number", value))?;
        if given.is_finite() && given > 0.0 {
            Ok(given)
        } else {
            Err(ConfigRule::NotPositive { field: self.name(key), given })
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<&'a [Value], ConfigRule> {
        let value = self.need(key)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(key, "a list", value))
    }

    pub(super) fn object(&self, key: &str) -> Result<Fields<'a>, ConfigRule> {
        let value = self.need(key)?;
        let map = value.as_object().ok_or_else(|| self.wrong(key, "an object", value))?;
        Ok(Fields { map, path: format!("{}.", self.name(key)) })
    }

    /// Requires that `key`, where given, is `only`. Absence is the caller's matter, see [`need`](Fields::need).
    pub(super) fn only(&self, key: &str, only: impl Into<Value>) -> Result<(), ConfigRule> {
        let only = only.into();
        match self.get(key) {
            Some(given) if *given != only => {
                Err(ConfigRule::Only { field: self.name(key), only: only.to_string(), given: show(given) })
            }
            _ => Ok(()),
        }
    }

    /// Requires that `key` is given and is `only`.
    pub(super) fn need_only(&self, key: &str, only: impl Into<Value>) -> Result<(), ConfigRule> {
        self.need(key)?;
        self.only(key, only)
    }
}

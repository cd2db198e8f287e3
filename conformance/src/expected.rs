//! Failures that a backend knows of: listed with a reason, and no longer than they last.

use crate::error::SuiteError;
use serde::Deserialize;
use std::path::Path;

/// Cases that a backend is known to fail.
///
/// One TOML file per backend:
/// ```toml
/// [[expected_failures]]
/// case = "hyper_pre/*/bf16-*/*"     # a pattern, or the beginning of a name up to a slash
/// reason = "the driver's exp2 is off by 40 ulp below -100, reported upstream"
/// ```
/// `*` stands for any text, slashes included. A listed case that fails does not fail the run; one that passes does, so
/// that the list never outlives its reasons.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFailures {
    /// The list; the first entry that names a case counts.
    #[serde(default)]
    pub expected_failures: Vec<ExpectedFailure>,
}

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFailure {
    /// Which cases: a whole name with or without its seed, its beginning up to a slash, or a pattern with `*`.
    pub case: String,
    /// Why they fail.
    pub reason: String,
}

impl ExpectedFailures {
    /// The list in a TOML document; `file` is what errors call it.
    ///
    /// # Errors
    /// [`SuiteError::ExpectedFailures`] for another document, an entry without reason, one that names every case.
    pub fn parse(file: &str, text: &str) -> Result<ExpectedFailures, SuiteError> {
        let failed = |reason: String| SuiteError::ExpectedFailures { file: file.into(), reason };
        let list: ExpectedFailures = toml::from_str(text).map_err(|error| failed(error.to_string()))?;
        for ExpectedFailure { case, reason } in &list.expected_failures {
            if reason.trim().is_empty() {
                return Err(failed(format!("`{case}` has no reason; say why it fails")));
            }
            if case.trim_matches(['*', '/']).is_empty() {
                return Err(failed(format!("`{case}` names every case; name the operation at least")));
            }
        }
        Ok(list)
    }

    /// The list in a file.
    ///
    /// # Errors
    /// As [`parse`](ExpectedFailures::parse), and for a file that cannot be read.
    pub fn open(file: &Path) -> Result<ExpectedFailures, SuiteError> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => ExpectedFailures::parse(&name, &text),
            Err(error) => Err(SuiteError::ExpectedFailures { file: name, reason: format!("cannot be read: {error}") }),
        }
    }

    /// Why `case` is expected to fail, if it is.
    pub fn reason(&self, case: &str) -> Option<&str> {
        self.expected_failures.iter().find(|entry| names(&entry.case, case)).map(|entry| entry.reason.as_str())
    }

    /// Entries that name none of `cases`: misspelt, or of cases that there no longer are.
    pub fn unused<'a>(&self, cases: impl Iterator<Item = &'a str> + Clone) -> Vec<&str> {
        let used = |entry: &&ExpectedFailure| cases.clone().any(|case| names(&entry.case, case));
        self.expected_failures.iter().filter(|entry| !used(entry)).map(|entry| entry.case.as_str()).collect()
    }
}

fn names(pattern: &str, case: &str) -> bool {
    if pattern.contains('*') {
        return glob(pattern.as_bytes(), case.as_bytes());
    }
    case.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || pattern.ends_with('/'))
}

/// Whether `*` can stand for texts that make `pattern` into `text`. Linear but for one place to go back to.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            back = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((star, taken)) = back {
            back = Some((star, taken + 1));
            (p, t) = (star + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_name_cases() {
        let case = "rope/near/f32-f32/t5-h3/seed7";
        for pattern in ["rope", "rope/", "rope/near", "rope/near/f32-f32/t5-h3", case, "rope/*/seed7", "*/t5-*", "r*7"]
        {
            assert!(names(pattern, case), "{pattern}");
        }
        for pattern in ["rop", "rope/nea", "near", "rope/*/seed8", "*/t5", "rope/near/f32-f32/t5-h3/seed70", "r*8*"] {
            assert!(!names(pattern, case), "{pattern}");
        }
    }

    #[test]
    fn the_first_entry_that_fits_gives_the_reason() {
        let text = "[[expected_failures]]\ncase = \"rope/far\"\nreason = \"angles\"\n\
                    [[expected_failures]]\ncase = \"rope\"\nreason = \"all of it\"\n";
        let list = ExpectedFailures::parse("cpu.toml", text).unwrap();
        assert_eq!(list.reason("rope/far/x/seed0"), Some("angles"));
        assert_eq!(list.reason("rope/near/x/seed0"), Some("all of it"));
        assert_eq!(list.reason("route/x/seed0"), None);
        assert_eq!(list.unused(["rope/near/x"].into_iter()), ["rope/far"]);
        assert_eq!(ExpectedFailures::parse("empty.toml", "").unwrap(), ExpectedFailures::default());
    }

    #[test]
    fn lists_that_say_too_little_are_refused() {
        let refused = |text: &str| ExpectedFailures::parse("cpu.toml", text).unwrap_err().to_string();
        assert!(refused("[[expected_failures]]\ncase = \"rope\"\n").contains("reason"));
        assert!(refused("[[expected_failures]]\ncase = \"rope\"\nreason = \" \"").contains("`rope` has no reason"));
        assert!(refused("[[expected_failures]]\ncase = \"*\"\nreason = \"new\"").contains("names every case"));
        assert!(refused("expected_failure = []").contains("cpu.toml"));
        let none = ExpectedFailures::open(Path::new("none/cpu.toml")).unwrap_err().to_string();
        assert!(none.contains("none/cpu.toml") && none.contains("cannot be read"), "{none}");
    }
}

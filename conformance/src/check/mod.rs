//! Whether a report holds, on a machine that had no part in it.
//!
//! A report is its results and what follows from them. The cases follow from profile, seed and selection, the digest from
//! the cases; sums, reasons and the verdict follow from the results. [`check`] derives all of it again, by the code that
//! wrote it in the first place, and finds where the report says something else. It does not run anything:
//! [`CheckedReport::run_again`] does, and compares the outcomes.

mod again;
mod follow;
mod json;
mod read;
mod results;
mod words;

pub use again::RunAgain;
pub use read::{check, check_file};

use crate::case::Case;
use crate::run::Selection;
use json::escaped;
use read::Told;
use serde::Serialize;

/// Findings that are listed of one report.
const LISTED: usize = 500;

/// Something in a report that does not follow from the rest of it, or is not so on another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: a member of the report by its path, or a case by its name.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

/// Findings as they come.
#[derive(Default)]
struct Findings {
    all: Vec<Finding>,
    beyond: usize,
}

impl Findings {
    fn add(&mut self, place: impl Into<String>, what: impl Into<String>) {
        match self.all.len() {
            LISTED => self.beyond += 1,
            // Both may hold names that the report brought along.
            _ => self.all.push(Finding { place: escaped(&place.into()), what: escaped(&what.into()) }),
        }
    }

    fn end(mut self) -> Vec<Finding> {
        if self.beyond > 0 {
            let what = format!("{} findings beside these {LISTED}", self.beyond);
            self.all.push(Finding { place: "and so on".into(), what });
        }
        self.all
    }
}

/// A file of reports after the check.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Version of the suite: the report's and this one's.
    pub suite_version: &'static str,
    /// What is wrong with the document around the reports.
    pub findings: Vec<Finding>,
    /// The report of each device, in the order of the file.
    pub devices: Vec<CheckedReport>,
}

impl Checked {
    /// Whether nothing was found. The devices need not have passed for that: see [`CheckedReport::passed`].
    pub fn holds(&self) -> bool {
        self.findings.is_empty() && self.devices.iter().all(CheckedReport::holds)
    }
}

/// One device's report after the check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedReport {
    /// Name of the device.
    pub device: String,
    /// Whether the device passed, by the results.
    pub passed: bool,
    /// Selected cases that it has a result of: those that [`run_again`](CheckedReport::run_again) runs.
    pub results: usize,
    /// What the report states, in words. Each goes on from "it says that".
    pub says: Vec<String>,
    /// What nobody can know from the report alone. Each goes on from "it cannot show".
    pub cannot_show: Vec<String>,
    /// Where it contradicts itself or the suite.
    pub findings: Vec<Finding>,
    /// What was read.
    #[serde(skip)]
    told: Told,
    /// The cases that it is of.
    #[serde(skip)]
    cases: Vec<Case>,
    #[serde(skip)]
    selection: Selection,
}

impl CheckedReport {
    /// Whether nothing was found.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

//! What a run is good for as evidence: enough for another machine to run the same and compare.

use super::digest::sha256;
use super::{JudgedDevice, OpSummary};
use crate::case::{Case, Profile};
use crate::run::Selection;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// What was run, on what, by whose promise. Two statements with one digest, seed and device speak of the same work.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statement {
    /// Version of the suite.
    pub suite_version: String,
    /// SHA-256, in hexadecimal, of the suite's version and the names of the selected cases, seeds included, each followed
    /// by a line feed.
    pub suite_digest: String,
    /// Profile.
    pub profile: Profile,
    /// Seed.
    pub seed: u64,
    /// Whether what the device did not run itself counted as failed.
    pub strict: bool,
    /// Patterns of the cases that were allowed to fail.
    pub expected_failures: Vec<String>,
    /// Name and description of the device, the driver's version among it where the backend tells.
    pub device: String,
    /// What the device declared about the arithmetic of each operation that it ran.
    pub declared: BTreeMap<String, Vec<String>>,
    /// Commit of this suite: `ANYCHIP_COMMIT`, else `GITHUB_SHA`, else what git says of the source that it was built from,
    /// with `-dirty` where files were changed.
    pub commit: Option<String>,
    /// Operating system and architecture of the host.
    pub host: String,
    /// Whether the run passed.
    pub passed: bool,
}

impl Statement {
    pub(crate) fn begin(selection: &Selection, cases: &[Case]) -> Statement {
        let version = env!("CARGO_PKG_VERSION");
        let names = cases.iter().map(|case| format!("{}\n", case.name));
        let text: String = std::iter::once(format!("{version}\n")).chain(names).collect();
        let allowed = selection.expected.expected_failures.iter();
        Statement {
            suite_version: version.into(),
            suite_digest: sha256(text.as_bytes()),
            profile: selection.profile,
            seed: selection.seed,
            strict: selection.strict,
            expected_failures: allowed.map(|entry| entry.case.clone()).collect(),
            commit: commit(),
            host: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            ..Statement::default()
        }
    }

    pub(crate) fn end(&mut self, ops: &[OpSummary], device: &JudgedDevice, passed: bool) {
        self.device = format!("{} ({})", device.name, device.description);
        self.declared = ops.iter().map(|summary| (summary.op.into(), summary.declared.clone())).collect();
        self.passed = passed;
    }
}

/// Asked for once: a run over many devices is of one commit.
fn commit() -> Option<String> {
    static COMMIT: OnceLock<Option<String>> = OnceLock::new();
    let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    COMMIT.get_or_init(|| named("ANYCHIP_COMMIT").or_else(|| named("GITHUB_SHA")).or_else(of_source)).clone()
}

fn of_source() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    // Elsewhere git would look further up, and speak of a repository that has nothing to do with this one.
    if !root.join(".git").exists() {
        return None;
    }
    let ask = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").arg("-C").arg(root).args(ask).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}

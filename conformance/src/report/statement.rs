//! What a run is good for as evidence: enough for another machine to run the same and compare.

use super::{JudgedDevice, OpSummary};
use crate::case::{Case, Profile};
use crate::run::Selection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Version of this suite.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What was run, on what, by whose promise. Two statements with one digest, seed and device speak of the same work.
///
/// [`check`](crate::check) says of a report whether all of it follows from its results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Which cases of that profile and seed were run. Nothing where they were a program's own
    /// ([`run_cases`](crate::run_cases)): no other program can list them.
    pub selection: Option<Selected>,
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

/// What was selected of the catalogue: with profile and seed it gives the same cases again, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// Operations; all if empty.
    pub ops: Vec<String>,
    /// The one case that was asked for by its name. A seed in it counts more than the statement's.
    pub case: Option<String>,
}

impl Selected {
    pub(crate) fn of(selection: &Selection) -> Selected {
        Selected { ops: selection.ops.clone(), case: selection.case.clone() }
    }
}

impl Statement {
    pub(crate) fn begin(selection: &Selection, cases: &[Case]) -> Statement {
        let allowed = selection.expected.expected_failures.iter();
        Statement {
            suite_version: VERSION.into(),
            suite_digest: digest(VERSION, cases.iter().map(|case| case.name.as_str())),
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

/// See [`Statement::suite_digest`].
pub(crate) fn digest<'a>(version: &'a str, names: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for line in std::iter::once(version).chain(names) {
        hash.update(line);
        hash.update("\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asked for once: a run over many devices is of one commit.
pub(crate) fn commit() -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `printf '0.1.0\nrope/near/x/seed0\nembed/y/seed0\n' | sha256sum` prints.
    #[test]
    fn the_digest_is_of_a_line_for_the_version_and_one_for_each_case() {
        let names = ["rope/near/x/seed0", "embed/y/seed0"];
        assert_eq!(
            digest("0.1.0", names.into_iter()),
            "fbe7300b67ee2d2f258b6c0b80770c15b37a03bb73f2eeda6c335f41492535e1"
        );
        assert_ne!(digest("0.1.0", names.into_iter()), digest("0.1.0", names.into_iter().rev()));
    }
}

//! Which cases of the catalogue are run.

use crate::case::{Case, Profile, split_seed};
use crate::promises::DEVICE;
use crate::{ExpectedFailures, SuiteError, cases};
use anychip_core::ops::NAMES;
use std::cmp::Reverse;
use std::path::PathBuf;

/// Which cases to run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Operations by name, `device` for the device itself; all if empty.
    pub ops: Vec<String>,
    /// How much of the catalogue.
    pub profile: Profile,
    /// One case by its name, of any profile. A seed in the name counts more than [`seed`](Selection::seed).
    pub case: Option<String>,
    /// What operands are drawn from. Two seeds share no operand.
    pub seed: u64,
    /// Whether an operation that the device does not run itself is a failure.
    pub strict: bool,
    /// Cases that are known to fail.
    pub expected: ExpectedFailures,
    /// Folder that takes a file with inputs, outputs and bounds for each case that fails; see [`replay`](crate::replay).
    pub save_failures: Option<PathBuf>,
}

impl Selection {
    /// The selected cases: those of the device itself, then those of operations in the order of the contract.
    ///
    /// # Errors
    /// [`SuiteError::UnknownOp`], [`SuiteError::UnknownCase`], [`SuiteError::NothingSelected`],
    /// [`SuiteError::NoCases`].
    pub fn cases(&self) -> Result<Vec<Case>, SuiteError> {
        for name in &self.ops {
            if name != DEVICE && !NAMES.contains(&name.as_str()) {
                let all = std::iter::once(DEVICE).chain(NAMES.iter().copied());
                return Err(SuiteError::UnknownOp { name: name.clone(), near: near(name, all) });
            }
        }
        let selected = |case: &Case| self.ops.is_empty() || self.ops.iter().any(|op| op == case.op_name);
        if let Some(name) = &self.case {
            let case = find(name, self.seed)?;
            if !selected(&case) {
                return Err(SuiteError::NothingSelected { case: case.name, op: case.op_name });
            }
            return Ok(vec![case]);
        }
        let all: Vec<Case> = cases(self.profile, self.seed).into_iter().filter(selected).collect();
        match self.ops.iter().find(|op| all.iter().all(|case| case.op_name != op.as_str())) {
            Some(op) => Err(SuiteError::NoCases { op: op.clone(), profile: self.profile }),
            None => Ok(all),
        }
    }
}

fn find(name: &str, default_seed: u64) -> Result<Case, SuiteError> {
    let (stem, seed) = split_seed(name);
    let all = cases(Profile::Full, seed.unwrap_or(default_seed));
    if let Some(case) = all.iter().find(|case| case.stem() == stem) {
        return Ok(case.clone());
    }
    Err(SuiteError::UnknownCase { name: name.into(), near: near(stem, all.iter().map(Case::stem)) })
}

/// The three names that begin as `name` does for longest; of those that do equally, the ones that take the fewest edits.
fn near<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> String {
    let common = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let mut ranked: Vec<(Reverse<usize>, usize, &str)> =
        all.map(|other| (Reverse(common(other)), distance(name, other), other)).collect();
    ranked.sort_unstable();
    ranked.iter().take(3).map(|&(_, _, other)| other).collect::<Vec<_>>().join(", ")
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in [("", "", 0), ("kitten", "sitting", 3), ("rope", "", 4), ("route", "rope", 2)] {
            assert_eq!(distance(a, b), want);
        }
    }

    #[test]
    fn unknown_names_list_near_ones() {
        let of_ops = |op: &str| Selection { ops: vec![op.into()], ..Selection::default() }.cases().unwrap_err();
        let error = of_ops("rmsnorm");
        assert!(matches!(&error, SuiteError::UnknownOp { near, .. } if near.starts_with("rms_norm")), "{error}");
        let of_case = |case: &str| Selection { case: Some(case.into()), ..Selection::default() }.cases();
        let error = of_case("rms_norm/plan/f32-none-f32/normal/r3-d64/seed0").unwrap_err();
        assert!(error.to_string().contains("rms_norm/plain/f32-none-f32/normal/r3-d64"), "{error}");
        let error = of_case("top_k/greedy").unwrap_err();
        assert!(error.to_string().contains("near it: top_k/greedy/"), "{error}");
    }

    #[test]
    fn a_case_is_found_by_its_name_alone() {
        let all = cases(Profile::Full, 7);
        for case in &all {
            let found = Selection { case: Some(case.name.clone()), ..Selection::default() }.cases().unwrap();
            assert_eq!(found.iter().map(|c| &c.name).collect::<Vec<_>>(), [&case.name]);
        }
        let stem = all[0].stem().to_string();
        let selection = Selection { case: Some(stem.clone()), seed: 3, ..Selection::default() };
        assert_eq!(selection.cases().unwrap()[0].name, format!("{stem}/seed3"));
        let other = Selection { ops: vec!["rope".into()], ..selection };
        assert!(matches!(other.cases().unwrap_err(), SuiteError::NothingSelected { op: "device", .. }));
    }
}

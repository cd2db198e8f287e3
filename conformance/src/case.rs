//! A case: a name, an operation and how to build it on any device.

use crate::builder::{Builder, Built, Contents};
use crate::promises::{DEVICE, Promise};
use crate::random::Random;
use crate::relation::Relation;
use anychip_core::{Device, Op, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How much of the catalogue is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Every operation and mode over small shapes: seconds.
    #[default]
    Quick,
    /// The same and shapes as large as a model's: minutes.
    Full,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Quick => "quick",
            Profile::Full => "full",
        })
    }
}

type Build = dyn Fn(&mut Builder<'_>) -> Result<Op> + Send + Sync;

/// What a case is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Check {
    /// The oracle and its bound.
    #[default]
    Bound,
    /// The same, and equality where the bound is 0.
    Exact,
    /// The same, and equality everywhere: nothing that every device must be able to do rounds anything.
    Identity,
    /// What holds between two runs.
    Relation(Relation),
}

/// What is judged.
#[derive(Clone)]
enum Subject {
    /// An operation over the operands that this makes.
    Operation(Arc<Build>),
    /// The device itself.
    Device(Promise),
}

/// One operation over operands that follow from the case's name alone, or something that a device promises beside its
/// operations.
#[derive(Clone)]
pub struct Case {
    /// `operation/variant/shape/seedN`. With the suite's version this is all it takes to run the case again.
    pub name: String,
    /// The operation that is judged; `device` where it is the device itself.
    pub op_name: &'static str,
    /// The smallest profile that contains the case.
    pub profile: Profile,
    seed: u64,
    /// Name, without the seed, that the operands are drawn by.
    drawn_by: String,
    check: Check,
    subject: Subject,
    /// Memory of the host that it takes to judge the case, where that is more than a host may have to spare.
    host_bytes: u64,
    /// In the place of the contents that `build` makes.
    contents: Option<Arc<Contents>>,
}

impl Case {
    /// A case of `op_name`; `rest` is its name between the operation and the seed.
    ///
    /// `build` makes the operands and the operation. It may depend on nothing but what it takes from the [`Builder`].
    pub fn new(
        op_name: &'static str,
        rest: &str,
        profile: Profile,
        seed: u64,
        build: impl Fn(&mut Builder<'_>) -> Result<Op> + Send + Sync + 'static,
    ) -> Case {
        Case::made(op_name, rest, profile, seed, Subject::Operation(Arc::new(build)))
    }

    /// A case of the device itself.
    pub(crate) fn of_device(promise: Promise, rest: &str, profile: Profile, seed: u64) -> Case {
        Case::made(DEVICE, rest, profile, seed, Subject::Device(promise))
    }

    fn made(op_name: &'static str, rest: &str, profile: Profile, seed: u64, subject: Subject) -> Case {
        let name = format!("{op_name}/{rest}/seed{seed}");
        let drawn_by = format!("{op_name}/{rest}");
        Case { name, op_name, profile, seed, drawn_by, check: Check::Bound, subject, host_bytes: 0, contents: None }
    }

    /// What is promised, where the case is of the device itself.
    pub(crate) fn promise(&self) -> Option<Promise> {
        match self.subject {
            Subject::Device(promise) => Some(promise),
            Subject::Operation(_) => None,
        }
    }

    /// Whether it is of one run of an operation over operands drawn from its name, judged by bounds.
    pub(crate) fn is_plain(&self) -> bool {
        self.check == Check::Bound && self.promise().is_none() && self.contents.is_none()
    }

    /// The same case under another seed.
    pub(crate) fn with_seed(&self, seed: u64) -> Case {
        Case { name: format!("{}/seed{seed}", self.stem()), seed, ..self.clone() }
    }

    /// The seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The same case, which takes so much memory of the host to judge.
    pub(crate) fn taking(self, host_bytes: u64) -> Case {
        Case { host_bytes, ..self }
    }

    pub(crate) fn host_bytes(&self) -> u64 {
        self.host_bytes
    }

    /// The same case under another judgement.
    pub(crate) fn judged_by(self, check: Check) -> Case {
        Case { check, ..self }
    }

    /// The case, over the same operands, that a relation is tested by; `name` is the relation's.
    pub(crate) fn related(&self, name: &str, relation: Relation) -> Case {
        let rest = self.name.strip_prefix(self.op_name).unwrap_or_default();
        Case { name: format!("{}/{name}{rest}", self.op_name), check: Check::Relation(relation), ..self.clone() }
    }

    /// The same case over operands with these contents.
    pub(crate) fn over(self, contents: Contents) -> Case {
        Case { contents: Some(Arc::new(contents)), ..self }
    }

    pub(crate) fn check(&self) -> Check {
        self.check
    }

    /// Numbers for what the judgement draws itself.
    pub(crate) fn random(&self) -> Random {
        Random::of_case(self.stem(), self.seed)
    }

    /// The name without the seed.
    pub fn stem(&self) -> &str {
        self.name.rsplit_once('/').map_or(&self.name, |(stem, _)| stem)
    }

    /// The operands on `device`, their contents queued, and the operation over them. Nothing of a case of the device itself.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn build(&self, device: &dyn Device) -> Result<Option<(Op, Built)>> {
        let Some((op, built)) = self.build_for(device, None)? else { return Ok(None) };
        let declared = device.numerics(&op).accumulator;
        // A truncating accumulator of p bits is sure of sums below 2^(p - 1) by the bound.
        let bits = declared.significand_bits.saturating_sub(u32::from(declared.truncates));
        let again = if self.check == Check::Exact && bits != 24 { self.build_for(device, Some(bits))? } else { None };
        let (op, mut built) = again.unwrap_or((op, built));
        if let Some(contents) = &self.contents {
            contents.put(&op, &mut built)?;
        }
        Ok(Some((op, built)))
    }

    pub(crate) fn build_for(&self, device: &dyn Device, accumulator_bits: Option<u32>) -> Result<Option<(Op, Built)>> {
        let Subject::Operation(build) = &self.subject else { return Ok(None) };
        let mut builder = Builder::new(device, &self.drawn_by, self.seed)?;
        if let Some(bits) = accumulator_bits {
            builder.set_accumulator_bits(bits);
        }
        let op = build(&mut builder)?;
        Ok(Some((op, builder.finish())))
    }

    /// The operation over operands of its own on `device`; `None` for a case of the device itself.
    ///
    /// # Errors
    /// Those of the device.
    pub fn op(&self, device: &dyn Device) -> Result<Option<Op>> {
        Ok(self.build(device)?.map(|(op, _)| op))
    }

    /// Contents of each operand, in the order they were made: what the case's name stands for. Of exact sums
    /// those for an accumulator of 24 bits. Nothing for a case of the device itself.
    ///
    /// # Errors
    /// Those of the device.
    pub fn operand_bytes(&self, device: &dyn Device) -> Result<Vec<Vec<u8>>> {
        let built = self.build_for(device, None)?.map(|(_, built)| built.laid.operands).unwrap_or_default();
        Ok(built.iter().map(|operand| operand.bytes().to_vec()).collect())
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Splits a case's name into stem and seed, where it has one.
pub(crate) fn split_seed(name: &str) -> (&str, Option<u64>) {
    match name.rsplit_once("/seed") {
        Some((stem, seed)) => match seed.parse() {
            Ok(seed) => (stem, Some(seed)),
            Err(_) => (name, None),
        },
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_into_stem_and_seed() {
        assert_eq!(split_seed("linear/f32/t5/seed12"), ("linear/f32/t5", Some(12)));
        assert_eq!(split_seed("linear/f32/t5"), ("linear/f32/t5", None));
        assert_eq!(split_seed("linear/f32/seedling"), ("linear/f32/seedling", None));
    }
}

//! A case: a name, an operation and how to build it on any device.

use crate::builder::{Builder, Built, Contents};
use crate::random::Random;
use crate::relation::Relation;
use anychip_core::{Device, Op, Result};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// How much of the catalogue is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

/// One operation over operands that follow from the case's name alone.
#[derive(Clone)]
pub struct Case {
    /// `operation/variant/shape/seedN`. With the suite's version this is all it takes to run the case again.
    pub name: String,
    /// The operation that is judged.
    pub op_name: &'static str,
    /// The smallest profile that contains the case.
    pub profile: Profile,
    seed: u64,
    /// Name, without the seed, that the operands are drawn by.
    drawn_by: String,
    check: Check,
    build: Arc<Build>,
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
        let name = format!("{op_name}/{rest}/seed{seed}");
        let drawn_by = format!("{op_name}/{rest}");
        Case { name, op_name, profile, seed, drawn_by, check: Check::Bound, build: Arc::new(build), contents: None }
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

    /// The operands on `device`, their contents queued, and the operation over them.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn build(&self, device: &dyn Device) -> Result<(Op, Built)> {
        let (op, built) = self.build_for(device, None)?;
        let declared = device.numerics(&op).accumulator;
        // A truncating accumulator of p bits is sure of sums below 2^(p - 1) by the bound.
        let bits = declared.significand_bits.saturating_sub(u32::from(declared.truncates));
        let (op, mut built) = match self.check {
            Check::Exact if bits != 24 => self.build_for(device, Some(bits))?,
            _ => (op, built),
        };
        if let Some(contents) = &self.contents {
            contents.put(&op, &mut built)?;
        }
        Ok((op, built))
    }

    pub(crate) fn build_for(&self, device: &dyn Device, accumulator_bits: Option<u32>) -> Result<(Op, Built)> {
        let mut builder = Builder::new(device, &self.drawn_by, self.seed)?;
        if let Some(bits) = accumulator_bits {
            builder.set_accumulator_bits(bits);
        }
        let op = (self.build)(&mut builder)?;
        Ok((op, builder.finish()))
    }

    /// The operation over operands of its own on `device`.
    ///
    /// # Errors
    /// Those of the device.
    pub fn op(&self, device: &dyn Device) -> Result<Op> {
        Ok(self.build(device)?.0)
    }

    /// Contents of each operand, in the order they were made: what the case's name stands for. Of exact sums
    /// those for an accumulator of 24 bits.
    ///
    /// # Errors
    /// Those of the device.
    pub fn operand_bytes(&self, device: &dyn Device) -> Result<Vec<Vec<u8>>> {
        Ok(self.build_for(device, None)?.1.operands.iter().map(|o| o.bytes().to_vec()).collect())
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

//! Kernels that are no operation of the contract, and that machines are measured by: copies, a softmax, int8 products.
//!
//! Only time is computed, over operands without contents, once the same kernel was run with values on a small problem and
//! nothing was found wrong with it.

mod copy;
mod product;
mod shape;
mod softmax;

pub use shape::Shape;

use crate::kernel::{Kernel, Program};
use crate::machine::{CubeType, Profile};
use crate::sim::{Gm, Machine, Report, Timing};

/// Why there is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no kernel of this name to be timed.
    #[error("there is no benchmark `{op}` of an Ascend; there are {known}")]
    Unknown {
        /// The name asked for.
        op: String,
        /// All names.
        known: String,
    },
    /// The shape cannot be run.
    #[error("the shape cannot be run: {problem}")]
    Shape {
        /// The rule, the limit and what was given.
        problem: String,
    },
    /// The kernel computes something else, or is wrong.
    #[error("refused to time a wrong result: {problem}")]
    Wrong {
        /// What is wrong.
        problem: String,
    },
}

/// A kernel at a shape, over operands without contents.
pub struct Case {
    kernel: Box<dyn Kernel>,
    gm: Gm<'static>,
    /// Operations, and the cube's type that they are of.
    pub work: Option<(f64, CubeType)>,
    /// What was checked before.
    pub checked: &'static str,
}

impl Case {
    fn new(kernel: impl Kernel + 'static, gm: Gm<'static>, checked: &'static str) -> Case {
        Case { kernel: Box::new(kernel), gm, work: None, checked }
    }

    /// How long it takes.
    ///
    /// # Errors
    /// [`BenchError::Wrong`] with the first hazards of those that [`Machine::time`] looks at.
    pub fn time(&self, profile: &Profile) -> Result<Timing, BenchError> {
        sound(Machine::new(profile.clone()).time(&*self.kernel, &self.gm))
    }

    /// Its programs, one a core, and when each instruction ran.
    ///
    /// # Errors
    /// As [`time`](Case::time).
    pub fn trace(&self, profile: &Profile) -> Result<(Vec<Program>, Timing), BenchError> {
        let cores = 0..self.kernel.cores();
        let programs: Vec<Program> =
            cores.map(|core| Program::record(profile, &*self.kernel, &self.gm, core)).collect();
        let timing = sound(Machine::new(profile.clone()).trace(&programs, &self.gm))?;
        Ok((programs, timing))
    }
}

/// The time of a kernel that nothing is wrong with.
fn sound(report: Report) -> Result<Timing, BenchError> {
    let wrong: Vec<String> = report.hazards.errors().take(3).map(ToString::to_string).collect();
    match report.timing {
        Some(timing) if wrong.is_empty() => Ok(timing),
        _ => Err(BenchError::Wrong { problem: wrong.join("; ") }),
    }
}

type Build = fn(&Profile, &Shape) -> Result<Case, BenchError>;

/// The kernels, by the names that shapes are given with.
const BENCHMARKS: [(&str, Build); 4] = [
    ("copy", copy::case),
    ("softmax", softmax::case),
    ("linear_i8", product::case),
    ("grouped_i8", product::grouped_case),
];

/// A kernel of the machine's own at a shape.
///
/// # Errors
/// [`BenchError`].
pub fn case(profile: &Profile, op: &str, shape: &Shape) -> Result<Case, BenchError> {
    let Some((_, build)) = BENCHMARKS.iter().find(|(name, _)| *name == op) else {
        let known = BENCHMARKS.map(|(name, _)| name).join(", ");
        return Err(BenchError::Unknown { op: op.into(), known });
    };
    build(profile, shape)
}

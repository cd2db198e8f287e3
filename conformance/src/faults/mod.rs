//! Planted faults: does the suite catch what real ports got wrong?
//!
//! Each [`Fault`] is a wrapper over a correct device that has one bug of a kind that a port has had. [`score`] runs the
//! quick profile's cases of the operations concerned on each of them. A fault that no case notices is a hole in the
//! suite; a case that fails on the correct device is a false alarm. Beside the suite's rules stand those of other
//! suites, over the same outputs.

mod attention;
mod bench;
mod compress;
mod determinism;
mod device;
mod experts;
mod formats;
mod gemm;
mod hyper;
mod indexer;
mod memory;
mod models;
mod orders;
mod peers;
mod pools;
mod report;
mod rotary;
mod scales;
mod score;

pub use device::{Faulty, faulty};
pub use report::{Catch, FamilyScore, FaultReport, FaultResult, PeerScore};
pub use score::score;

use anychip_core::{Op, Result};
use bench::Bench;

/// Runs an operation wrongly.
type Run = fn(&mut Bench<'_>, &Op) -> Result<()>;

/// One bug, planted in the operations that it concerns.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Its one name.
    pub name: &'static str,
    /// What it is about.
    pub family: &'static str,
    /// Operations that it concerns; all others run rightly.
    pub ops: &'static [&'static str],
    /// The real bug that it stands for, in a sentence.
    pub bug: &'static str,
    /// What can notice it where a single run cannot: a second run, or the same row in another batch.
    pub needs: Option<&'static str>,
    run: Run,
}

impl Fault {
    const fn new(
        family: &'static str,
        name: &'static str,
        ops: &'static [&'static str],
        bug: &'static str,
        run: Run,
    ) -> Fault {
        Fault { name, family, ops, bug, needs: None, run }
    }

    const fn needs(self, what: &'static str) -> Fault {
        Fault { needs: Some(what), ..self }
    }
}

/// Every planted fault, by family.
pub fn faults() -> Vec<Fault> {
    [
        gemm::FAULTS,
        scales::FAULTS,
        formats::FAULTS,
        attention::FAULTS,
        rotary::FAULTS,
        indexer::FAULTS,
        compress::FAULTS,
        pools::FAULTS,
        experts::FAULTS,
        hyper::FAULTS,
        memory::FAULTS,
        determinism::FAULTS,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_core::ops::NAMES;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_everything_is_said() {
        let all = faults();
        let names: BTreeSet<&str> = all.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() >= 80, "{}", all.len());
        for fault in &all {
            assert!(!fault.family.is_empty() && !fault.ops.is_empty(), "{}", fault.name);
            assert!(fault.bug.len() > 20 && fault.bug.ends_with('.'), "{}: {}", fault.name, fault.bug);
            fault.ops.iter().for_each(|op| assert!(NAMES.contains(op), "{}: {op}", fault.name));
        }
    }

    #[test]
    fn every_operation_has_a_fault() {
        let concerned: BTreeSet<&str> = faults().iter().flat_map(|f| f.ops).copied().collect();
        NAMES.iter().for_each(|op| assert!(concerned.contains(op), "{op}"));
    }
}

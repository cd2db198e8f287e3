//! Warnings: a kernel that is right, and slower than it need be (W1 to W5).
//!
//! They are found in what was recorded, by operands and the profile's figures, not by a run: one pass over the instructions of
//! each unit. A launch too small for its time to matter has none: each check says from how much work on it speaks.

mod banks;
mod cores;
mod cost;
mod traffic;

use crate::isa::{Instr, Unit};
use crate::kernel::Program;
use crate::machine::Profile;
use crate::sim::global::Gm;
use crate::sim::hazard::{At, Bytes, Code, Hazard, Hazards};
use rayon::prelude::*;

/// Instructions of a launch up to which one host thread is faster than several.
const ALONE: usize = 1 << 13;

/// What is slower than it need be.
pub(crate) fn warnings(profile: &Profile, gm: &Gm<'_>, programs: &[Program], hazards: &mut Hazards) {
    let each = |(core, program): (usize, &Program)| {
        let mut found = Vec::new();
        let mut work = [0.0; 3];
        for unit in Unit::ALL.into_iter().filter(|unit| !program.unit(*unit).is_empty()) {
            let place = Where { core, unit, instrs: program.unit(unit) };
            found.extend(banks::conflicts(profile, &place));
            let loads = traffic::Traffic::of(profile, &place);
            work[unit as usize] = loads.work();
            found.extend(loads.warnings(profile, gm, &place));
        }
        (found, work)
    };
    let all: Vec<(Vec<Hazard>, [f64; 3])> =
        if programs.iter().flat_map(|program| &program.units).map(Vec::len).sum::<usize>() < ALONE {
            programs.iter().enumerate().map(each).collect()
        } else {
            programs.par_iter().enumerate().map(each).collect()
        };
    let work: Vec<[f64; 3]> = all.iter().map(|(_, work)| *work).collect();
    all.into_iter().for_each(|(found, _)| found.into_iter().for_each(|hazard| hazards.add(hazard)));
    for kind in [&[Unit::Aic][..], &[Unit::Aiv0, Unit::Aiv1]] {
        cores::same_address(gm, programs, kind).into_iter().for_each(|hazard| hazards.add(hazard));
        cores::tail(programs, &work, kind).into_iter().for_each(|hazard| hazards.add(hazard));
    }
}

/// The instructions of a unit.
struct Where<'a> {
    core: usize,
    unit: Unit,
    instrs: &'a [Instr],
}

impl Where<'_> {
    fn warn(&self, code: Code, index: usize, bytes: Option<Bytes>, detail: String) -> Option<Hazard> {
        let instr = self.instrs.get(index)?;
        let at = At::new(instr.name(), self.core, self.unit, index, instr.line);
        Some(Hazard { code, at, with: None, bytes, detail })
    }
}

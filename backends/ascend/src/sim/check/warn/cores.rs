//! What cores do at the same time: the same bytes read in the same step (W3), and a last round that leaves cores idle (W5).

use super::Where;
use super::cost::bursts;
use crate::isa::{Pipe, Unit};
use crate::kernel::Program;
use crate::sim::global::Gm;
use crate::sim::hazard::{Bytes, Code, Hazard};

/// Loads of each unit that are looked at.
const STEPS: usize = 64;
/// Units that read the same, from which on they hinder one another, and in how many steps.
const READERS: usize = 8;
const SHARED_STEPS: usize = 8;
/// Units among which work is divided, and cycles of the busiest, from which on its tail is looked at.
const UNITS: usize = 4;
const CYCLES: f64 = 5000.0;
/// What part of the busiest unit's time the others work on average, at least.
const BUSY: f64 = 0.75;

fn units<'a>(programs: &'a [Program], kind: &'a [Unit]) -> impl Iterator<Item = Where<'a>> {
    programs
        .iter()
        .enumerate()
        .flat_map(move |(core, program)| kind.iter().map(move |&unit| Where { core, unit, instrs: program.unit(unit) }))
}

/// A load: its step, its operand, its first byte, and how many it has.
type Load = (usize, u16, u64, u64);

/// Units that read the same bytes as many others do, for most of what they read.
pub(super) fn same_address(gm: &Gm<'_>, programs: &[Program], kind: &[Unit]) -> Option<Hazard> {
    if programs.len() * kind.len() < READERS {
        return None;
    }
    let mut loads: Vec<Load> = Vec::new();
    let mut first: Option<(Where<'_>, Vec<usize>)> = None;
    for place in units(programs, kind) {
        let mine = place.instrs.iter().enumerate().filter(|(_, instr)| instr.pipe() == Some(Pipe::Mte2));
        let mine = mine.filter_map(|(index, instr)| Some((index, bursts(&instr.body)?))).take(STEPS);
        let mut indices = Vec::new();
        for (step, (index, bursts)) in mine.enumerate() {
            loads.push((step, bursts.region, bursts.blocks.at, bursts.count * bursts.len));
            indices.push(index);
        }
        if first.as_ref().is_none_or(|(_, known)| known.len() < indices.len()) {
            first = Some((place, indices));
        }
    }
    let readers = READERS.max(programs.len() * kind.len() / 2);
    let all: u64 = loads.iter().map(|(.., bytes)| bytes).sum();
    loads.sort_unstable();
    let (mut steps, mut bytes, mut most): (usize, u64, Option<(usize, Load)>) = (0, 0, None);
    for together in loads.chunk_by(|a, b| (a.0, a.1, a.2) == (b.0, b.1, b.2)) {
        if together.len() >= readers {
            steps += 1;
            bytes += together.iter().map(|(.., bytes)| bytes).sum::<u64>();
            if most.is_none_or(|(many, _)| together.len() > many) {
                most = Some((together.len(), together[0]));
            }
        }
    }
    let (many, (step, region, at, len)) = most.filter(|_| steps >= SHARED_STEPS && 2 * bytes > all)?;
    let (place, indices) = first?;
    let detail = format!("{many} units read them in step {step}, and so in {steps} of the first {STEPS} steps");
    let bytes = Bytes { space: gm.name(region).into(), from: at, to: at + len };
    place.warn(Code::SameAddress, *indices.get(step)?, Some(bytes), detail)
}

/// Work that cores do not divide.
pub(super) fn tail(programs: &[Program], work: &[[f64; 3]], kind: &[Unit]) -> Option<Hazard> {
    let each = || units(programs, kind).map(|place| (work[place.core][place.unit as usize], place));
    let (most, busiest) = each().max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    let count = programs.len() * kind.len();
    let mean = each().map(|(work, _)| work).sum::<f64>() / count as f64;
    if count < UNITS || most < CYCLES || mean >= BUSY * most {
        return None;
    }
    let last = busiest.instrs.iter().rposition(|instr| bursts(&instr.body).is_some())?;
    let detail = format!(
        "{count} units work {:.0} % of the time on average: the busiest has {most:.0} cycles, the mean is {mean:.0}",
        100.0 * mean / most
    );
    busiest.warn(Code::Tail, last, None, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_no_cores() {
        assert!(tail(&[], &[], &Unit::ALL).is_none());
        assert!(same_address(&Gm::default(), &[], &Unit::ALL).is_none());
    }
}

//! How long a launch takes, by the cycle model of the profile.
//!
//! Engines run in order and side by side; transfers share L2 and the memory behind it; the scalar unit issues. What follows is
//! the time of a machine that nobody has measured this kernel on: always labelled as simulated.

mod cost;
mod engine;
mod fluid;
mod l2;
mod step;
mod vector;

pub(crate) use cost::{Work, work};

use super::order::Next;
use crate::isa::{Pipe, Unit};
use crate::kernel::Program;
use crate::machine::Profile;
use fluid::Limits;
use std::collections::BTreeMap;
use step::Steps;

/// An instruction in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Core.
    pub core: usize,
    /// Unit.
    pub unit: Unit,
    /// Engine.
    pub pipe: Pipe,
    /// Its place among the unit's instructions.
    pub index: usize,
    /// Cycle at which it began.
    pub began: f64,
    /// Cycle at which it was through.
    pub ended: f64,
    /// Bytes of global memory that it moved.
    pub bytes: f64,
    /// Of these, bytes that L2 had not, or that were written.
    pub missed: f64,
}

/// A flag in time: who set it, who went on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrow {
    /// Core of both; for flags of all cores, of the one that waited.
    pub core: usize,
    /// Who set it.
    pub from: (Unit, Pipe),
    /// Who waited.
    pub to: (Unit, Pipe),
    /// Cycle at which it was set.
    pub set: f64,
    /// Cycle at which who waited went on.
    pub seen: f64,
}

/// Sums over a launch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) gm_bytes: f64,
    pub(crate) hbm_bytes: f64,
    pub(crate) read_bytes: f64,
    pub(crate) hit_bytes: f64,
    pub(crate) busy: BTreeMap<(Unit, Pipe), f64>,
}

/// The time of a launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Cycles from the first instruction to the last.
    pub cycles: f64,
    /// Microseconds, the launch itself included.
    pub us: f64,
    /// Cores that took part.
    pub cores: usize,
    /// Part of the time in which each engine of a cube half was at work, as a mean over all of them.
    pub cube_busy: BTreeMap<Pipe, f64>,
    /// As much of the vector halves.
    pub vector_busy: BTreeMap<Pipe, f64>,
    /// Bytes that went to or came from the memory behind L2.
    pub hbm_bytes: f64,
    /// Bytes that cores asked for or gave.
    pub gm_bytes: f64,
    /// Part of the bytes read that were in L2.
    pub l2_hit: f64,
    /// Part of the memory's bandwidth that was used.
    pub hbm_share: f64,
    /// Part of L2's, of those for reading and writing the one that was used more.
    pub l2_share: f64,
    /// Each instruction, where it was asked for.
    pub spans: Vec<Span>,
    /// Each flag, where it was asked for.
    pub arrows: Vec<Arrow>,
}

impl Timing {
    /// What the launch is bound by: the engine or memory that is busy most of the time, or that none is.
    pub fn bound(&self) -> &'static str {
        let name = |pipe: Pipe| match pipe {
            Pipe::S => "scalar issue",
            Pipe::V => "vector",
            Pipe::M => "cube",
            Pipe::Fix => "FixPipe",
            other => other.name(),
        };
        // Transfers wait for memory: where that is full, it is the cause.
        let memory = [("HBM", self.hbm_share), ("L2", self.l2_share)];
        if let Some((name, _)) = memory.iter().find(|(_, share)| *share >= 0.9) {
            return name;
        }
        let engines = self.busy().into_iter().map(|(pipe, share)| (name(pipe), share));
        match engines.chain(memory).max_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((name, share)) if share >= 0.8 => name,
            _ => "latency: pipeline caused",
        }
    }

    /// Part of the time in which each kind of engine was at work: of those that both halves have, of the busier half.
    pub fn busy(&self) -> BTreeMap<Pipe, f64> {
        let mut all = self.cube_busy.clone();
        for (pipe, share) in &self.vector_busy {
            let entry = all.entry(*pipe).or_default();
            *entry = entry.max(*share);
        }
        all
    }
}

/// What of a launch's time is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) spans: bool,
    pub(crate) order: bool,
}

/// The steps of a launch's cores, without operands.
pub(crate) struct Timeline(pub(crate) Vec<[Steps; 3]>);

impl Timeline {
    /// Of a core's program.
    pub(crate) fn steps(profile: &Profile, program: &Program) -> [Steps; 3] {
        Unit::ALL.map(|unit| Steps::of(profile, program.unit(unit), 3 * program.core as u64 + unit as u64))
    }

    /// How long it takes, and in which order each core's instructions are through.
    pub(crate) fn time(&self, profile: &Profile, keep: Keep) -> (Timing, Vec<Vec<Next>>) {
        let figures = &profile.figures;
        let mut machine = engine::Machine::new(figures, &self.0);
        machine.spans = keep.spans.then(Vec::new);
        machine.order = keep.order.then(|| vec![Vec::new(); self.0.len()]);
        let cycles = machine.run();
        let cores = self.0.len();
        let [mut cube_busy, mut vector_busy] = [(); 2].map(|()| BTreeMap::new());
        for ((unit, pipe), total) in &machine.totals.busy {
            let (all, lanes) = if *unit == Unit::Aic { (&mut cube_busy, cores) } else { (&mut vector_busy, 2 * cores) };
            *all.entry(*pipe).or_insert(0.0) += total / lanes as f64 / cycles.max(1e-9);
        }
        let totals = &machine.totals;
        let per_cycle = |bytes: f64| bytes / cycles.max(1e-9);
        let Limits { hbm, l2: [read, written], .. } = Limits::of(figures);
        let timing = Timing {
            cycles,
            us: cycles / figures.clock / 1e3 + figures.launch,
            cores,
            cube_busy,
            vector_busy,
            hbm_bytes: totals.hbm_bytes,
            gm_bytes: totals.gm_bytes,
            l2_hit: totals.hit_bytes / totals.read_bytes.max(1.0),
            hbm_share: per_cycle(totals.hbm_bytes) / hbm,
            l2_share: (per_cycle(totals.read_bytes) / read)
                .max(per_cycle(totals.gm_bytes - totals.read_bytes) / written),
            spans: machine.spans.take().unwrap_or_default(),
            arrows: std::mem::take(&mut machine.arrows),
        };
        (timing, machine.order.take().unwrap_or_default())
    }
}

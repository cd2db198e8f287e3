//! Vector clocks: for each engine of a core, how many of its instructions are known to be through, and which barriers of all
//! cores.

use crate::isa::{Barrier, Body, Mode, Pipe, Unit};
use crate::sim::order::{Couple, Next, sources};
use std::collections::BTreeMap;

/// An engine of a core as a place in a clock.
pub(super) fn lane(unit: Unit, pipe: Pipe) -> usize {
    let at = unit.pipes().iter().position(|own| *own == pipe).unwrap_or(0);
    match unit {
        Unit::Aic => at,
        Unit::Aiv0 => 6 + at,
        Unit::Aiv1 => 10 + at,
    }
}

/// Engines of a core.
const LANES: usize = 14;

/// Flags of all cores: 16 of the cubes, 16 of the vector halves.
const BARRIERS: usize = 32;

/// How often each flag of all cores was waited for.
pub(super) type Passed = [u16; BARRIERS];

fn barrier(unit: Unit, id: u8) -> usize {
    usize::from(unit != Unit::Aic) * 16 + usize::from(id) % 16
}

/// What is known to be through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    lanes: [u32; LANES],
    passed: Passed,
}

impl Clock {
    fn join(&mut self, other: &Clock) {
        self.lanes.iter_mut().zip(other.lanes).for_each(|(mine, other)| *mine = (*mine).max(other));
        self.passed.iter_mut().zip(other.passed).for_each(|(mine, other)| *mine = (*mine).max(other));
    }

    /// Whether instruction `tick` of an engine is known to be through.
    pub(super) fn knows(&self, lane: usize, tick: u32) -> bool {
        self.lanes[lane] >= tick
    }

    /// Barriers of all cores that are known to be passed.
    pub(super) fn passed(&self) -> &Passed {
        &self.passed
    }
}

/// What a core knew when it set flags of all cores, by flag, in their order.
#[derive(Debug, Default)]
pub(super) struct Arrivals(BTreeMap<usize, Vec<Clock>>);

impl Arrivals {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an instruction of this core is through for an instruction of another core that has passed `passed`.
    pub(super) fn before(&self, lane: usize, tick: u32, passed: &Passed) -> bool {
        self.0.iter().any(|(flag, clocks)| {
            let seen = usize::from(passed[*flag]).min(clocks.len());
            seen > 0 && clocks[seen - 1].knows(lane, tick)
        })
    }
}

/// The clocks of a core.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// What each engine's next instruction knows.
    engines: [Clock; LANES],
    /// How many instructions each engine has begun.
    ticks: [u32; LANES],
    /// How many of its own each engine knows to be through, by a barrier or by what came back to it.
    through: [u32; LANES],
    /// By unit: what the scalar unit knew behind each of its instructions.
    issues: [Vec<(usize, Clock)>; 3],
    /// What is known to who waits, oldest first.
    flags: BTreeMap<(Unit, Pipe, Pipe, u8), Vec<Clock>>,
    crossings: BTreeMap<(Unit, Mode, u8), Vec<Clock>>,
    waited: BTreeMap<(Unit, Mode, u8), usize>,
    unlocked: BTreeMap<(Unit, u8), Clock>,
    /// By flag and unit: what was known at each arrival at a barrier of all cores.
    arrivals: BTreeMap<(usize, Unit), Vec<Clock>>,
    /// By place: the last product of coupled sums, or their transfer.
    coupled: BTreeMap<u32, Clock>,
}

impl Clocks {
    /// What the instruction that runs now knows.
    pub(super) fn of(&self, next: Next) -> &Clock {
        &self.engines[lane(next.unit, next.pipe)]
    }

    /// The number of the instruction that runs now among its engine's.
    pub(super) fn tick(&self, next: Next) -> u32 {
        self.ticks[lane(next.unit, next.pipe)]
    }

    /// How many of its own instructions the engine that runs now knows to be through.
    pub(super) fn through(&self, next: Next) -> u32 {
        self.through[lane(next.unit, next.pipe)]
    }

    /// The engine that runs now knows its own instructions up to `tick` to be through.
    pub(super) fn is_through(&mut self, next: Next, tick: u32) {
        let me = lane(next.unit, next.pipe);
        self.through[me] = self.through[me].max(tick);
    }

    /// An engine is told what another knew.
    fn tell(&mut self, me: usize, clock: &Clock) {
        self.through[me] = self.through[me].max(clock.lanes[me]);
        self.engines[me].join(clock);
    }

    /// An instruction begins: it knows what its engine did before, what the scalar unit knew when it issued it, and what it
    /// waited for.
    pub(super) fn begin(&mut self, next: Next, body: &Body) {
        let me = lane(next.unit, next.pipe);
        self.ticks[me] += 1;
        if next.pipe != Pipe::S {
            let issues = &self.issues[next.unit as usize];
            let before = issues.partition_point(|(index, _)| *index < next.index);
            if let Some((_, clock)) = before.checked_sub(1).and_then(|at| issues.get(at)).copied() {
                self.tell(me, &clock);
            }
        }
        match body {
            Body::WaitFlag(from, to, id) => {
                if let Some(queue) = self.flags.get_mut(&(next.unit, *from, *to, *id))
                    && !queue.is_empty()
                {
                    let clock = queue.remove(0);
                    self.tell(me, &clock);
                }
            }
            Body::CrossWait(_, mode, id) => {
                let turns = self.waited.entry((next.unit, *mode, *id)).or_default();
                let turn = *turns;
                *turns += 1;
                for source in sources(next.unit, *mode) {
                    let clock = self.crossings.get(&(*source, *mode, *id)).and_then(|all| all.get(turn)).copied();
                    if let Some(clock) = clock {
                        self.tell(me, &clock);
                    }
                }
                if *mode == Mode::Everywhere {
                    let turns = u16::try_from(turn + 1).unwrap_or(u16::MAX);
                    self.engines[me].passed[barrier(next.unit, *id)] = turns;
                }
            }
            Body::Lock(_, id) => {
                if let Some(clock) = self.unlocked.get(&(next.unit, *id)).copied() {
                    self.tell(me, &clock);
                }
            }
            Body::Barrier(Barrier::Pipe(_)) => self.through[me] = self.ticks[me],
            Body::Barrier(Barrier::All) => {
                let lanes = next.unit.pipes().iter().map(|&pipe| lane(next.unit, pipe));
                let mut all = Clock::default();
                lanes.clone().for_each(|lane| all.join(&self.engines[lane]));
                lanes.for_each(|lane| {
                    self.engines[lane] = all;
                    self.through[lane] = self.ticks[lane];
                });
            }
            body => {
                if let Couple::Product { at, begins: true, .. } | Couple::Fetch { at } = Couple::of(body)
                    && let Some(clock) = self.coupled.get(&at)
                {
                    self.engines[me].join(clock);
                }
            }
        }
    }

    /// It is through: its engine knows it, and whoever waits will.
    pub(super) fn end(&mut self, next: Next, body: &Body) {
        let me = lane(next.unit, next.pipe);
        self.engines[me].lanes[me] = self.ticks[me];
        let clock = self.engines[me];
        if next.pipe == Pipe::S {
            self.issues[next.unit as usize].push((next.index, clock));
        }
        match body {
            Body::SetFlag(from, to, id) => self.flags.entry((next.unit, *from, *to, *id)).or_default().push(clock),
            Body::CrossSet(_, mode, id) => {
                if *mode == Mode::Everywhere {
                    self.arrivals.entry((barrier(next.unit, *id), next.unit)).or_default().push(clock);
                }
                self.crossings.entry((next.unit, *mode, *id)).or_default().push(clock);
            }
            Body::Unlock(_, id) => {
                self.unlocked.insert((next.unit, *id), clock);
            }
            body => {
                if let Couple::Product { at, ends: true, .. } | Couple::Fetch { at } = Couple::of(body) {
                    self.coupled.insert(at, clock);
                }
            }
        }
    }
    /// What the core knew at its barriers of all cores. A barrier of vector halves is reached when both are there.
    pub(super) fn into_arrivals(self) -> Arrivals {
        let mut all = Arrivals::default();
        for ((flag, unit), clocks) in self.arrivals {
            let known = all.0.entry(flag).or_default();
            if known.is_empty() || unit == Unit::Aic {
                *known = clocks;
            } else {
                known.truncate(clocks.len());
                known.iter_mut().zip(&clocks).for_each(|(known, clock)| known.join(clock));
            }
        }
        all
    }
}

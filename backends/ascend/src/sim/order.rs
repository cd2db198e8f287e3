//! Which instruction of a core may run next.
//!
//! Each engine runs its own instructions in order. The scalar unit issues: what comes behind one of its instructions starts
//! when that is through. Flags and barriers hold back the rest. Everything that this leaves open is a schedule: any one that
//! [`Order`] allows could happen on the machine.

use crate::isa::{Barrier, Body, Fix, Init, Mmad, Mode, Pipe, Unit, UnitFlag};
use crate::kernel::Program;

/// An instruction of a core: its unit, its engine, its place among the unit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) unit: Unit,
    pub(crate) pipe: Pipe,
    pub(crate) index: usize,
}

/// Flags of a pair of engines that can be told apart.
const FLAGS: usize = 16;
const PIPES: usize = Pipe::ALL.len();

/// How often a unit set and waited, by mode and number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crossings {
    sets: Vec<(Unit, Mode, u8, u32)>,
    waits: Vec<(Unit, Mode, u8, u32)>,
}

fn count(all: &[(Unit, Mode, u8, u32)], unit: Unit, mode: Mode, id: u8) -> u32 {
    all.iter().find(|(u, m, i, _)| (*u, *m, *i) == (unit, mode, id)).map_or(0, |(.., n)| *n)
}

fn more(all: &mut Vec<(Unit, Mode, u8, u32)>, unit: Unit, mode: Mode, id: u8) -> u32 {
    match all.iter_mut().find(|(u, m, i, _)| (*u, *m, *i) == (unit, mode, id)) {
        Some((.., n)) => {
            *n += 1;
            *n
        }
        None => {
            all.push((unit, mode, id, 1));
            1
        }
    }
}

impl Crossings {
    pub(crate) fn sets(&self, unit: Unit, mode: Mode, id: u8) -> u32 {
        count(&self.sets, unit, mode, id)
    }

    pub(crate) fn waits(&self, unit: Unit, mode: Mode, id: u8) -> u32 {
        count(&self.waits, unit, mode, id)
    }

    /// Sets that nobody has waited for, with their number.
    pub(crate) fn left(&self) -> Vec<(Unit, Mode, u8, u32)> {
        let waiters = |unit, mode| Unit::ALL.into_iter().filter(move |&other| sources(other, mode).contains(&unit));
        let all = self.sets.iter().map(|&(unit, mode, id, sets)| {
            let waited = waiters(unit, mode).map(|other| self.waits(other, mode, id)).min().unwrap_or(0);
            (unit, mode, id, sets.saturating_sub(waited))
        });
        all.filter(|(.., left)| *left > 0).collect()
    }
}

/// Units of its core whose sets a unit waits for.
pub(crate) fn sources(waiter: Unit, mode: Mode) -> &'static [Unit] {
    match (mode, waiter) {
        (Mode::Everywhere, Unit::Aic) => &[Unit::Aic],
        (Mode::Everywhere | Mode::Vectors, Unit::Aiv0 | Unit::Aiv1) => &[Unit::Aiv0, Unit::Aiv1],
        (Mode::Vectors, Unit::Aic) => &[],
        (Mode::Core, Unit::Aic) => &[Unit::Aiv0, Unit::Aiv1],
        (Mode::Half(0), Unit::Aic) => &[Unit::Aiv0],
        (Mode::Half(_), Unit::Aic) => &[Unit::Aiv1],
        (Mode::Half(0), Unit::Aiv1) | (Mode::Half(1..), Unit::Aiv0) => &[],
        (Mode::Core | Mode::Half(_), _) => &[Unit::Aic],
    }
}

/// How sums are handed from the cube to FixPipe without flags between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Couple {
    /// Not at all.
    None,
    /// A product that begins sums at this place, ends them, or both.
    Product { at: u32, begins: bool, ends: bool },
    /// A transfer of them.
    Fetch { at: u32 },
}

impl Couple {
    /// Of an instruction.
    pub(crate) fn of(body: &Body) -> Couple {
        match body {
            Body::Mmad(Mmad { unit_flag: UnitFlag::Off, .. }) | Body::Fix(Fix { unit_flag: UnitFlag::Off, .. }) => {
                Couple::None
            }
            Body::Mmad(Mmad { to, init, unit_flag, .. }) => {
                Couple::Product { at: to.at, begins: *init != Init::Accumulate, ends: *unit_flag == UnitFlag::Last }
            }
            Body::Fix(fix) => Couple::Fetch { at: fix.from.at },
            _ => Couple::None,
        }
    }
}

/// Where a core is.
#[derive(Debug)]
pub(crate) struct Order<'p> {
    program: &'p Program,
    /// By unit and engine: its instructions, and how many are through.
    lists: Vec<(Vec<u32>, usize)>,
    /// By unit: flags that are set.
    flags: Vec<u8>,
    /// Which engine holds a lock.
    locks: Vec<(Unit, u8, Pipe)>,
    /// Places of coupled sums that are there and were not fetched.
    coupled: Vec<u32>,
    pub(crate) crossings: Crossings,
    left: usize,
}

impl<'p> Order<'p> {
    pub(crate) fn new(program: &'p Program) -> Order<'p> {
        let mut lists: Vec<(Vec<u32>, usize)> = vec![(Vec::new(), 0); 3 * PIPES];
        for unit in Unit::ALL {
            for (index, instr) in program.unit(unit).iter().enumerate() {
                match instr.pipe() {
                    Some(pipe) => lists[slot(unit, pipe)].0.push(index as u32),
                    None => Pipe::ALL.iter().for_each(|&pipe| lists[slot(unit, pipe)].0.push(index as u32)),
                }
            }
        }
        let left = program.units.iter().map(Vec::len).sum();
        let flags = vec![0; 3 * PIPES * PIPES * FLAGS];
        Order { program, lists, flags, locks: Vec::new(), coupled: Vec::new(), crossings: Crossings::default(), left }
    }

    /// Instructions that are not through.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    fn head(&self, unit: Unit, pipe: Pipe) -> Option<usize> {
        let (list, done) = &self.lists[slot(unit, pipe)];
        list.get(*done).map(|&index| index as usize)
    }

    /// The next instruction of an engine, whether or not it may run.
    pub(crate) fn waiting(&self, unit: Unit, pipe: Pipe) -> Option<Next> {
        self.head(unit, pipe).map(|index| Next { unit, pipe, index })
    }

    /// The next instruction of an engine, if it may run. A barrier of all is the scalar unit's.
    pub(crate) fn ready(&self, unit: Unit, pipe: Pipe, everywhere: &dyn Fn(Unit, u8) -> u32) -> Option<Next> {
        let index = self.head(unit, pipe)?;
        if pipe != Pipe::S && self.head(unit, Pipe::S).is_some_and(|scalar| scalar < index) {
            return None;
        }
        let free = match &self.program.unit(unit)[index].body {
            Body::WaitFlag(from, to, id) => self.flags[flag(unit, *from, *to, *id)] > 0,
            Body::CrossWait(_, Mode::Everywhere, id) => {
                everywhere(unit, *id) > self.crossings.waits(unit, Mode::Everywhere, *id)
            }
            Body::CrossWait(_, mode, id) => {
                let next = self.crossings.waits(unit, *mode, *id) + 1;
                let from = sources(unit, *mode);
                !from.is_empty() && from.iter().all(|&other| self.crossings.sets(other, *mode, *id) >= next)
            }
            Body::Lock(_, id) => !self.locks.iter().any(|(u, i, _)| (*u, *i) == (unit, *id)),
            Body::Barrier(Barrier::All) => {
                pipe == Pipe::S && Pipe::ALL.iter().all(|&other| self.head(unit, other) == Some(index))
            }
            body => match Couple::of(body) {
                Couple::None | Couple::Product { begins: false, .. } => true,
                Couple::Product { at, .. } => !self.coupled.contains(&at),
                Couple::Fetch { at } => self.coupled.contains(&at),
            },
        };
        free.then_some(Next { unit, pipe, index })
    }

    /// An instruction is through.
    pub(crate) fn complete(&mut self, next: Next) {
        let Next { unit, pipe, index } = next;
        self.left -= 1;
        match &self.program.unit(unit)[index].body {
            Body::Barrier(Barrier::All) => {
                Pipe::ALL.iter().for_each(|&other| self.lists[slot(unit, other)].1 += 1);
                return;
            }
            Body::SetFlag(from, to, id) => {
                let flag = &mut self.flags[flag(unit, *from, *to, *id)];
                *flag = flag.saturating_add(1);
            }
            Body::WaitFlag(from, to, id) => {
                let flag = &mut self.flags[flag(unit, *from, *to, *id)];
                *flag = flag.saturating_sub(1);
            }
            Body::CrossSet(_, mode, id) => {
                more(&mut self.crossings.sets, unit, *mode, *id);
            }
            Body::CrossWait(_, mode, id) => {
                more(&mut self.crossings.waits, unit, *mode, *id);
            }
            Body::Lock(pipe, id) => self.locks.push((unit, *id, *pipe)),
            Body::Unlock(_, id) => self.locks.retain(|(u, i, _)| (*u, *i) != (unit, *id)),
            body => match Couple::of(body) {
                Couple::Product { at, ends: true, .. } => self.coupled.push(at),
                Couple::Fetch { at } => self.coupled.retain(|place| *place != at),
                _ => {}
            },
        }
        self.lists[slot(unit, pipe)].1 += 1;
    }

    /// Locks that are held.
    pub(crate) fn locks_left(&self) -> impl Iterator<Item = (Unit, Pipe, u8)> {
        self.locks.iter().map(|&(unit, id, pipe)| (unit, pipe, id))
    }

    /// Flags that are set and were not waited for: unit, engines, number.
    pub(crate) fn flags_left(&self) -> Vec<(Unit, Pipe, Pipe, u8)> {
        let mut all = Vec::new();
        for unit in Unit::ALL {
            for from in Pipe::ALL {
                for to in Pipe::ALL {
                    let set = |id: &u8| self.flags[flag(unit, from, to, *id)] > 0;
                    all.extend((0..FLAGS as u8).filter(set).map(|id| (unit, from, to, id)));
                }
            }
        }
        all
    }
}

fn slot(unit: Unit, pipe: Pipe) -> usize {
    unit as usize * PIPES + pipe as usize
}

fn flag(unit: Unit, from: Pipe, to: Pipe, id: u8) -> usize {
    ((unit as usize * PIPES + from as usize) * PIPES + to as usize) * FLAGS + usize::from(id) % FLAGS
}

/// Who goes first where several may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Each unit as far as it can, engine by engine.
    InOrder,
    /// As the cycle model has it: by the time at which instructions are through.
    Timed,
    /// Anyone, drawn by this seed.
    Adversarial(u64),
}

/// A schedule's draws: SplitMix64, so that a seed gives the same everywhere.
#[derive(Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64, core: usize) -> Draw {
        Draw(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (core as u64) << 32)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

//! Flags: whether they pair (E6), and what is waited for in vain (E7).

use super::Found;
use super::clock::{Clocks, lane};
use crate::isa::{Body, Instr, Mode, Pipe, Unit};
use crate::kernel::Program;
use crate::sim::hazard::Code;
use crate::sim::order::{Couple, Next, Order, sources};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Sets between units that may wait at most.
const MOST_CROSSINGS: usize = 15;
/// Numbers of flags that kernels may use; two more are reserved.
const NUMBERS: u8 = 8;
const RESERVED: u8 = 6;
/// Numbers of flags between units.
const CROSSINGS: u8 = 16;

/// Flags of a core.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// By key: sets seen, with the last one; and the last wait, as its engine's instruction.
    pairs: BTreeMap<(Unit, Pipe, Pipe, u8), Pair>,
    /// Sets and waits of flags between units, by who does it, mode and number.
    sets: BTreeMap<(Unit, Mode, u8), Steps>,
    waits: BTreeMap<(Unit, Mode, u8), Steps>,
    /// Locks that engines hold.
    held: BTreeSet<(Unit, Pipe, u8)>,
}

/// Steps of one kind on a flag between units.
#[derive(Debug, Default)]
struct Steps {
    count: usize,
    /// The last of them, the newest behind.
    last: VecDeque<(Next, u32)>,
}

impl Steps {
    /// Counts one more; gives one that is in no order with it.
    fn step(&mut self, next: Next, clocks: &Clocks) -> Option<Next> {
        let before = self.last.back().copied();
        self.count += 1;
        self.last.push_back((next, clocks.tick(next)));
        if self.last.len() > MOST_CROSSINGS + 1 {
            self.last.pop_front();
        }
        let other = before.filter(|(other, _)| other.pipe != next.pipe);
        other
            .filter(|(other, tick)| !clocks.of(next).knows(lane(other.unit, other.pipe), *tick))
            .map(|(other, _)| other)
    }

    /// Whether an instruction knows that step `number` is through.
    fn is_through(&self, number: usize, next: Next, clocks: &Clocks) -> bool {
        let behind = self.count.checked_sub(number).and_then(|n| self.last.len().checked_sub(n + 1));
        let step = behind.and_then(|at| self.last.get(at));
        step.is_some_and(|(other, tick)| clocks.of(next).knows(lane(other.unit, other.pipe), *tick))
    }
}

#[derive(Debug, Default)]
struct Pair {
    sets: usize,
    waits: Vec<(usize, u32, Next)>,
}

impl Flags {
    pub(super) fn observe(&mut self, next: Next, instr: &Instr, clocks: &Clocks) -> Vec<Found> {
        let mut found = Vec::new();
        match &instr.body {
            Body::SetFlag(from, to, id) | Body::WaitFlag(from, to, id) if *id >= NUMBERS || from == to => {
                let detail = format!("flags {from} to {to} go from 0 to {}, of two engines; got {id}", NUMBERS - 1);
                found.push(Found::new(Code::FlagMisuse, detail));
            }
            Body::SetFlag(from, to, id) if (RESERVED..NUMBERS).contains(id) => {
                found.push(Found::new(Code::FlagMisuse, format!("flag {id} of {from} to {to} is the framework's")));
            }
            Body::CrossSet(_, mode, id) | Body::CrossWait(_, mode, id) => {
                if *id >= CROSSINGS {
                    let detail = format!("flags between units go from 0 to {}; got {id}", CROSSINGS - 1);
                    found.push(Found::new(Code::FlagMisuse, detail));
                }
                if let Mode::Half(half @ 2..) = mode {
                    let detail = format!("a core has vector halves 0 and 1; got {half}");
                    found.push(Found::new(Code::FlagMisuse, detail));
                }
            }
            // An engine does its own in order, so whether it holds a lock does not depend on what others did.
            Body::Lock(pipe, id) => {
                self.held.insert((next.unit, *pipe, *id));
            }
            Body::Unlock(pipe, id) => {
                let held = self.held.remove(&(next.unit, *pipe, *id));
                let detail = || format!("{pipe} gives up lock {id}, which it does not hold");
                found.extend((!held).then(|| Found::new(Code::FlagMisuse, detail())));
            }
            _ => {}
        }
        match &instr.body {
            Body::SetFlag(from, to, id) => {
                let pair = self.pairs.entry((next.unit, *from, *to, *id)).or_default();
                pair.sets += 1;
                // The wait before last need not be looked at: this engine's last set came behind it.
                let before = pair.sets.checked_sub(1).filter(|&n| n > 0);
                let known = before.map(|n| {
                    let wait = pair.waits.iter().find(|(number, ..)| *number == n);
                    wait.is_some_and(|(_, tick, wait)| clocks.of(next).knows(lane(wait.unit, wait.pipe), *tick))
                });
                if known == Some(false) {
                    let detail =
                        format!("flag {id} of {from} to {to} is set while the last set may not have been waited for");
                    found.push(Found::new(Code::FlagMisuse, detail));
                }
            }
            Body::WaitFlag(from, to, id) => {
                let pair = self.pairs.entry((next.unit, *from, *to, *id)).or_default();
                let number = pair.waits.last().map_or(1, |(number, ..)| number + 1);
                pair.waits.push((number, clocks.tick(next), next));
                let old = pair.waits.len().saturating_sub(2);
                pair.waits.drain(..old);
            }
            Body::CrossSet(_, mode, id) => {
                let key = (*mode, *id);
                let steps = self.sets.entry((next.unit, key.0, key.1)).or_default();
                let other = steps.step(next, clocks);
                found.extend(other.map(|other| unordered("set", other, next, *id)));
                let number = steps.count;
                let full = |waiter: &Unit| {
                    let waits = self.waits.get(&(*waiter, key.0, key.1));
                    sources(*waiter, *mode).contains(&next.unit)
                        && !waits.is_some_and(|waits| waits.is_through(number - MOST_CROSSINGS, next, clocks))
                };
                if number > MOST_CROSSINGS && Unit::ALL.iter().any(full) {
                    let detail = format!(
                        "flag {id} counts to {MOST_CROSSINGS}; this is set {number}, and nothing says that {} were waited for",
                        number - MOST_CROSSINGS
                    );
                    found.push(Found::new(Code::FlagMisuse, detail));
                }
            }
            Body::CrossWait(_, mode, id) => {
                let other = self.waits.entry((next.unit, *mode, *id)).or_default().step(next, clocks);
                found.extend(other.map(|other| unordered("wait for", other, next, *id)));
            }
            _ => {}
        }
        found
    }
}

/// Two engines take turns at a flag, and nothing says whose turn is first.
fn unordered(what: &str, other: Next, next: Next, id: u8) -> Found {
    let detail = format!("{} and {} both {what} flag {id}, and nothing orders them", other.pipe, next.pipe);
    Found { with: Some(other), ..Found::new(Code::FlagMisuse, detail) }
}

/// What is left when nothing runs any more: flags without a wait, and waits without a flag.
pub(crate) fn at_exit(program: &Program, order: &Order<'_>) -> Vec<(Next, Code, String)> {
    let mut all = Vec::new();
    let last = |unit: Unit, is: &dyn Fn(&Body) -> bool| {
        program.unit(unit).iter().rposition(|instr| is(&instr.body)).map(|index| {
            let pipe = program.unit(unit)[index].pipe().unwrap_or(Pipe::S);
            Next { unit, pipe, index }
        })
    };
    let stuck =
        Unit::ALL.into_iter().flat_map(|unit| Pipe::ALL.into_iter().filter_map(move |pipe| order.waiting(unit, pipe)));
    let stuck: Vec<Next> = stuck.collect();
    for next in &stuck {
        let why = match &program.unit(next.unit)[next.index].body {
            Body::WaitFlag(from, to, id) => {
                format!("{to} waits for flag {id} of {from}, which waits as well or has none to set")
            }
            Body::CrossWait(pipe, mode, id) => format!("{pipe} waits for flag {id} of other units ({mode:?})"),
            Body::Lock(pipe, id) => format!("{pipe} waits for lock {id}"),
            _ if !next.unit.pipes().contains(&next.pipe) => {
                all.push((*next, Code::NoPath, format!("{} has no engine {}", next.unit, next.pipe)));
                continue;
            }
            body if Couple::of(body) != Couple::None => {
                let why = "the other of product and transfer has no unit flag".into();
                all.push((*next, Code::UnitFlagMismatch, why));
                continue;
            }
            // Whoever waits behind these is not the cause.
            _ => continue,
        };
        all.push((*next, Code::Deadlock, why));
    }
    if !stuck.is_empty() {
        return all;
    }
    for (unit, from, to, id) in order.flags_left() {
        let is = |body: &Body| matches!(body, Body::SetFlag(f, t, i) if (*f, *t, *i) == (from, to, id));
        let why = format!("flag {id} of {from} to {to} is set at the end and nobody waited for it");
        all.extend(last(unit, &is).map(|next| (next, Code::FlagMisuse, why)));
    }
    for (unit, pipe, id) in order.locks_left() {
        let is = |body: &Body| matches!(body, Body::Lock(p, i) if (*p, *i) == (pipe, id));
        let why = format!("{pipe} holds lock {id} at the end");
        all.extend(last(unit, &is).map(|next| (next, Code::FlagMisuse, why)));
    }
    for (unit, mode, id, left) in order.crossings.left() {
        let is = |body: &Body| matches!(body, Body::CrossSet(_, m, i) if (*m, *i) == (mode, id));
        let why = format!("flag {id} to other units ({mode:?}) was set {left} times more than it was waited for");
        all.extend(last(unit, &is).map(|next| (next, Code::FlagMisuse, why)));
    }
    all
}

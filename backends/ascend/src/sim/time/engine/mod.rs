//! Time: engines run what they were given, in order, as soon as flags, the scalar unit and the memory let them.
//!
//! Times are in cycles. All arithmetic is of single operations of f64 in a fixed order, so that a launch takes the same time
//! on any host.

mod handing;

use super::fluid::{Fluid, Limits};
use super::l2::L2;
use super::step::{Steps, What};
use super::{Arrow, Span, Totals};
use crate::isa::{Mode, Pipe, Unit};
use crate::machine::Figures;
use crate::sim::order::{Couple, Next};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;

const PIPES: usize = Pipe::ALL.len();
/// Flags of a pair of engines that can be told apart.
const FLAGS: usize = 16;

/// A moment as a key: no time is negative, so bits order as numbers do.
fn key(time: f64) -> u64 {
    time.max(0.0).to_bits()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// An engine's instruction is through.
    Done(u32),
    /// A transfer's first byte moves.
    Flow(u32),
    /// A unit may have something to do.
    Wake(u32),
}

/// An engine.
#[derive(Clone, Copy, Debug, Default)]
struct Engine {
    /// How many of its instructions are through.
    next: usize,
    busy: bool,
    /// When its instruction began.
    began: f64,
    /// When the last byte that it asked for is there.
    settled: f64,
    /// From the last byte that moves to when it is there.
    latency: f64,
    /// Bytes that came from behind L2 of late, and all bytes of late.
    late: (f64, f64),
    /// Bytes of its instruction, and those of them from behind L2.
    moved: (f64, f64),
    total: f64,
}

/// A unit of a core.
#[derive(Debug, Default)]
struct Half {
    engines: [Engine; PIPES],
    /// By pair of engines and number: when sets are seen, and when they were made.
    flags: BTreeMap<(Pipe, Pipe, u8), Vec<(f64, f64)>>,
    /// The scalar unit issues from this instruction on, at this time.
    issue: (usize, f64),
    locks: Vec<u8>,
    /// By place: when coupled sums are there, and when they were last fetched.
    coupled: BTreeMap<u32, (Option<f64>, f64)>,
    waits: BTreeMap<(Mode, u8), usize>,
}

/// A set of a flag between units: when it is seen, when it was made, by which engine.
type Crossing = (f64, f64, Pipe);

/// All cores of a launch in time.
pub(super) struct Machine<'a> {
    figures: &'a Figures,
    steps: &'a [[Steps; 3]],
    halves: Vec<Half>,
    /// By unit, mode and number: when sets are seen.
    crossings: BTreeMap<(u32, Mode, u8), Vec<Crossing>>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    serial: u64,
    fluid: Fluid,
    l2: L2,
    now: f64,
    /// Units that may have something to do.
    ready: Vec<u32>,
    pub(super) totals: Totals,
    pub(super) spans: Option<Vec<Span>>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) order: Option<Vec<Vec<Next>>>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(figures: &'a Figures, steps: &'a [[Steps; 3]]) -> Machine<'a> {
        Machine {
            figures,
            steps,
            halves: (0..3 * steps.len()).map(|_| Half::default()).collect(),
            crossings: BTreeMap::new(),
            events: BinaryHeap::new(),
            serial: 0,
            fluid: Fluid::new(Limits::of(figures), steps.len()),
            l2: L2::new(figures.l2 as u64, figures.l2_line as u64),
            now: 0.0,
            ready: (0..3 * steps.len() as u32).collect(),
            totals: Totals::default(),
            spans: None,
            arrows: Vec::new(),
            order: None,
        }
    }

    fn at(&mut self, time: f64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((key(time), self.serial, event)));
    }

    fn steps_of(&self, half: u32) -> &'a Steps {
        &self.steps[half as usize / 3][half as usize % 3]
    }

    /// Runs until nothing goes on; gives how many cycles that took.
    pub(super) fn run(&mut self) -> f64 {
        let mut through = Vec::new();
        loop {
            // Units that were woken at one time are looked at in their order, whoever woke them.
            while !self.ready.is_empty() {
                let mut ready = std::mem::take(&mut self.ready);
                ready.sort_unstable();
                ready.dedup();
                ready.into_iter().for_each(|half| self.advance(half));
            }
            let event = self.events.peek().map(|Reverse((time, ..))| f64::from_bits(*time));
            let flow = self.fluid.next().map(|cycles| self.now + cycles);
            let Some(time) = [event, flow].into_iter().flatten().min_by(f64::total_cmp) else { break };
            self.fluid.advance(time - self.now);
            self.now = time;
            if flow.is_some_and(|flow| flow <= time) {
                self.fluid.finished(&mut through);
                for engine in through.drain(..) {
                    self.done(engine);
                }
            }
            while let Some(Reverse((at, _, event))) = self.events.peek().copied() {
                if at > key(time) {
                    break;
                }
                self.events.pop();
                match event {
                    Event::Done(engine) => self.done(engine),
                    Event::Flow(engine) => self.flow(engine),
                    Event::Wake(half) => self.ready.push(half),
                }
            }
        }
        let settled = self.halves.iter().flat_map(|half| &half.engines).map(|engine| engine.settled);
        let end = settled.fold(self.now, f64::max);
        self.totals.busy = self.busy();
        end
    }

    fn busy(&self) -> BTreeMap<(Unit, Pipe), f64> {
        let mut all = BTreeMap::new();
        for (number, half) in self.halves.iter().enumerate() {
            for (pipe, engine) in Pipe::ALL.iter().zip(&half.engines) {
                if engine.total > 0.0 {
                    *all.entry((Unit::ALL[number % 3], *pipe)).or_default() += engine.total;
                }
            }
        }
        all
    }

    /// Starts whatever a unit can start.
    fn advance(&mut self, half: u32) {
        let mut again = true;
        while again {
            again = false;
            for pipe in Pipe::ALL {
                while self.start(half, pipe) {
                    again = true;
                }
            }
        }
    }

    /// Starts an engine's next instruction; gives whether one was passed at once.
    fn start(&mut self, half: u32, pipe: Pipe) -> bool {
        let steps = self.steps_of(half);
        let unit = &self.halves[half as usize];
        let engine = unit.engines[pipe as usize];
        let Some(index) = steps.lists[pipe as usize].get(engine.next).map(|&index| index as usize) else {
            return false;
        };
        if engine.busy {
            return false;
        }
        if pipe != Pipe::S {
            let scalar = steps.lists[Pipe::S as usize].get(unit.engines[Pipe::S as usize].next);
            if scalar.is_some_and(|&scalar| (scalar as usize) < index) {
                return false;
            }
        }
        let issues = |index: usize| f64::from(steps.issued.get(index).copied().unwrap_or_default());
        let issued = unit.issue.1 + (issues(index) - issues(unit.issue.0)).max(0.0) * self.figures.scalar;
        if issued > self.now {
            self.at(issued, Event::Wake(half));
            return false;
        }
        let step = steps.all[index];
        match step.what {
            What::Set(from, to, id) => {
                let seen = self.now.max(engine.settled) + self.figures.flag;
                self.halves[half as usize]
                    .flags
                    .entry((from, to, id % FLAGS as u8))
                    .or_default()
                    .push((seen, self.now));
                self.at(seen, Event::Wake(half));
                self.pass(half, pipe, index)
            }
            What::Wait(from, to, id) => {
                let Some(queue) = self.halves[half as usize].flags.get_mut(&(from, to, id % FLAGS as u8)) else {
                    return false;
                };
                match queue.first().copied() {
                    Some((seen, set)) if seen <= self.now => {
                        queue.remove(0);
                        self.arrow(half, (half, from), (half, to), set);
                        self.pass(half, pipe, index)
                    }
                    _ => false,
                }
            }
            What::CrossSet(mode, id) => {
                let seen = self.now.max(engine.settled) + self.figures.cross_core_flag;
                self.crossings.entry((half, mode, id)).or_default().push((seen, self.now, pipe));
                let first =
                    if mode == Mode::Everywhere { 0..self.halves.len() as u32 } else { half / 3 * 3..half / 3 * 3 + 3 };
                first.for_each(|other| self.at(seen, Event::Wake(other)));
                self.pass(half, pipe, index)
            }
            What::CrossWait(mode, id) => {
                if !self.crossed(half, mode, id) {
                    return false;
                }
                self.crossing_arrows(half, pipe, mode, id);
                *self.halves[half as usize].waits.entry((mode, id)).or_default() += 1;
                self.pass(half, pipe, index)
            }
            What::Barrier => {
                if engine.settled > self.now {
                    self.at(engine.settled, Event::Wake(half));
                    return false;
                }
                self.begin(half, pipe, self.figures.barrier);
                false
            }
            What::BarrierAll => {
                let all = &self.halves[half as usize].engines;
                let here = |other: Pipe| {
                    !all[other as usize].busy
                        && steps.lists[other as usize].get(all[other as usize].next) == Some(&(index as u32))
                };
                if pipe != Pipe::S || !Pipe::ALL.into_iter().all(here) {
                    return false;
                }
                let settled = all.iter().map(|engine| engine.settled).fold(self.now, f64::max);
                if settled > self.now {
                    self.at(settled, Event::Wake(half));
                    return false;
                }
                self.begin(half, pipe, self.figures.barrier);
                false
            }
            What::Lock(id) => {
                if self.halves[half as usize].locks.contains(&id) {
                    return false;
                }
                self.halves[half as usize].locks.push(id);
                self.pass(half, pipe, index)
            }
            What::Unlock(id) => {
                self.halves[half as usize].locks.retain(|held| *held != id);
                self.pass(half, pipe, index)
            }
            What::Local(cycles) => {
                if !self.coupled(half, step.couple) {
                    return false;
                }
                self.begin(half, pipe, cycles);
                false
            }
            What::Transfer(number) => {
                if !self.coupled(half, step.couple) {
                    return false;
                }
                let issue = steps.transfers[number as usize].issue;
                let engine = &mut self.halves[half as usize].engines[pipe as usize];
                (engine.busy, engine.began) = (true, self.now);
                self.at(self.now + issue, Event::Flow(half * PIPES as u32 + pipe as u32));
                false
            }
        }
    }

    /// An instruction that takes no time of its own.
    fn pass(&mut self, half: u32, pipe: Pipe, index: usize) -> bool {
        self.finish(half, pipe, index, self.now, false);
        true
    }

    fn begin(&mut self, half: u32, pipe: Pipe, cycles: f64) {
        let engine = &mut self.halves[half as usize].engines[pipe as usize];
        (engine.busy, engine.began) = (true, self.now);
        self.at(self.now + cycles, Event::Done(half * PIPES as u32 + pipe as u32));
    }

    /// A transfer's first byte moves: which of its bytes are in L2 is found out now.
    fn flow(&mut self, engine: u32) {
        let (half, pipe) = (engine / PIPES as u32, (engine % PIPES as u32) as usize);
        let steps = self.steps_of(half);
        let index = steps.lists[pipe][self.halves[half as usize].engines[pipe].next];
        let What::Transfer(number) = steps.all[index as usize].what else { return };
        let transfer = steps.transfers[number as usize];
        let bytes = transfer.blocks.bytes() as f64;
        let missed = self.l2.touch(transfer.region, &transfer.blocks, transfer.write) as f64;
        // Lines that are read are fetched whole; of those that are written no more than is written goes on.
        let behind = if transfer.write { missed.min(bytes) } else { missed };
        self.totals.gm_bytes += bytes;
        self.totals.hbm_bytes += behind;
        if !transfer.write {
            self.totals.read_bytes += bytes;
            self.totals.hit_bytes += (bytes - missed).max(0.0);
        }
        let latency = match (transfer.write, missed > 0.0) {
            (true, _) => 0.0,
            (false, true) => self.figures.hbm_latency,
            (false, false) => self.figures.l2_latency,
        };
        let engine_state = &mut self.halves[half as usize].engines[pipe];
        engine_state.latency = latency;
        // Requests run ahead of the bytes that move: what is missing is fetched while others are found. Bytes are counted, not
        // transfers: small ones that are found do not make large ones cheaper.
        let kept = 1.0 - 1.0 / self.figures.mte2_ahead.max(1.0);
        let late = (engine_state.late.0 * kept + behind, engine_state.late.1 * kept + bytes);
        engine_state.late = late;
        let missed = late.0 / late.1.max(1.0);
        engine_state.moved = (bytes, behind);
        self.fluid.start(engine, half / 3, bytes, transfer.port, missed, transfer.write);
    }

    /// An engine's instruction is through.
    fn done(&mut self, engine: u32) {
        let (half, number) = (engine / PIPES as u32, (engine % PIPES as u32) as usize);
        let pipe = Pipe::ALL[number];
        let steps = self.steps_of(half);
        let index = steps.lists[number][self.halves[half as usize].engines[number].next] as usize;
        let began = self.halves[half as usize].engines[number].began;
        let state = &mut self.halves[half as usize].engines[number];
        state.busy = false;
        // Barriers are waiting, not work.
        let step = steps.all[index];
        if !matches!(step.what, What::Barrier | What::BarrierAll) {
            state.total += self.now - began;
        }
        state.settled = state.settled.max(self.now + std::mem::take(&mut state.latency));
        if let Couple::Product { at, ends: true, .. } = step.couple {
            let now = self.now;
            let entry = self.halves[half as usize].coupled.entry(at).or_default();
            entry.0 = Some(now);
        }
        if matches!(step.what, What::BarrierAll) {
            for other in Pipe::ALL.into_iter().filter(|other| *other != pipe) {
                self.halves[half as usize].engines[other as usize].next += 1;
            }
        }
        self.finish(half, pipe, index, began, true);
        self.ready.push(half);
    }

    fn finish(&mut self, half: u32, pipe: Pipe, index: usize, began: f64, shown: bool) {
        let unit = &mut self.halves[half as usize];
        unit.engines[pipe as usize].next += 1;
        if pipe == Pipe::S {
            unit.issue = (index + 1, self.now);
        }
        let next = Next { unit: Unit::ALL[half as usize % 3], pipe, index };
        if let Some(order) = &mut self.order {
            order[half as usize / 3].push(next);
        }
        let (bytes, missed) = std::mem::take(&mut unit.engines[pipe as usize].moved);
        if let (true, Some(spans)) = (shown, &mut self.spans) {
            spans.push(Span {
                core: half as usize / 3,
                unit: next.unit,
                pipe,
                index,
                began,
                ended: self.now,
                bytes,
                missed,
            });
        }
    }
}

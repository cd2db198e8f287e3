//! What engines and units hand one another: coupled sums, flags between units, and the arrows of a trace.

use super::{Arrow, Event, Machine};
use crate::isa::{Mode, Pipe, Unit};
use crate::sim::order::{Couple, sources};

impl Machine<'_> {
    /// Whether sums that are handed on without flags are where an instruction needs them.
    pub(super) fn coupled(&mut self, half: u32, couple: Couple) -> bool {
        let (now, head) = (self.now, self.figures.fixpipe_issue);
        let unit = &mut self.halves[half as usize];
        let wake = match couple {
            Couple::None => return true,
            Couple::Product { at, begins, .. } => {
                let (full, fetched) = *unit.coupled.entry(at).or_default();
                if !begins || (full.is_none() && fetched <= now) {
                    return true;
                }
                if full.is_some() { None } else { Some(fetched) }
            }
            Couple::Fetch { at } => {
                let entry = unit.coupled.entry(at).or_default();
                match entry.0 {
                    Some(full) if full <= now => {
                        // Rows go out ahead of those that the next product writes.
                        *entry = (None, now + head);
                        self.at(now + head, Event::Wake(half));
                        return true;
                    }
                    full => full,
                }
            }
        };
        if let Some(time) = wake {
            self.at(time, Event::Wake(half));
        }
        false
    }

    pub(super) fn crossed(&self, half: u32, mode: Mode, id: u8) -> bool {
        let unit = Unit::ALL[half as usize % 3];
        let turn = self.halves[half as usize].waits.get(&(mode, id)).copied().unwrap_or(0);
        let from = sources(unit, mode);
        let seen = |source: u32| {
            let set = self.crossings.get(&(source, mode, id)).and_then(|all| all.get(turn));
            set.is_some_and(|(time, ..)| *time <= self.now)
        };
        let cores = if mode == Mode::Everywhere { 0..self.steps.len() as u32 } else { half / 3..half / 3 + 1 };
        !from.is_empty() && cores.into_iter().all(|core| from.iter().all(|unit| seen(core * 3 + *unit as u32)))
    }

    pub(super) fn arrow(&mut self, half: u32, from: (u32, Pipe), to: (u32, Pipe), set: f64) {
        if self.spans.is_some() {
            let end = |(half, pipe): (u32, Pipe)| (Unit::ALL[half as usize % 3], pipe);
            self.arrows.push(Arrow { core: half as usize / 3, from: end(from), to: end(to), set, seen: self.now });
        }
    }

    pub(super) fn crossing_arrows(&mut self, half: u32, pipe: Pipe, mode: Mode, id: u8) {
        let turn = self.halves[half as usize].waits.get(&(mode, id)).copied().unwrap_or(0);
        for unit in sources(Unit::ALL[half as usize % 3], mode) {
            let source = half / 3 * 3 + *unit as u32;
            let set = self.crossings.get(&(source, mode, id)).and_then(|all| all.get(turn)).copied();
            if let Some((_, set, from)) = set {
                self.arrow(half, (source, from), (half, pipe), set);
            }
        }
    }
}

//! What is in the slots of a compressor's state after some rows: found by going back from the last row, as far as is needed.
//!
//! A kernel may go by positions and sequences, which lie in global memory before the launch. Rows that follow one another
//! are found after one window; others take as many looks as there are rows.

use crate::kernel::Context;
use std::collections::BTreeMap;

/// Where what is in a slot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A row of the call.
    Row(u32),
    /// A slot of the state before the call.
    State(u32),
}

impl Source {
    /// The source of the slot so many places behind, where both come in one piece.
    pub(super) fn plus(self, places: u32) -> Source {
        match self {
            Source::Row(row) => Source::Row(row + places),
            Source::State(slot) => Source::State(slot + places),
        }
    }
}

/// Slots whose sources follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// First slot.
    pub(super) slot: u32,
    /// How many.
    pub(super) slots: u32,
    /// Where the first comes from.
    pub(super) from: Source,
}

/// Runs of some sources, whose first is of slot `first`. None goes across a multiple of `most` slots.
pub(super) fn runs(sources: &[Source], first: u32, most: u32) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    for (slot, &from) in (first..).zip(sources) {
        match all.last_mut() {
            Some(run) if run.from.plus(run.slots) == from && slot % most != 0 => run.slots += 1,
            _ => all.push(Run { slot, slots: 1, from }),
        }
    }
    all
}

/// The rows of a call, as far as the kernel has looked at them.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) sequence: u16,
    pub(super) position: u16,
    /// Rows of the call.
    pub(super) count: u32,
    /// Sequences that there are.
    pub(super) sequences: u32,
    /// Tokens of a window.
    pub(super) ratio: u32,
    pub(super) overlap: bool,
    known: BTreeMap<u32, Option<(u32, u32)>>,
}

impl Rows {
    /// Rows whose sequences and positions lie in two operands.
    pub(super) fn new([sequence, position]: [u16; 2], count: u32, sequences: u32, ratio: u32, overlap: bool) -> Rows {
        Rows { sequence, position, count, sequences, ratio, overlap, known: BTreeMap::new() }
    }

    /// Sequence and position of a row, unless it changes nothing.
    fn get(&mut self, cx: &mut Context<'_>, row: u32) -> Option<(u32, u32)> {
        if let Some(known) = self.known.get(&row) {
            return *known;
        }
        let at = 4 * u64::from(row);
        let (sequence, position) = (cx.load_i32(self.sequence, at), cx.load_i32(self.position, at));
        let place = u32::try_from(sequence).ok().zip(u32::try_from(position).ok());
        let place = place.filter(|(sequence, _)| *sequence < self.sequences);
        self.known.insert(row, place);
        place
    }

    fn closes(&self, position: u32) -> bool {
        (position + 1).is_multiple_of(self.ratio)
    }

    /// The sequence whose window a row closes, with what is in its slots then.
    pub(super) fn window(&mut self, cx: &mut Context<'_>, row: i32) -> Option<(u32, Vec<Source>)> {
        let row = u32::try_from(row).ok().filter(|row| *row < self.count)?;
        let (sequence, position) = self.get(cx, row)?;
        self.closes(position).then(|| (sequence, self.slots(cx, sequence, row + 1, row)))
    }

    /// What is in a sequence's slots after the call.
    pub(super) fn last(&mut self, cx: &mut Context<'_>, sequence: u32) -> Vec<Source> {
        self.slots(cx, sequence, self.count, self.count)
    }

    /// After the rows before `end`; windows that closed before row `closed` have become the one before.
    fn slots(&mut self, cx: &mut Context<'_>, sequence: u32, end: u32, closed: u32) -> Vec<Source> {
        let ratio = self.ratio as usize;
        let mut current = vec![None; ratio];
        let mut before = vec![None; if self.overlap { ratio } else { 0 }];
        let mut missing = current.len() + before.len();
        let mut has_before = false;
        for row in (0..end).rev() {
            if missing == 0 {
                break;
            }
            let Some((_, position)) = self.get(cx, row).filter(|(own, _)| *own == sequence) else { continue };
            has_before |= row < closed && self.closes(position);
            let mut take = |slots: &mut [Option<u32>]| {
                let slot = slots.get_mut(position as usize % ratio).filter(|slot| slot.is_none());
                missing -= usize::from(slot.is_some());
                slot.into_iter().for_each(|slot| *slot = Some(row));
            };
            take(&mut current);
            if has_before {
                take(&mut before);
            }
        }
        let filled = |slots: Vec<Option<u32>>, first: u32| {
            (first..).zip(slots).map(|(slot, row)| row.map_or(Source::State(slot), Source::Row)).collect::<Vec<_>>()
        };
        let own = if self.overlap { self.ratio } else { 0 };
        let mut all = filled(before, if has_before { own } else { 0 });
        all.extend(filled(current, own));
        all
    }
}

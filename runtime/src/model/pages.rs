//! Who owns which page of a KV pool.

use crate::{Error, Result};
use anychip_core::PAGE_ENTRIES;

/// Pages of all pools of one compression ratio. Layers of that ratio have pools of their own with the same numbering.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Tokens per entry.
    ratio: usize,
    /// Pages of a sequence at most.
    width: usize,
    /// Page table, `[sequences, width]`, -1 for none.
    table: Vec<i32>,
    /// Pages that a sequence holds.
    held: Vec<usize>,
    free: Vec<i32>,
    /// Whether the table changed since it was last taken.
    dirty: bool,
}

impl Pages {
    /// `total` pages for `sequences` sequences of at most `entries` entries each.
    pub(crate) fn new(ratio: usize, sequences: usize, entries: usize, total: usize) -> Pages {
        let width = entries.div_ceil(PAGE_ENTRIES).max(1);
        Pages {
            ratio,
            width,
            table: vec![-1; sequences * width],
            held: vec![0; sequences],
            // Handed out from the back: the lowest page first.
            free: (0..total as i32).rev().collect(),
            dirty: true,
        }
    }

    /// Sizes of the table: sequences, pages.
    pub(crate) fn sizes(&self) -> [usize; 2] {
        [self.held.len(), self.width]
    }

    /// Pages that a sequence lacks to hold `entries` entries.
    pub(crate) fn lacking(&self, sequence: usize, entries: usize) -> usize {
        entries.div_ceil(PAGE_ENTRIES).saturating_sub(self.held[sequence])
    }

    /// Fails unless `needed` more pages are free.
    pub(crate) fn require(&self, needed: usize) -> Result<()> {
        if needed <= self.free.len() {
            return Ok(());
        }
        Err(Error::PoolExhausted { ratio: self.ratio, needed, free: self.free.len(), entries: PAGE_ENTRIES })
    }

    /// Gives a sequence pages until it holds `entries` entries; [`require`](Pages::require) has shown that there are enough.
    pub(crate) fn grow(&mut self, sequence: usize, entries: usize) {
        for _ in 0..self.lacking(sequence, entries) {
            let (Some(page), held) = (self.free.pop(), self.held[sequence]) else { return };
            self.table[sequence * self.width + held] = page;
            self.held[sequence] += 1;
            self.dirty = true;
        }
    }

    /// Takes all pages of a sequence back.
    pub(crate) fn release(&mut self, sequence: usize) {
        let row = &mut self.table[sequence * self.width..][..self.width];
        for slot in row.iter_mut().filter(|slot| **slot >= 0) {
            self.free.push(std::mem::replace(slot, -1));
        }
        self.held[sequence] = 0;
        self.dirty = true;
    }

    /// The table, if it changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Option<&[i32]> {
        std::mem::take(&mut self.dirty).then_some(&self.table[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_handed_out_and_taken_back() {
        let mut pages = Pages::new(4, 2, 200, 5);
        assert_eq!(pages.sizes(), [2, 4]);
        pages.grow(0, 65);
        pages.grow(1, 1);
        assert_eq!(pages.take_changes(), Some(&[0, 1, -1, -1, 2, -1, -1, -1][..]));
        assert_eq!(pages.take_changes(), None);
        assert!(pages.require(2).is_ok());
        assert!(matches!(pages.require(3), Err(Error::PoolExhausted { needed: 3, free: 2, .. })));
        pages.release(0);
        assert!(pages.require(4).is_ok());
        pages.grow(1, 65);
        assert_eq!(pages.take_changes().map(|t| t[4..6].iter().filter(|p| **p >= 0).count()), Some(2));
    }
}

//! Where rows go in a paged pool, as the scalar unit finds it.

use crate::kernel::{Context, LIST};
use anychip_core::PAGE_ENTRIES;
use std::collections::BTreeSet;

/// Lists of a launch that say where each row's entry lies.
pub(super) struct Slots {
    /// Entry of each row.
    pub(super) entries: u16,
    /// Sequence of each row.
    pub(super) sequence: u16,
    /// Page numbers of each sequence.
    pub(super) table: u16,
    /// Sequences, and pages of each.
    pub(super) sizes: [u64; 2],
    /// Pages of the pool.
    pub(super) pages: u64,
    pub(super) rows: u64,
}

/// Rows of a step whose entries follow one another in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Row of the step.
    pub(super) first: u32,
    pub(super) rows: u32,
    pub(super) page: u64,
    /// Entry within the page.
    pub(super) place: usize,
}

impl Slots {
    /// This unit's rows, in steps of at most `each`: first row, how many, and where they go. A row whose entry is outside the
    /// pool, or a later row's too, goes nowhere.
    pub(super) fn steps(&self, cx: &mut Context<'_>, each: u32) -> Vec<(u64, u32, Vec<Run>)> {
        let mine = cx.share(self.rows);
        if mine.is_empty() {
            return Vec::new();
        }
        let rest = self.rows - mine.start;
        let entries = cx.load_list(self.entries, 4 * mine.start, rest);
        let sequences = cx.load_list(self.sequence, 4 * mine.start, rest);
        let mut table = Table::of(self, cx);
        let mut taken = BTreeSet::new();
        let mut kept: Vec<(u64, (u64, usize))> = Vec::new();
        for (ahead, (entry, sequence)) in entries.into_iter().zip(sequences).enumerate().rev() {
            let row = mine.start + ahead as u64;
            let Some(slot) = self.locate(cx, &mut table, sequence, entry) else { continue };
            if taken.insert(slot) && row < mine.end {
                kept.push((row, slot));
            }
        }
        kept.reverse();
        steps(&kept, each)
    }

    /// Page and place of an entry.
    fn locate(&self, cx: &mut Context<'_>, table: &mut Table, sequence: i32, entry: i32) -> Option<(u64, usize)> {
        let (entry, sequence) = (usize::try_from(entry).ok()?, u64::try_from(sequence).ok()?);
        let [sequences, width] = self.sizes;
        let page = (entry / PAGE_ENTRIES) as u64;
        if sequence >= sequences || page >= width {
            return None;
        }
        let page = table.get(self.table, cx, sequence * width + page);
        let page = u64::try_from(page).ok().filter(|page| *page < self.pages)?;
        Some((page, entry % PAGE_ENTRIES))
    }
}

/// A page table as far as it is known.
enum Table {
    /// All of it.
    Whole(Vec<i32>),
    /// What was looked up last, and where. Neighbouring rows have the same page for a while.
    Last(Option<(u64, i32)>),
}

impl Table {
    fn of(slots: &Slots, cx: &mut Context<'_>) -> Table {
        let count = slots.sizes.iter().product();
        if count <= u64::from(LIST) { Table::Whole(cx.load_list(slots.table, 0, count)) } else { Table::Last(None) }
    }

    fn get(&mut self, region: u16, cx: &mut Context<'_>, index: u64) -> i32 {
        match self {
            Table::Whole(pages) => pages.get(index as usize).copied().unwrap_or(-1),
            Table::Last(Some((known, page))) if *known == index => *page,
            Table::Last(last) => last.insert((index, cx.load_i32(region, 4 * index))).1,
        }
    }
}

fn steps(kept: &[(u64, (u64, usize))], each: u32) -> Vec<(u64, u32, Vec<Run>)> {
    let mut all: Vec<(u64, u32, Vec<Run>)> = Vec::new();
    for &(row, (page, place)) in kept {
        let step = match all.last_mut() {
            Some(step) if row - step.0 < u64::from(each) => step,
            _ => {
                all.push((row, 0, Vec::new()));
                let Some(step) = all.last_mut() else { continue };
                step
            }
        };
        let inside = (row - step.0) as u32;
        match step.2.last_mut() {
            Some(run) if (run.first + run.rows, run.page, run.place + run.rows as usize) == (inside, page, place) => {
                run.rows += 1;
            }
            _ => step.2.push(Run { first: inside, rows: 1, page, place }),
        }
        step.1 = inside + 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_go_together() {
        let kept = [(3, (7, 60)), (4, (7, 61)), (5, (8, 62)), (7, (8, 63)), (8, (8, 64)), (9, (1, 0))];
        let run = |first, rows, page, place| Run { first, rows, page, place };
        let want = vec![
            (3, 5, vec![run(0, 2, 7, 60), run(2, 1, 8, 62), run(4, 1, 8, 63)]),
            (8, 2, vec![run(0, 1, 8, 64), run(1, 1, 1, 0)]),
        ];
        assert_eq!(steps(&kept, 5), want);
    }
}

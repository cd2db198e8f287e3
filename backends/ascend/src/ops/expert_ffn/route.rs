//! Which rows go to which expert: rows sorted by expert, and where each row's experts are among them.
//!
//! Each vector half takes adjacent rows. It counts how many go to each expert; sums over the halves before it say where its
//! own begin; then it writes them there. Choices are read by the scalar unit, lists are put together in UB.

use super::super::rows::room;
use crate::isa::{Body, Elem, Global, Pipe, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;

/// Choices whose lists lie in UB at a time at most.
const CHOICES: u32 = 4096;
/// Bytes of UB for a choice: its entry in two lists, and its place among the row's.
const CHOICE: u32 = 12;
/// Bytes that an expert's parts of both lists are rounded up by at most.
const ROUNDED: u32 = 2 * 28;
/// Experts whose counts are added at a time.
const EXPERTS: u32 = 4096;

/// Each row's experts and their weights, `[T, k]`.
#[derive(Clone, Copy)]
pub(super) struct Choices {
    pub(super) experts: Global,
    pub(super) weights: Global,
    /// Experts.
    pub(super) count: u32,
}

impl Choices {
    /// The expert of a row's choice, where there is one.
    fn expert(&self, cx: &mut Context<'_>, row: u64, choice: u32) -> Option<u32> {
        let Global { region, at, cols, .. } = self.experts;
        let expert = cx.load_i32(region, at + 4 * (row * u64::from(cols) + u64::from(choice)));
        u32::try_from(expert).ok().filter(|expert| *expert < self.count)
    }
}

/// A list in UB that the scalar unit writes.
struct List {
    tile: Tile,
}

impl List {
    fn new(cx: &mut Context<'_>, numbers: u32) -> List {
        List { tile: cx.ub(Elem::I32, 1, numbers) }
    }

    fn put(&self, cx: &mut Context<'_>, at: u32, value: i32) {
        let one = Tile { at: self.tile.at + 4 * at, cols: 1, pitch: 1, ..self.tile };
        cx.push(Body::ScalarStoreUb(one, value as u32));
    }

    fn part(&self, at: u32, numbers: u32) -> Tile {
        Tile { at: self.tile.at + 4 * at, cols: numbers, pitch: numbers, ..self.tile }
    }
}

/// Lists are written: they may be stored.
fn written(cx: &mut Context<'_>, from: Pipe, to: Pipe) {
    let flag = cx.flag(from, to);
    cx.set_flag(from, to, flag);
    cx.wait_flag(from, to, flag);
    cx.free_flag(from, to, flag);
}

/// How many of each vector half's rows go to each expert.
pub(super) struct Count {
    pub(super) choices: Choices,
    /// `[halves, E]`.
    pub(super) counts: Global,
    pub(super) cores: usize,
}

impl Kernel for Count {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let Choices { experts, count, .. } = self.choices;
        let mut counts = vec![0; count as usize];
        for row in cx.share(experts.rows.into()) {
            for choice in 0..experts.cols {
                if let Some(expert) = self.choices.expert(cx, row, choice) {
                    counts[expert as usize] += 1;
                }
            }
        }
        let list = List::new(cx, count);
        (0..count).zip(counts).for_each(|(expert, count)| list.put(cx, expert, count));
        written(cx, Pipe::S, Pipe::Mte3);
        cx.store(list.tile, self.counts.part(cx.lane() as u64, 1, 0, count));
    }
}

/// Sums over the halves before each, and over all.
pub(super) struct Begin {
    /// `[halves, E]`.
    pub(super) counts: Global,
    /// `[halves, E]`.
    pub(super) before: Global,
    /// `[1, E]`.
    pub(super) totals: Global,
}

impl Kernel for Begin {
    fn cores(&self) -> usize {
        1
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let Global { rows, cols: all, .. } = self.counts;
        let wide = all.min(EXPERTS);
        let mut loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 4 * wide.next_multiple_of(8), 2);
        let mut stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 4 * wide.next_multiple_of(8), 2);
        let sum = cx.ub(Elem::I32, 1, wide);
        for block in cx.share(all.div_ceil(wide).into()) {
            let first = block as u32 * wide;
            let cols = wide.min(all - first);
            let tile = |at| Tile::dense(Space::Ub, at, Elem::I32, 1, cols);
            let sum = tile(sum.at);
            cx.bcast(sum, 0);
            for row in 0..=rows {
                let to = tile(stores.alloc(cx));
                cx.copy(to, sum);
                stores.push(cx);
                stores.pop(cx);
                let out = if row < rows {
                    self.before.part(row.into(), 1, first, cols)
                } else {
                    self.totals.part(0, 1, first, cols)
                };
                cx.store(to, out);
                stores.free(cx);
                if row < rows {
                    let more = tile(loads.alloc(cx));
                    cx.load_ub(self.counts.part(row.into(), 1, first, cols), more);
                    loads.push(cx);
                    loads.pop(cx);
                    cx.add(sum, sum, more);
                    loads.free(cx);
                }
            }
        }
        loads.close(cx);
        stores.close(cx);
    }
}

/// The lists.
pub(super) struct Place {
    pub(super) choices: Choices,
    /// `[halves, E]`.
    pub(super) before: Global,
    /// `[1, E]`.
    pub(super) totals: Global,
    /// First place of each expert in the lists, and the end: `[1, E + 1]`.
    pub(super) offsets: Global,
    /// The row of each place, `[1, T k]`; -1 behind the last.
    pub(super) rows: Global,
    /// Its weight, as bits.
    pub(super) shares: Global,
    /// Places of each row's experts, ascending: `[k, T]`; -1 behind the last.
    pub(super) places: Global,
    pub(super) cores: usize,
}

impl Kernel for Place {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let Choices { experts, count, .. } = self.choices;
        let mut next = Vec::with_capacity(count as usize);
        let mut offsets = vec![0];
        for expert in 0..u64::from(count) {
            let begin = offsets[expert as usize];
            let before = self.before.part(cx.lane() as u64, 1, 0, 1);
            next.push(begin + cx.load_i32(before.region, before.at + 4 * expert));
            offsets.push(begin + cx.load_i32(self.totals.region, self.totals.at + 4 * expert));
        }
        let end = offsets[count as usize] as u32;
        if cx.lane() == 0 {
            let list = List::new(cx, count + 1);
            (0..=count).zip(offsets).for_each(|(expert, offset)| list.put(cx, expert, offset));
            written(cx, Pipe::S, Pipe::Mte3);
            cx.store(list.tile, self.offsets);
            written(cx, Pipe::Mte3, Pipe::S);
        }
        self.nobody(cx, end);
        let mine = cx.share(experts.rows.into());
        // Offsets, and what lies behind the last place, are there as well.
        let others = 4 * count.next_multiple_of(8) + 64 + 8 * CHOICES;
        let choices = room(cx.profile(), CHOICE, others.saturating_add(count.saturating_mul(ROUNDED)));
        let choices = choices.max(room(cx.profile(), CHOICE + ROUNDED, others)).min(CHOICES);
        let step = (choices / experts.cols).clamp(1, (mine.end - mine.start).max(1) as u32) as usize;
        let most = step as u32 * experts.cols;
        // Each expert's part begins at a multiple of 32 bytes.
        let numbers = most + 7 * most.min(count);
        let lists = [(); 2].map(|()| List::new(cx, numbers.next_multiple_of(8)));
        let places = cx.ub(Elem::I32, experts.cols, step as u32);
        for first in mine.clone().step_by(step) {
            let rows = (mine.end - first).min(step as u64) as u32;
            self.rows(cx, (first, rows), &mut next, &lists, places.at);
            written(cx, Pipe::Mte3, Pipe::S);
        }
    }
}

impl Place {
    /// Places behind the last.
    fn nobody(&self, cx: &mut Context<'_>, end: u32) {
        let (left, step) = (self.rows.cols - end, CHOICES);
        let mine = cx.share(left.into());
        if mine.is_empty() {
            return;
        }
        let none = [-1, 0].map(|value| {
            let tile = cx.ub(Elem::I32, 1, step.min(left));
            cx.bcast(tile, value);
            tile
        });
        written(cx, Pipe::V, Pipe::Mte3);
        for at in mine.clone().step_by(step as usize) {
            let cols = (mine.end - at).min(step.into()) as u32;
            for (tile, to) in none.into_iter().zip([self.rows, self.shares]) {
                cx.store(Tile { cols, pitch: cols, ..tile }, to.part(0, 1, end + at as u32, cols));
            }
        }
    }

    /// The lists of some rows.
    fn rows(&self, cx: &mut Context<'_>, (first, rows): (u64, u32), next: &mut [i32], lists: &[List; 2], places: u32) {
        let k = self.choices.experts.cols;
        let mut chosen = Vec::with_capacity((rows * k) as usize);
        for row in 0..rows {
            for choice in 0..k {
                if let Some(expert) = self.choices.expert(cx, first + u64::from(row), choice) {
                    let Global { region, at, .. } = self.choices.weights;
                    let share =
                        cx.load_i32(region, at + 4 * ((first + u64::from(row)) * u64::from(k) + u64::from(choice)));
                    chosen.push((expert, row, share));
                }
            }
        }
        // Rows of an expert stay in their order.
        chosen.sort_by_key(|(expert, ..)| *expert);
        let tile = Tile::rows_of(Space::Ub, places, Elem::I32, k, rows);
        let mut of_row = vec![0; rows as usize];
        let put = |cx: &mut Context<'_>, row: u32, choice: u32, place: i32| {
            let at = tile.at + 4 * tile.place(choice as usize, row as usize) as u32;
            cx.push(Body::ScalarStoreUb(Tile { at, rows: 1, cols: 1, pitch: 1, ..tile }, place as u32));
        };
        let mut at = 0;
        let mut parts = Vec::new();
        for of_expert in chosen.chunk_by(|a, b| a.0 == b.0) {
            let (expert, count) = (of_expert[0].0 as usize, of_expert.len() as u32);
            parts.push((at, count, next[expert]));
            for (place, &(_, row, share)) in (0..).zip(of_expert) {
                lists[0].put(cx, at + place, (first + u64::from(row)) as i32);
                lists[1].put(cx, at + place, share);
                put(cx, row, of_row[row as usize], next[expert] + place as i32);
                of_row[row as usize] += 1;
            }
            next[expert] += count as i32;
            at = (at + count).next_multiple_of(8);
        }
        for (row, have) in (0..).zip(of_row) {
            (have..k).for_each(|choice| put(cx, row, choice, -1));
        }
        written(cx, Pipe::S, Pipe::Mte3);
        for (at, count, place) in parts {
            for (list, to) in lists.iter().zip([self.rows, self.shares]) {
                cx.store(list.part(at, count), to.part(0, 1, place as u32, count));
            }
        }
        cx.store(tile, self.places.part(0, k, first as u32, rows));
    }
}

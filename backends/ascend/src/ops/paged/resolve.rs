//! From entry numbers to places in pools: what a page table says, by the vectors, before anything else.

use super::{PAGE_MASK, PAGE_SHIFT, Scope};
use crate::isa::{Cmp, Elem, Global, Mode, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use std::ops::Range;

/// Places of a list that are looked up at once.
const PLACES: u32 = 1024;
/// Pages of a sequence that are held at once. A table that is longer goes by in pieces.
const PIECE: u32 = 4096;
/// The flag by which both halves of a core wait for one another.
const RESOLVED: u8 = 8;

/// Where resolved lists lie: for each row of a core two, of its elements' rows and of its scales' rows. A place without a key
/// is -1 in both; one of a scope without scales is in the second what it is in the first.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Lists {
    pub(in crate::ops) region: u16,
    /// Rows of a core at most.
    pub(in crate::ops) rows: u64,
    /// Places of a list, of all scopes.
    pub(in crate::ops) places: u32,
    /// Whether there are second ones: whether a scope has scales.
    pub(in crate::ops) scaled: bool,
}

impl Lists {
    pub(in crate::ops) fn bytes(rows: u64, places: u32, cores: usize) -> u64 {
        8 * rows * u64::from(places) * cores as u64
    }

    /// `count` places of a list, from `first` on; of the `row`th of the core's.
    pub(in crate::ops) fn part(&self, core: usize, row: u64, scales: bool, first: u32, count: u32) -> Global {
        let list = 2 * (core as u64 * self.rows + row) + u64::from(scales);
        let at = 4 * (list * u64::from(self.places) + u64::from(first));
        Global::new(self.region, at, Elem::I32, 1, count)
    }
}

struct Resolver<'s> {
    scopes: &'s [Scope],
    entries: Queue,
    table: Queue,
    out: Queue,
    /// The piece of a table that is there: scope, sequence, number.
    held: Option<((usize, i32, u32), Tile)>,
    page: Tile,
    more: Tile,
    found: Tile,
}

/// Looks up the lists of `rows`. Each half does every second row, then waits for the other.
pub(in crate::ops) fn resolve(cx: &mut Context<'_>, scopes: &[Scope], lists: &Lists, rows: Range<u64>) {
    let width = scopes.iter().map(|scope| scope.table.cols).max().unwrap_or(1).clamp(1, PIECE);
    let mut resolver = Resolver {
        scopes,
        entries: Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 4 * PLACES, 2),
        table: Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 4 * width.next_multiple_of(8), 2),
        out: Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 8 * PLACES, 2),
        held: None,
        page: cx.ub(Elem::I32, 1, PLACES),
        more: cx.ub(Elem::I32, 1, PLACES),
        found: cx.ub(Elem::I32, 1, PLACES),
    };
    for row in rows.clone().skip(cx.half()).step_by(2) {
        for (number, scope) in scopes.iter().enumerate() {
            resolver.scope(cx, number, lists, row, row - rows.start);
            let (from, to) =
                (scope.start + scope.places, scopes.get(number + 1).map_or(lists.places, |next| next.start));
            if from < to {
                resolver.nothing(cx, lists, row - rows.start, from..to);
            }
        }
    }
    let Resolver { entries, mut table, out, held, page, more, found, .. } = resolver;
    if held.is_some() {
        table.free(cx);
    }
    entries.close(cx);
    table.close(cx);
    out.close(cx);
    [page, more, found].into_iter().for_each(|tile| cx.free(Space::Ub, tile.at));
    cx.cross_set(Pipe::Mte3, Mode::Vectors, RESOLVED);
    cx.cross_wait(Pipe::Mte2, Mode::Vectors, RESOLVED);
}

fn list(at: u32, count: u32) -> Tile {
    Tile::dense(Space::Ub, at, Elem::I32, 1, count)
}

impl Resolver<'_> {
    fn scope(&mut self, cx: &mut Context<'_>, number: usize, lists: &Lists, row: u64, local: u64) {
        let scope = &self.scopes[number];
        let sequence = cx.load_i32(scope.sequence, 4 * row);
        let known = u32::try_from(sequence).is_ok_and(|sequence| sequence < scope.table.rows);
        for first in (0..scope.places).step_by(PLACES as usize) {
            let count = PLACES.min(scope.places - first);
            let [page, more] = [self.page, self.more].map(|tile| list(tile.at, count));
            let entries = list(self.entries.alloc(cx), count);
            if let Some(region) = scope.entries {
                let at = 4 * (row * u64::from(scope.places) + u64::from(first));
                cx.load_ub(Global::new(region, at, Elem::I32, 1, count), entries);
            }
            self.entries.push(cx);
            self.entries.pop(cx);
            if scope.entries.is_none() {
                cx.ramp(entries, first as i32, 1);
            }
            cx.bcast(page, -1);
            if known && scope.pool.2 > 0 {
                for piece in 0..scope.table.cols.div_ceil(PIECE) {
                    self.look_up(cx, (number, sequence, piece), entries, page, more);
                }
            }
            let at = self.out.alloc(cx);
            let outs = [list(at, count), list(at + 4 * PLACES, count)];
            let data = scope.data(0, 0);
            let places = [data, scope.scales().unwrap_or(data)];
            let lists_of = 1 + usize::from(lists.scaled);
            cx.fused(|cx| {
                cx.select(page, (page, Cmp::Ge, scope.pool.2 as i32), -1, page);
                cx.and(entries, entries, PAGE_MASK);
                for (out, places) in outs.iter().zip(places).take(lists_of) {
                    cx.mul(more, entries, places.per_entry);
                    cx.mul(*out, page, places.per_page);
                    cx.add(*out, *out, more);
                    cx.select(*out, (page, Cmp::Lt, 0), -1, *out);
                }
            });
            self.entries.free(cx);
            self.out.push(cx);
            self.out.pop(cx);
            for (scales, out) in outs.iter().enumerate().take(lists_of) {
                cx.store(*out, lists.part(cx.core(), local, scales == 1, scope.start + first, count));
            }
            self.out.free(cx);
        }
    }

    /// Places that no scope has, less than a block of them.
    fn nothing(&mut self, cx: &mut Context<'_>, lists: &Lists, local: u64, places: Range<u32>) {
        let (first, count) = (places.start, places.end - places.start);
        let none = list(self.out.alloc(cx), count);
        cx.bcast(none, -1);
        self.out.push(cx);
        self.out.pop(cx);
        for scales in [false, true].into_iter().take(1 + usize::from(lists.scaled)) {
            cx.store(none, lists.part(cx.core(), local, scales, first, count));
        }
        self.out.free(cx);
    }

    /// Page numbers of entries whose page a piece of the table has.
    fn look_up(&mut self, cx: &mut Context<'_>, piece: (usize, i32, u32), entries: Tile, page: Tile, more: Tile) {
        let table = &self.scopes[piece.0].table;
        let first = piece.2 * PIECE;
        let len = PIECE.min(table.cols - first);
        let pages = match self.held {
            Some((held, pages)) if held == piece => pages,
            held => {
                if held.is_some() {
                    self.table.free(cx);
                }
                let to = list(self.table.alloc(cx), len);
                cx.load_ub(table.part(piece.1 as u64, 1, first, len), to);
                self.table.push(cx);
                self.table.pop(cx);
                self.held = Some((piece, to));
                to
            }
        };
        let found = list(self.found.at, entries.cols);
        cx.fused(|cx| {
            // A negative entry is far beyond all pages once its sign is a digit.
            cx.shr(more, entries, PAGE_SHIFT);
            cx.sub(more, more, first as i32);
            cx.select(more, (more, Cmp::Ge, len as i32), -1, more);
            // What lies outside reads the first page, whose number is not kept.
            cx.max(found, more, 0);
            cx.gather(found, pages, found);
            cx.select(found, (more, Cmp::Lt, 0), -1, found);
            cx.max(page, page, found);
        });
    }
}

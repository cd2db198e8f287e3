//! Rows of numbers on their way through a vector half: they come as any float, are computed in f32, and go as any float.

use crate::isa::{Elem, Global, Pipe, Round, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::{Profile, Space};
use crate::sim::capacity;

/// How many pieces of so many bytes each UB has room for, beside `others`; at least one.
pub(super) fn room(profile: &Profile, bytes: u32, others: u32) -> u32 {
    ((capacity(profile, Space::Ub) as u32).saturating_sub(others) / bytes.max(1)).max(1)
}

/// Elements of a step, `most` or as many as UB has room for, where each takes `bytes` in all buffers together and `others` are
/// taken besides. Fewer than `most` come in whole 256.
pub(super) fn step(profile: &Profile, most: u32, bytes: u32, others: u32) -> u32 {
    (room(profile, bytes, others) / 256 * 256).max(256).min(most)
}

/// Bytes of a matrix of f32 in UB, rows at multiples of 32 bytes.
pub(super) fn f32_bytes(rows: u32, cols: u32) -> u32 {
    Tile::rows_of(Space::Ub, 0, Elem::F32, rows, cols).end().next_multiple_of(32) as u32
}

/// A matrix in UB. Rows of a single column lie next to each other, or `apart` like all others.
fn matrix(at: u32, elem: Elem, rows: u32, cols: u32, apart: bool) -> Tile {
    let tile = Tile::rows_of(Space::Ub, at, elem, rows, cols);
    if apart { Tile { pitch: cols.next_multiple_of(elem.c0() as u32), ..tile } } else { tile }
}

fn bytes(elem: Elem, rows: u32, cols: u32, apart: bool) -> u32 {
    matrix(0, elem, rows, cols, apart).end().next_multiple_of(32) as u32
}

/// A matrix of f32 at a place in UB, with rows that can be taken alone.
pub(super) fn apart(at: u32, rows: u32, cols: u32) -> Tile {
    matrix(at, Elem::F32, rows, cols, true)
}

/// Rows of f32 in UB, each at a multiple of 32 bytes whatever its width, so that any of them can be taken alone.
pub(super) fn rows_apart(cx: &mut Context<'_>, rows: u32, cols: u32) -> Tile {
    let tile = matrix(0, Elem::F32, rows, cols, true);
    Tile { at: cx.alloc(Space::Ub, bytes(Elem::F32, rows, cols, true)), ..tile }
}

/// Rows that come in, `depth` steps ahead of those that are computed.
pub(super) struct Loads {
    queue: Queue,
    /// Where they are widened to, if they are no f32.
    wide: Option<u32>,
    apart: bool,
}

impl Loads {
    /// For steps of at most `rows` x `cols`.
    pub(super) fn new(cx: &mut Context<'_>, elem: Elem, rows: u32, cols: u32, depth: usize) -> Loads {
        Loads::lying(cx, elem, [rows, cols], depth, false)
    }

    /// The same with rows that can be taken alone.
    pub(super) fn apart(cx: &mut Context<'_>, elem: Elem, rows: u32, cols: u32, depth: usize) -> Loads {
        Loads::lying(cx, elem, [rows, cols], depth, true)
    }

    fn lying(cx: &mut Context<'_>, elem: Elem, [rows, cols]: [u32; 2], depth: usize, apart: bool) -> Loads {
        let queue = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(elem, rows, cols, apart), depth);
        let wide = (elem != Elem::F32).then(|| cx.alloc(Space::Ub, bytes(Elem::F32, rows, cols, apart)));
        Loads { queue, wide, apart }
    }

    /// The next rows as f32. They are there until [`free`](Loads::free).
    pub(super) fn load(&mut self, cx: &mut Context<'_>, from: Global) -> Tile {
        let to = matrix(self.queue.alloc(cx), from.elem, from.rows, from.cols, self.apart);
        cx.load_ub(from, to);
        self.queue.push(cx);
        self.queue.pop(cx);
        let Some(at) = self.wide else { return to };
        let wide = matrix(at, Elem::F32, from.rows, from.cols, self.apart);
        cx.cast(wide, to, Round::Even);
        self.queue.free(cx);
        wide
    }

    /// They are not needed any more.
    pub(super) fn free(&mut self, cx: &mut Context<'_>) {
        if self.wide.is_none() {
            self.queue.free(cx);
        }
    }

    /// No more come.
    pub(super) fn close(self, cx: &mut Context<'_>) {
        self.queue.close(cx);
        if let Some(at) = self.wide {
            cx.free(Space::Ub, at);
        }
    }
}

/// Rows that go out while the next are computed.
pub(super) struct Stores {
    queue: Queue,
    elem: Elem,
    /// Where they are computed, if they are no f32.
    wide: Option<u32>,
    apart: bool,
}

impl Stores {
    /// For steps of at most `rows` x `cols`.
    pub(super) fn new(cx: &mut Context<'_>, elem: Elem, rows: u32, cols: u32, depth: usize) -> Stores {
        Stores::lying(cx, elem, [rows, cols], depth, false)
    }

    /// The same with rows that can be taken alone.
    pub(super) fn apart(cx: &mut Context<'_>, elem: Elem, rows: u32, cols: u32, depth: usize) -> Stores {
        Stores::lying(cx, elem, [rows, cols], depth, true)
    }

    fn lying(cx: &mut Context<'_>, elem: Elem, [rows, cols]: [u32; 2], depth: usize, apart: bool) -> Stores {
        let queue = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(elem, rows, cols, apart), depth);
        let wide = (elem != Elem::F32).then(|| cx.alloc(Space::Ub, bytes(Elem::F32, rows, cols, apart)));
        Stores { queue, elem, wide, apart }
    }

    /// Where the next rows are to be computed, as f32.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>, rows: u32, cols: u32) -> Tile {
        let at = match self.wide {
            Some(at) => at,
            None => self.queue.alloc(cx),
        };
        matrix(at, Elem::F32, rows, cols, self.apart)
    }

    /// They are computed: rounds them to their type and stores them.
    pub(super) fn store(&mut self, cx: &mut Context<'_>, rows: Tile, to: Global) {
        let mut from = rows;
        if self.wide.is_some() {
            from = matrix(self.queue.alloc(cx), self.elem, rows.rows, rows.cols, self.apart);
            cx.cast(from, rows, Round::Even);
        }
        self.queue.push(cx);
        self.queue.pop(cx);
        cx.store(from, to);
        self.queue.free(cx);
    }

    /// No more go.
    pub(super) fn close(self, cx: &mut Context<'_>) {
        self.queue.close(cx);
        if let Some(at) = self.wide {
            cx.free(Space::Ub, at);
        }
    }
}

/// Rounds to bf16, where a definition asks for it.
pub(super) fn round_bf16(cx: &mut Context<'_>, tile: Tile, scratch: u32) {
    let narrow = Tile { at: scratch, elem: Elem::BF16, ..tile };
    // Half as wide: rows are as far apart in elements, and no row begins where the unit cannot reach it.
    let narrow = Tile {
        pitch: narrow.pitch.next_multiple_of(if narrow.rows > 1 && narrow.cols > 1 { 16 } else { 1 }),
        ..narrow
    };
    cx.cast(narrow, tile, Round::Even);
    cx.cast(tile, narrow, Round::Even);
}

//! `fn f` of the hyper-connections: a few rows of f32 times the streams of each token, on the cube.
//!
//! Streams of bf16 go to the cube as they are, and the f32 rows as a sum of three bf16: 8 bits each, 24 in all, so that every
//! product is exact. That takes three products of bf16, where one of f32 takes four times as long and the streams would
//! have to be widened first. Streams of f16 are widened.
//!
//! Products are summed over parts of a token's elements: a few tokens are work for many cores then. The parts do not depend
//! on the number of tokens, so neither does the sum.

use super::rows::{Loads, Stores};
use crate::isa::{Elem, FixTo, Global, Init, Mode, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::sim::Gm;

/// Elements of a part.
const PART: u32 = 1024;
/// Tokens of a product at most.
const TOKENS: u32 = 128;
/// Bytes of their sums, of which there are two.
const SUMS: u32 = 64 << 10;
/// Elements of a step of what is made ready.
const STEP: u32 = 4096;
/// Terms that an f32 is split into.
const TERMS: u32 = 3;
/// The upper half of an f32.
const UPPER: i32 = -65536;
/// Bytes of a buffer in L0A or L0B, of which there are two.
const L0: u32 = 32 << 10;

/// Flags between all cores.
const ALL: u8 = 0;
/// Operands are ready.
const READY: u8 = 1;
/// Sums are there.
const SUMMED: u8 = 2;

/// The product of all tokens.
#[derive(Clone, Copy)]
pub(super) struct Mixer {
    /// Streams, a token a row.
    streams: Global,
    rows: Global,
    /// What the cube multiplies: the operands, or what is made of them.
    left: Global,
    right: Global,
    /// Sums, a matrix like the result's for each part.
    sums: Global,
}

impl Mixer {
    /// For streams of a token a row, and the mixer's rows.
    pub(super) fn new(gm: &mut Gm<'_>, streams: Global, rows: Global) -> Mixer {
        let (mut left, mut right) = (streams, rows);
        match streams.elem {
            Elem::F32 => {}
            Elem::BF16 => {
                let bytes = u64::from(TERMS) * 2 * u64::from(rows.rows) * u64::from(rows.cols);
                let region = gm.scratch("mixer's terms", bytes);
                right = Global::new(region, 0, Elem::BF16, TERMS * rows.rows, rows.cols);
            }
            _ => {
                let region = gm.scratch("wide streams", 4 * u64::from(streams.rows) * u64::from(streams.cols));
                left = Global::new(region, 0, Elem::F32, streams.rows, streams.cols);
            }
        }
        let parts = streams.cols.div_ceil(PART);
        let bytes = 4 * u64::from(parts) * u64::from(streams.rows) * u64::from(rows.rows);
        let sums = Global::new(gm.scratch("sums", bytes), 0, Elem::F32, parts * streams.rows, rows.rows);
        Mixer { streams, rows, left, right, sums }
    }

    /// Pieces of work for cubes.
    pub(super) fn pieces(&self) -> u64 {
        u64::from(self.streams.rows.div_ceil(self.tokens())) * u64::from(self.parts())
    }

    /// Tokens of a product.
    fn tokens(&self) -> u32 {
        (SUMS / 4 / self.width() / 16 * 16).clamp(16, TOKENS)
    }

    /// Columns of a product, fractals and all.
    fn width(&self) -> u32 {
        self.rows.rows.next_multiple_of(16)
    }

    /// Sums that a result is of.
    pub(super) fn parts(&self) -> u32 {
        self.streams.cols.div_ceil(PART)
    }

    /// The sums of a part for some tokens.
    pub(super) fn part(&self, part: u32, first: u64, rows: u32) -> Global {
        self.sums.part(u64::from(part) * u64::from(self.streams.rows) + first, rows, 0, self.sums.cols)
    }

    /// A token's sums of some parts.
    pub(super) fn token(&self, part: u32, token: u64, parts: u32) -> Global {
        let pitch = self.sums.pitch * u64::from(self.streams.rows);
        Global { rows: parts, pitch, ..self.part(part, token, 1) }
    }

    fn terms(&self) -> u32 {
        self.right.rows / self.rows.rows
    }

    fn is_made(&self) -> bool {
        self.streams.elem != Elem::F32
    }

    /// What vector halves do first: they make the operands that the cubes wait for.
    pub(super) fn prepare(&self, cx: &mut Context<'_>) {
        if !self.is_made() {
            return;
        }
        if self.terms() > 1 {
            self.split(cx);
        } else {
            self.widen(cx);
        }
        cx.barrier_all();
        cx.cross_set(Pipe::Mte3, Mode::Everywhere, ALL);
        cx.cross_wait(Pipe::Mte3, Mode::Everywhere, ALL);
        cx.cross_set(Pipe::Mte3, Mode::Core, READY);
        // The next wait for all is another engine's, and must not take this one's sets.
        cx.barrier_all();
    }

    /// What vector halves do before they take up the sums: they wait for all cores.
    pub(super) fn wait(cx: &mut Context<'_>) {
        cx.cross_wait(Pipe::Mte2, Mode::Core, SUMMED);
        cx.cross_set(Pipe::Mte2, Mode::Everywhere, ALL);
        cx.cross_wait(Pipe::Mte2, Mode::Everywhere, ALL);
    }

    /// Each f32 as three bf16 that it is the sum of: its upper half is one, and so is that of what is left.
    fn split(&self, cx: &mut Context<'_>) {
        let mut loads = Loads::new(cx, Elem::F32, 1, STEP, 2);
        let mut stores = Stores::new(cx, Elem::BF16, 1, STEP, 2);
        let left = cx.ub(Elem::F32, 1, STEP);
        let steps = self.rows.cols.div_ceil(STEP);
        for piece in cx.share(u64::from(self.rows.rows) * u64::from(steps)) {
            let (row, col) = (piece / u64::from(steps), (piece % u64::from(steps)) as u32 * STEP);
            let cols = STEP.min(self.rows.cols - col);
            let left = Tile { cols, pitch: cols, ..left };
            let mut rest = loads.load(cx, self.rows.part(row, 1, col, cols));
            for term in 0..TERMS {
                let upper = stores.begin(cx, 1, cols);
                cx.fused(|cx| {
                    cx.and(upper, rest, UPPER);
                    if term + 1 < TERMS {
                        cx.sub(left, rest, upper);
                    }
                });
                rest = left;
                let to = u64::from(term) * u64::from(self.rows.rows) + row;
                stores.store(cx, upper, self.right.part(to, 1, col, cols));
            }
            loads.free(cx);
        }
        loads.close(cx);
        stores.close(cx);
        cx.free(Space::Ub, left.at);
    }

    fn widen(&self, cx: &mut Context<'_>) {
        let mut loads = Loads::new(cx, self.streams.elem, 1, STEP, 2);
        let mut stores = Stores::new(cx, Elem::F32, 1, STEP, 2);
        let steps = self.streams.cols.div_ceil(STEP);
        for piece in cx.share(u64::from(self.streams.rows) * u64::from(steps)) {
            let (row, col) = (piece / u64::from(steps), (piece % u64::from(steps)) as u32 * STEP);
            let cols = STEP.min(self.streams.cols - col);
            let tile = loads.load(cx, self.streams.part(row, 1, col, cols));
            let wide = stores.begin(cx, 1, cols);
            cx.copy(wide, tile);
            loads.free(cx);
            stores.store(cx, wide, self.left.part(row, 1, col, cols));
        }
        loads.close(cx);
        stores.close(cx);
    }

    /// What cube halves do.
    pub(super) fn cube(&self, cx: &mut Context<'_>) {
        if self.is_made() {
            cx.cross_wait(Pipe::Mte2, Mode::Core, READY);
            cx.cross_set(Pipe::Mte2, Mode::Everywhere, ALL);
            cx.cross_wait(Pipe::Mte2, Mode::Everywhere, ALL);
        }
        let mut product = Product::new(cx, self);
        for piece in cx.share(self.pieces()) {
            let (group, part) = (piece / u64::from(self.parts()), (piece % u64::from(self.parts())) as u32);
            let first = group * u64::from(self.tokens());
            let rows = self.tokens().min((u64::from(self.streams.rows) - first) as u32);
            let cols = PART.min(self.streams.cols - part * PART);
            product.sum(cx, self, (first, rows), (part * PART, cols), self.part(part, first, rows));
        }
        product.close(cx);
        cx.cross_set(Pipe::Fix, Mode::Core, SUMMED);
    }
}

/// The buffers of the cube's memories.
struct Product {
    l1: Queue,
    l0a: Queue,
    /// L0B goes with L0A.
    l0b: [u32; 2],
    turn: usize,
    l0c: Queue,
    /// Depth of a step of L1, and of one of L0.
    steps: [u32; 2],
    /// Bytes of a left operand in L1, and of a term of the right one.
    bytes: [u32; 2],
}

impl Product {
    /// Steps do not depend on the number of tokens: they are the order of the sum.
    fn new(cx: &mut Context<'_>, mixer: &Mixer) -> Product {
        let (size, c0) = (mixer.left.elem.bits() as u32 / 8, mixer.left.elem.c0() as u32);
        let (tokens, width) = (mixer.tokens(), mixer.width());
        let all = mixer.terms() * width;
        let inner = (L0 / (tokens.max(all) * size) / c0 * c0).max(c0);
        let room = cx.profile().figures.l1 as u32 / 2 / ((tokens + all) * size);
        let outer = (room.min(PART) / inner * inner).max(inner);
        let bytes = [tokens * outer * size, width * outer * size];
        let l1 = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, bytes[0] + mixer.terms() * bytes[1], 2);
        let l0a = Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0a, L0, 2);
        let l0b = [(); 2].map(|()| cx.alloc(Space::L0b, L0));
        let l0c = Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, SUMS, 2);
        Product { l1, l0a, l0b, turn: 0, l0c, steps: [outer, inner], bytes }
    }

    /// The sums of some tokens over a part of their elements.
    fn sum(
        &mut self,
        cx: &mut Context<'_>,
        mixer: &Mixer,
        (first, rows): (u64, u32),
        (start, cols): (u32, u32),
        to: Global,
    ) {
        let (elem, width) = (mixer.left.elem, mixer.rows.rows);
        let [outer, inner] = self.steps;
        let at = self.l0c.alloc(cx);
        let sums = cx.cube_tile_at(Space::L0c, at, Elem::F32, rows, width);
        let mut init = Init::Zero;
        for col in (0..cols).step_by(outer as usize) {
            let depth = outer.min(cols - col);
            let at = self.l1.alloc(cx);
            let a = cx.cube_tile_at(Space::L1, at, elem, rows, depth);
            cx.load_nd2nz(mixer.left.part(first, rows, start + col, depth), a);
            let mut terms = Vec::new();
            for term in 0..mixer.terms() {
                let b = cx.cube_tile_at(Space::L1, at + self.bytes[0] + term * self.bytes[1], elem, width, depth);
                cx.load_nd2nz(mixer.right.part(u64::from(term * width), width, start + col, depth), b);
                terms.push(b);
            }
            self.l1.push(cx);
            self.l1.pop(cx);
            for k in (0..depth).step_by(inner as usize) {
                let depth = inner.min(depth - k);
                let at = self.l0a.alloc(cx);
                let left = cx.cube_tile_at(Space::L0a, at, elem, rows, depth);
                cx.load_l0a(a.col_range(k, depth), left);
                let mut at = self.l0b[self.turn % 2];
                self.turn += 1;
                let mut rights = Vec::new();
                for term in &terms {
                    let right = cx.cube_tile_at(Space::L0b, at, elem, depth, width);
                    cx.load_l0b_transposed(term.col_range(k, depth), right);
                    at = (right.end() as u32).next_multiple_of(512);
                    rights.push(right);
                }
                self.l0a.push(cx);
                self.l0a.pop(cx);
                for right in rights {
                    cx.mmad(sums, left, right, init);
                    cx.chain(rows, width);
                    init = Init::Accumulate;
                }
                self.l0a.free(cx);
            }
            self.l1.free(cx);
        }
        self.l0c.push(cx);
        self.l0c.pop(cx);
        cx.fix(sums, FixTo::Gm(to));
        self.l0c.free(cx);
    }

    fn close(self, cx: &mut Context<'_>) {
        self.l1.close(cx);
        self.l0a.close(cx);
        self.l0c.close(cx);
    }
}

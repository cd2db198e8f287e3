//! What the cube and the vectors of a core hand one another.
//!
//! The 950 moves sums from L0C to UB and rows from UB to L1. The 910B has neither path: there both go through global memory
//! that the launch has for it. Buffers go round; a flag says that one is full, another, the other way, that it is empty
//! again, so that nothing is overwritten before it was read. All rows are divided among the vector halves, the first half's
//! being the upper ones.

use crate::isa::{Body, Elem, Fix, FixHalf, FixTo, Global, Mode, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;

/// Which of so many rows a vector half has: the first, and how many.
pub(super) fn half_rows(half: usize, rows: u32) -> (u32, u32) {
    let upper = rows.div_ceil(2);
    if half == 0 { (0, upper) } else { (upper, rows - upper) }
}

/// Buffers that go round between the cube and the vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post {
    /// The flag that says full; the next one says empty.
    pub(super) flag: u8,
    /// Where the buffers lie at their destination, which both sides have to know.
    pub(super) at: u32,
    /// Bytes of each there.
    pub(super) bytes: u32,
    /// How many.
    pub(super) depth: usize,
    /// Global memory in between, and its bytes for a buffer.
    pub(super) through: Option<(u16, u64)>,
}

/// Buffers in global memory: some are written while others are read. A flag counts to 15.
const THROUGH: usize = 4;

impl Post {
    /// Buffers that the flags count.
    fn turns(&self) -> usize {
        if self.through.is_some() { THROUGH } else { self.depth }
    }

    /// Bytes of global memory that so many cores take.
    pub(super) fn scratch_bytes(bytes: u64, cores: usize) -> u64 {
        bytes * (THROUGH * cores) as u64
    }

    fn global(&self, cx: &Context<'_>, turn: usize, elem: Elem, rows: u32, cols: u32) -> Option<Global> {
        let (region, bytes) = self.through?;
        let at = (cx.core() * THROUGH + turn % THROUGH) as u64 * bytes;
        Some(Global::new(region, at, elem, rows, cols))
    }

    fn place(&self, turn: usize) -> u32 {
        self.at + (turn % self.depth) as u32 * self.bytes
    }
}

/// The side that fills.
#[derive(Debug)]
pub(super) struct Sender {
    post: Post,
    begun: usize,
}

impl Sender {
    pub(super) fn new(post: Post) -> Sender {
        Sender { post, begun: 0 }
    }

    /// Waits until the next buffer is empty.
    #[track_caller]
    pub(super) fn begin(&mut self, cx: &mut Context<'_>, pipe: Pipe) {
        if self.begun >= self.post.turns() {
            cx.cross_wait(pipe, Mode::Core, self.post.flag + 1);
        }
        self.begun += 1;
    }

    /// The buffer is full.
    #[track_caller]
    pub(super) fn end(&mut self, cx: &mut Context<'_>, pipe: Pipe) {
        cx.cross_set(pipe, Mode::Core, self.post.flag);
    }

    /// Sums to the vectors, whole.
    #[track_caller]
    pub(super) fn sums(&mut self, cx: &mut Context<'_>, sums: Tile) {
        self.results(cx, sums, Elem::F32, false);
    }

    /// Sums to the vectors as numbers of a type, those below zero as zero where `relu` says so.
    #[track_caller]
    pub(super) fn results(&mut self, cx: &mut Context<'_>, from: Tile, elem: Elem, relu: bool) {
        self.begin(cx, Pipe::Fix);
        self.columns(cx, from, elem, relu, from.cols, 0);
        self.end(cx, Pipe::Fix);
    }

    /// Columns of the `cols` that the buffer has, from one of them on.
    #[track_caller]
    pub(super) fn columns(&mut self, cx: &mut Context<'_>, from: Tile, elem: Elem, relu: bool, cols: u32, col: u32) {
        let turn = self.begun - 1;
        let to = match self.post.global(cx, turn, elem, from.rows, cols) {
            Some(to) => FixTo::Gm(to.part(0, from.rows, col, from.cols)),
            None => {
                let to = Tile::rows_of(Space::Ub, self.post.place(turn), elem, from.rows, cols);
                FixTo::Ub(to.col_range(col, from.cols), FixHalf::Split)
            }
        };
        cx.push(Body::Fix(Fix { relu, ..Fix::new(from, to) }));
    }

    /// Some rows and columns of the `whole` rows x columns that the buffer has, from UB to the cube.
    #[track_caller]
    pub(super) fn rows(&mut self, cx: &mut Context<'_>, from: Tile, whole: [u32; 2], row: u32, col: u32) {
        let turn = self.begun - 1;
        match self.post.global(cx, turn, from.elem, whole[0], whole[1]) {
            Some(to) => cx.store(from, to.part(row.into(), from.rows, col, from.cols)),
            None => {
                let to = cx.cube_tile_at(Space::L1, self.post.place(turn), from.elem, whole[0], whole[1]);
                cx.store_l1(from, to.part(row, from.rows, col, from.cols));
            }
        }
    }

    /// Waits until all is empty.
    #[track_caller]
    pub(super) fn close(self, cx: &mut Context<'_>, pipe: Pipe) {
        for _ in 0..self.begun.min(self.post.turns()) {
            cx.cross_wait(pipe, Mode::Core, self.post.flag + 1);
        }
    }
}

/// The vectors' side of sums.
#[derive(Debug)]
pub(super) struct Sums {
    post: Post,
    taken: usize,
    queue: Option<Queue>,
}

impl Sums {
    /// Takes room for the buffers. What needs a known place in UB comes before all else.
    #[track_caller]
    pub(super) fn new(cx: &mut Context<'_>, post: Post) -> Sums {
        let queue = match post.through {
            Some(_) => Some(Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, post.bytes, post.depth)),
            None => {
                cx.alloc_at(Space::Ub, post.at, post.bytes * post.depth as u32);
                None
            }
        };
        Sums { post, taken: 0, queue }
    }

    /// This half's rows of the next sums, of `rows` x `cols` in all. They may be none.
    #[track_caller]
    pub(super) fn take(&mut self, cx: &mut Context<'_>, rows: u32, cols: u32) -> Tile {
        self.take_as(cx, Elem::F32, rows, cols)
    }

    /// The same, of numbers of a type.
    #[track_caller]
    pub(super) fn take_as(&mut self, cx: &mut Context<'_>, elem: Elem, rows: u32, cols: u32) -> Tile {
        let (first, mine) = half_rows(cx.half(), rows);
        let turn = self.taken;
        self.taken += 1;
        let tile = |at| Tile { rows: mine, ..Tile::rows_of(Space::Ub, at, elem, rows, cols) };
        match (&mut self.queue, self.post.global(cx, turn, elem, rows, cols)) {
            (Some(queue), Some(from)) => {
                let to = tile(queue.alloc(cx));
                cx.cross_wait(Pipe::Mte2, Mode::Core, self.post.flag);
                if mine > 0 {
                    cx.load_ub(from.part(first.into(), mine, 0, cols), to);
                }
                cx.cross_set(Pipe::Mte2, Mode::Core, self.post.flag + 1);
                queue.push(cx);
                queue.pop(cx);
                to
            }
            _ => {
                cx.cross_wait(Pipe::V, Mode::Core, self.post.flag);
                tile(self.post.place(turn))
            }
        }
    }

    /// They are not needed any more.
    #[track_caller]
    pub(super) fn free(&mut self, cx: &mut Context<'_>) {
        match &mut self.queue {
            Some(queue) => queue.free(cx),
            None => cx.cross_set(Pipe::V, Mode::Core, self.post.flag + 1),
        }
    }

    /// No more come.
    pub(super) fn close(self, cx: &mut Context<'_>) {
        if let Some(queue) = self.queue {
            queue.close(cx);
        }
    }
}

/// The cube's side of rows, in L1.
#[derive(Debug)]
pub(super) struct Rows {
    post: Post,
    taken: usize,
    queue: Option<Queue>,
    at: u32,
}

impl Rows {
    /// Takes room for the buffers.
    #[track_caller]
    pub(super) fn new(cx: &mut Context<'_>, post: Post) -> Rows {
        let queue = match post.through {
            Some(_) => Some(Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, post.bytes, post.depth)),
            None => {
                cx.alloc_at(Space::L1, post.at, post.bytes * post.depth as u32);
                None
            }
        };
        Rows { post, taken: 0, queue, at: 0 }
    }

    /// Fetches the next rows, where they come through global memory.
    #[track_caller]
    pub(super) fn fetch(&mut self, cx: &mut Context<'_>, elem: Elem, rows: u32, cols: u32) {
        if let (Some(queue), Some(from)) = (&mut self.queue, self.post.global(cx, self.taken, elem, rows, cols)) {
            self.at = queue.alloc(cx);
            let to = cx.cube_tile_at(Space::L1, self.at, elem, rows, cols);
            cx.cross_wait(Pipe::Mte2, Mode::Core, self.post.flag);
            cx.load_nd2nz(from, to);
            cx.cross_set(Pipe::Mte2, Mode::Core, self.post.flag + 1);
            queue.push(cx);
        }
    }

    /// The rows that were fetched last.
    #[track_caller]
    pub(super) fn take(&mut self, cx: &mut Context<'_>, elem: Elem, rows: u32, cols: u32) -> Tile {
        let at = match &mut self.queue {
            Some(queue) => queue.pop(cx),
            None => {
                cx.cross_wait(Pipe::Mte1, Mode::Core, self.post.flag);
                self.post.place(self.taken)
            }
        };
        self.taken += 1;
        cx.cube_tile_at(Space::L1, at, elem, rows, cols)
    }

    /// They are not needed any more.
    #[track_caller]
    pub(super) fn free(&mut self, cx: &mut Context<'_>) {
        match &mut self.queue {
            Some(queue) => queue.free(cx),
            None => cx.cross_set(Pipe::Mte1, Mode::Core, self.post.flag + 1),
        }
    }

    /// No more come.
    pub(super) fn close(self, cx: &mut Context<'_>) {
        if let Some(queue) = self.queue {
            queue.close(cx);
        }
    }
}

/// Fetches a whole matrix that the vectors put into global memory, into a buffer of the caller's.
#[track_caller]
pub(super) fn fetch(cx: &mut Context<'_>, post: &Post, turn: usize, to: Tile) {
    if let Some(from) = post.global(cx, turn, to.elem, to.rows, to.cols) {
        cx.cross_wait(Pipe::Mte2, Mode::Core, post.flag);
        cx.load_nd2nz(from, to);
        cx.cross_set(Pipe::Mte2, Mode::Core, post.flag + 1);
    }
}

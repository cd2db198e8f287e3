//! Correct kernels of several shapes.

use anychip_ascend::isa::{Body, Elem, Fix, FixHalf, FixTo, Global, Init, Mmad, Mode, Pipe, Tile, UnitFlag};
use anychip_ascend::kernel::{Context, Kernel, Queue};
use anychip_ascend::machine::Space;

/// Operands of all kernels.
pub(crate) const X: u16 = 0;
pub(crate) const W: u16 = 1;
pub(crate) const OUT: u16 = 2;
pub(crate) const SCRATCH: u16 = 3;

fn f32_rows(region: u16, row: u64, rows: u32, cols: u32) -> Global {
    Global::new(region, row * 4 * u64::from(cols), Elem::F32, rows, cols)
}

/// A matrix in a queue's next buffer.
fn next(cx: &mut Context<'_>, queue: &mut Queue, space: Space, elem: Elem, rows: u32, cols: u32) -> Tile {
    let at = queue.alloc(cx);
    cx.cube_tile_at(space, at, elem, rows, cols)
}

/// Rows of 64 numbers through two buffers each way, on two cores.
pub(crate) struct Doubled;

impl Kernel for Doubled {
    fn cores(&self) -> usize {
        2
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let mut x = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 256, 2);
        let mut y = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 256, 2);
        let tile = |at| Tile::rows_of(Space::Ub, at, Elem::F32, 1, 64);
        for r in cx.share(20) {
            let to = tile(x.alloc(cx));
            cx.load_ub(f32_rows(X, r, 1, 64), to);
            x.push(cx);
            let (from, to) = (tile(x.pop(cx)), tile(y.alloc(cx)));
            cx.mul(to, from, 2.0);
            x.free(cx);
            y.push(cx);
            let from = tile(y.pop(cx));
            cx.store(from, f32_rows(OUT, r, 1, 64));
            y.free(cx);
        }
        x.close(cx);
        y.close(cx);
    }
}

/// `32 x 96` by `96 x 64`, in steps of 32 with two buffers in L1, in L0 and of sums.
pub(crate) struct Tiled;

impl Kernel for Tiled {
    fn cores(&self) -> usize {
        1
    }

    fn cube(&self, cx: &mut Context<'_>) {
        let (bytes, elem) = (2 * 32 * 32, Elem::F16);
        let mut l1 = [(); 2].map(|()| Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, bytes, 2));
        let mut a0 = Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0a, bytes, 2);
        let mut b0 = Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0b, bytes, 2);
        let mut sums = Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, 2 * bytes, 2);
        for col in 0..2 {
            let to = next(cx, &mut sums, Space::L0c, Elem::F32, 32, 32);
            for step in 0..3 {
                let parts = [
                    Global::new(X, 0, elem, 32, 96).part(0, 32, 32 * step, 32),
                    Global::new(W, 0, elem, 64, 96).part(32 * col, 32, 32 * step, 32),
                ];
                let tiles = [0, 1].map(|side| {
                    let to = next(cx, &mut l1[side], Space::L1, elem, 32, 32);
                    cx.load_nd2nz(parts[side], to);
                    l1[side].push(cx);
                    to
                });
                let a = next(cx, &mut a0, Space::L0a, elem, 32, 32);
                l1[0].pop(cx);
                cx.load_l0a(tiles[0], a);
                l1[0].free(cx);
                a0.push(cx);
                let b = next(cx, &mut b0, Space::L0b, elem, 32, 32);
                l1[1].pop(cx);
                cx.load_l0b_transposed(tiles[1], b);
                l1[1].free(cx);
                b0.push(cx);
                a0.pop(cx);
                b0.pop(cx);
                cx.mmad(to, a, b, if step == 0 { Init::Zero } else { Init::Accumulate });
                cx.barrier(Pipe::M);
                a0.free(cx);
                b0.free(cx);
            }
            sums.push(cx);
            sums.pop(cx);
            cx.fix(to, FixTo::Gm(Global::new(OUT, 0, Elem::F32, 32, 64).part(0, 32, 32 * col as u32, 32)));
            sums.free(cx);
        }
        l1.into_iter().chain([a0, b0, sums]).for_each(|queue| queue.close(cx));
    }
}

/// Tiles that the cube hands to the vector halves.
const TILES: u64 = 5;

/// The cube's side: a product of each 16 rows of x, and where its sums go.
fn products(cx: &mut Context<'_>, mut hand_over: impl FnMut(&mut Context<'_>, u64, Tile)) {
    let elem = Elem::F16;
    let b1 = cx.cube_tile(Space::L1, elem, 16, 16);
    let b = cx.cube_tile(Space::L0b, elem, 16, 16);
    cx.load_nd2nz(Global::new(W, 0, elem, 16, 16), b1);
    cx.barrier_all();
    cx.load_l0b_transposed(b1, b);
    cx.barrier_all();
    let mut l1 = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, 512, 2);
    let mut a0 = Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0a, 512, 1);
    let mut sums = Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, 1024, 2);
    for turn in 0..TILES {
        let from = next(cx, &mut l1, Space::L1, elem, 16, 16);
        cx.load_nd2nz(Global::new(X, 512 * turn, elem, 16, 16), from);
        l1.push(cx);
        l1.pop(cx);
        let a = next(cx, &mut a0, Space::L0a, elem, 16, 16);
        cx.load_l0a(from, a);
        l1.free(cx);
        a0.push(cx);
        a0.pop(cx);
        let to = next(cx, &mut sums, Space::L0c, Elem::F32, 16, 16);
        cx.mmad(to, a, b, Init::Zero);
        a0.free(cx);
        sums.push(cx);
        sums.pop(cx);
        hand_over(cx, turn, to);
        sums.free(cx);
    }
    [l1, a0, sums].into_iter().for_each(|queue| queue.close(cx));
}

/// The 950: sums go to UB, and a flag with them.
pub(crate) struct ToVectors;

impl Kernel for ToVectors {
    fn cores(&self) -> usize {
        1
    }

    fn cube(&self, cx: &mut Context<'_>) {
        products(cx, |cx, turn, sums| {
            if turn > 1 {
                cx.cross_wait(Pipe::Fix, Mode::Core, 1);
            }
            let at = 512 * (turn % 2) as u32;
            cx.fix(sums, FixTo::Ub(Tile::rows_of(Space::Ub, at, Elem::F32, 16, 16), FixHalf::Split));
            cx.cross_set(Pipe::Fix, Mode::Core, 0);
        });
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let from = [0, 512].map(|at| Tile::rows_of(Space::Ub, cx.alloc_at(Space::Ub, at, 512), Elem::F32, 8, 16));
        let mut y = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 512, 2);
        for turn in 0..TILES {
            cx.cross_wait(Pipe::V, Mode::Core, 0);
            let from = from[turn as usize % 2];
            let to = Tile { at: y.alloc(cx), ..from };
            cx.add(to, from, 1.0);
            if turn + 2 < TILES {
                cx.cross_set(Pipe::V, Mode::Core, 1);
            }
            y.push(cx);
            y.pop(cx);
            cx.store(to, f32_rows(OUT, 16 * turn + 8 * cx.half() as u64, 8, 16));
            y.free(cx);
        }
        y.close(cx);
    }
}

/// The 910B: sums go through memory.
pub(crate) struct ThroughMemory;

impl Kernel for ThroughMemory {
    fn cores(&self) -> usize {
        1
    }

    fn cube(&self, cx: &mut Context<'_>) {
        products(cx, |cx, turn, sums| {
            if turn > 1 {
                cx.cross_wait(Pipe::Fix, Mode::Core, 1);
            }
            cx.fix(sums, FixTo::Gm(f32_rows(SCRATCH, 16 * (turn % 2), 16, 16)));
            cx.cross_set(Pipe::Fix, Mode::Core, 0);
        });
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let mut x = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 512, 2);
        let mut y = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 512, 2);
        let tile = |at| Tile::rows_of(Space::Ub, at, Elem::F32, 8, 16);
        let half = 8 * cx.half() as u64;
        for turn in 0..TILES {
            let to = tile(x.alloc(cx));
            cx.cross_wait(Pipe::Mte2, Mode::Core, 0);
            cx.load_ub(f32_rows(SCRATCH, 16 * (turn % 2) + half, 8, 16), to);
            if turn + 2 < TILES {
                cx.cross_set(Pipe::Mte2, Mode::Core, 1);
            }
            x.push(cx);
            let (from, to) = (tile(x.pop(cx)), tile(y.alloc(cx)));
            cx.add(to, from, 1.0);
            x.free(cx);
            y.push(cx);
            y.pop(cx);
            cx.store(to, f32_rows(OUT, 16 * turn + half, 8, 16));
            y.free(cx);
        }
        x.close(cx);
        y.close(cx);
    }
}

/// All engines of the 950 on two cores: vectors prepare what the cube multiplies, take its sums up, and each core adds what
/// the other has.
pub(crate) struct Everything;

impl Kernel for Everything {
    fn cores(&self) -> usize {
        2
    }

    fn cube(&self, cx: &mut Context<'_>) {
        let elem = Elem::F16;
        let b1 = cx.cube_tile(Space::L1, elem, 16, 16);
        let slots = [(); 2].map(|()| cx.cube_tile(Space::L1, elem, 16, 16));
        let (a, b) = (cx.cube_tile(Space::L0a, elem, 16, 16), cx.cube_tile(Space::L0b, elem, 16, 16));
        let to = cx.cube_tile(Space::L0c, Elem::F32, 16, 16);
        cx.load_nd2nz(Global::new(W, 0, elem, 16, 16), b1);
        cx.barrier_all();
        cx.load_l0b_transposed(b1, b);
        let [ready, summed] = [cx.flag(Pipe::Mte1, Pipe::M), cx.flag(Pipe::M, Pipe::Fix)];
        let [read, fetched] = [cx.flag(Pipe::M, Pipe::Mte1), cx.flag(Pipe::Fix, Pipe::M)];
        for turn in 0..TILES {
            (0..2).for_each(|half| cx.cross_wait(Pipe::Mte1, Mode::Half(half), 2));
            if turn > 0 {
                cx.wait_flag(Pipe::M, Pipe::Mte1, read);
            }
            cx.load_l0a(slots[turn as usize % 2], a);
            if turn + 2 < TILES {
                cx.cross_set(Pipe::Mte1, Mode::Core, 3);
            }
            cx.set_flag(Pipe::Mte1, Pipe::M, ready);
            cx.wait_flag(Pipe::Mte1, Pipe::M, ready);
            if turn > 0 {
                cx.wait_flag(Pipe::Fix, Pipe::M, fetched);
            }
            cx.mmad(to, a, b, Init::Zero);
            cx.set_flag(Pipe::M, Pipe::Mte1, read);
            cx.set_flag(Pipe::M, Pipe::Fix, summed);
            cx.wait_flag(Pipe::M, Pipe::Fix, summed);
            if turn > 0 {
                cx.cross_wait(Pipe::Fix, Mode::Core, 5);
            }
            cx.fix(to, FixTo::Ub(Tile::rows_of(Space::Ub, 0, Elem::F32, 16, 16), FixHalf::Split));
            cx.set_flag(Pipe::Fix, Pipe::M, fetched);
            (0..2).for_each(|half| cx.cross_set(Pipe::Fix, Mode::Half(half), 4));
        }
        cx.wait_flag(Pipe::M, Pipe::Mte1, read);
        cx.wait_flag(Pipe::Fix, Pipe::M, fetched);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let (half, core) = (cx.half() as u8, cx.core() as u64);
        let sums = Tile::rows_of(Space::Ub, cx.alloc_at(Space::Ub, 0, 512), Elem::F32, 8, 16);
        let _ = cx.alloc(Space::L1, 512);
        let slots =
            [512, 1024].map(|at| cx.cube_tile_at(Space::L1, at, Elem::F16, 16, 16).part(8 * u32::from(half), 8, 0, 16));
        let mut x = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 256, 1);
        let mut y = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 256, 2);
        let total = cx.ub(Elem::F32, 8, 16);
        let other = cx.ub(Elem::F32, 8, 16);
        cx.bcast(total, 0.0);
        for turn in 0..TILES {
            let (from, to) = (Tile::rows_of(Space::Ub, x.alloc(cx), Elem::F16, 8, 16), slots[turn as usize % 2]);
            cx.load_ub(Global::new(X, 512 * (TILES * core + turn) + 256 * u64::from(half), Elem::F16, 8, 16), from);
            x.push(cx);
            x.pop(cx);
            let ready = Tile { at: y.alloc(cx), ..from };
            cx.mul(ready, from, 2.0);
            x.free(cx);
            y.push(cx);
            y.pop(cx);
            if turn > 1 {
                cx.cross_wait(Pipe::Mte3, Mode::Core, 3);
            }
            cx.store_l1(ready, to);
            y.free(cx);
            cx.cross_set(Pipe::Mte3, Mode::Half(half), 2);
            cx.cross_wait(Pipe::V, Mode::Half(half), 4);
            cx.add(total, total, sums);
            if turn + 1 < TILES {
                cx.cross_set(Pipe::V, Mode::Core, 5);
            }
        }
        x.close(cx);
        y.close(cx);
        // Each half keeps what it has where the same half of the other core looks for it.
        let mine = |core: u64| f32_rows(SCRATCH, 16 * core + 8 * u64::from(half), 8, 16);
        let [done, loaded] = [cx.flag(Pipe::V, Pipe::Mte3), cx.flag(Pipe::Mte2, Pipe::V)];
        cx.set_flag(Pipe::V, Pipe::Mte3, done);
        cx.wait_flag(Pipe::V, Pipe::Mte3, done);
        cx.store(total, mine(core));
        cx.cross_set(Pipe::Mte3, Mode::Everywhere, 6);
        cx.cross_wait(Pipe::Mte2, Mode::Everywhere, 6);
        cx.load_ub(mine(1 - core), other);
        cx.set_flag(Pipe::Mte2, Pipe::V, loaded);
        cx.wait_flag(Pipe::Mte2, Pipe::V, loaded);
        cx.barrier_all();
        cx.sub(other, other, total);
        cx.barrier_all();
        cx.store(other, f32_rows(OUT, 16 * core + 8 * u64::from(half), 8, 16));
    }
}

/// Sums that are handed to FixPipe by unit flags, two places in turn.
pub(crate) struct Coupled;

impl Kernel for Coupled {
    fn cores(&self) -> usize {
        1
    }

    fn cube(&self, cx: &mut Context<'_>) {
        let elem = Elem::F16;
        let b1 = cx.cube_tile(Space::L1, elem, 16, 32);
        let b = cx.cube_tile(Space::L0b, elem, 32, 16);
        cx.load_nd2nz(Global::new(W, 0, elem, 16, 32), b1);
        cx.barrier_all();
        cx.load_l0b_transposed(b1, b);
        cx.barrier_all();
        let mut l1 = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, 1024, 2);
        let mut a0 = Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0a, 1024, 2);
        let sums = [(); 2].map(|()| cx.cube_tile(Space::L0c, Elem::F32, 16, 16));
        for turn in 0..TILES {
            let from = next(cx, &mut l1, Space::L1, elem, 16, 32);
            cx.load_nd2nz(Global::new(X, 1024 * turn, elem, 16, 32), from);
            l1.push(cx);
            l1.pop(cx);
            let a = next(cx, &mut a0, Space::L0a, elem, 16, 32);
            cx.load_l0a(from, a);
            l1.free(cx);
            a0.push(cx);
            a0.pop(cx);
            let to = sums[turn as usize % 2];
            for (step, init, unit_flag) in [(0, Init::Zero, UnitFlag::Keep), (16, Init::Accumulate, UnitFlag::Last)] {
                let (a, b) = (a.col_range(step, 16), b.row_range(step, 16));
                cx.push(Body::Mmad(Mmad { to, a, b, scales: None, init, unit_flag }));
                cx.barrier(Pipe::M);
            }
            a0.free(cx);
            let gm = FixTo::Gm(f32_rows(OUT, 16 * turn, 16, 16));
            cx.push(Body::Fix(Fix { unit_flag: UnitFlag::Last, ..Fix::new(to, gm) }));
        }
        [l1, a0].into_iter().for_each(|queue| queue.close(cx));
    }
}

/// The two vector halves exchange rows through memory, turn by turn; the scalar unit looks at what came.
pub(crate) struct Exchange;

impl Kernel for Exchange {
    fn cores(&self) -> usize {
        1
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let half = cx.half() as u64;
        let [mine, other] = [(); 2].map(|()| cx.ub(Elem::F32, 1, 64));
        let ready = cx.flag(Pipe::V, Pipe::Mte3);
        let stored = cx.flag(Pipe::Mte3, Pipe::V);
        let loaded = cx.flag(Pipe::Mte2, Pipe::S);
        let seen = cx.flag(Pipe::S, Pipe::V);
        let free = cx.flag(Pipe::V, Pipe::Mte2);
        cx.bcast(mine, 1.0 + half as f32);
        for turn in 0..TILES {
            let slot = |half: u64| f32_rows(SCRATCH, 2 * (turn % 2) + half, 1, 64);
            cx.set_flag(Pipe::V, Pipe::Mte3, ready);
            cx.wait_flag(Pipe::V, Pipe::Mte3, ready);
            cx.store(mine, slot(half));
            cx.set_flag(Pipe::Mte3, Pipe::V, stored);
            cx.cross_set(Pipe::Mte3, Mode::Vectors, 1);
            cx.cross_wait(Pipe::Mte2, Mode::Vectors, 1);
            if turn > 0 {
                cx.wait_flag(Pipe::V, Pipe::Mte2, free);
            }
            cx.load_ub(slot(1 - half), other);
            cx.set_flag(Pipe::Mte2, Pipe::S, loaded);
            cx.wait_flag(Pipe::Mte2, Pipe::S, loaded);
            cx.push(Body::ScalarLoadUb(Tile { cols: 1, ..other }, Vec::new()));
            cx.set_flag(Pipe::S, Pipe::V, seen);
            cx.wait_flag(Pipe::S, Pipe::V, seen);
            cx.wait_flag(Pipe::Mte3, Pipe::V, stored);
            cx.mul(other, other, 3.0);
            cx.add(mine, mine, other);
            cx.set_flag(Pipe::V, Pipe::Mte2, free);
        }
        cx.wait_flag(Pipe::V, Pipe::Mte2, free);
        cx.barrier_all();
        cx.store(mine, f32_rows(OUT, half, 1, 64));
    }
}

//! Products of int8, which no operation of the contract has: plain, and of groups with a gelu behind.

use super::{BenchError, Case, Shape};
use crate::isa::{Elem, FixHalf, FixTo, Global, Init, Mode, Pipe, Round, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::{Arch, CubeType, Profile, Space};
use crate::ops::gemm::{Gemm, Operand, Split};
use crate::sim::{Gm, Options, launch};

/// Largest size of a product.
const MOST: u32 = 1 << 17;

/// `m`, `n`, `k`: i8 to i32.
pub(super) fn case(profile: &Profile, shape: &Shape) -> Result<Case, BenchError> {
    shape.only(&["m", "n", "k"])?;
    let sizes = [shape.size("m", None, MOST)?, shape.size("n", None, MOST)?, shape.size("k", None, MOST)?];
    check(profile)?;
    let mut gm = Gm::default();
    let [m, n, k] = sizes.map(u64::from);
    let regions = [gm.phantom("x", m * k), gm.phantom("w", n * k), gm.phantom("out", 4 * m * n)];
    let kernel = gemm(profile, regions, sizes);
    let case = Case::new(kernel, gm, "a small product of integers is exact, without hazards");
    Ok(Case { work: Some((2.0 * (m * n * k) as f64, CubeType::Int8)), ..case })
}

fn gemm(profile: &Profile, [x, w, out]: [u16; 3], [m, n, k]: [u32; 3]) -> Gemm {
    let operand = |region, rows| Operand { codes: Global::new(region, 0, Elem::I8, rows, k), scales: None };
    let out = Global::new(out, 0, Elem::I32, m, n);
    let sizes = [n, k].map(|size| size as usize);
    Gemm::new(profile, [operand(x, m), operand(w, n)], out, sizes, Split::Columns(1))
}

fn check(profile: &Profile) -> Result<(), BenchError> {
    let sizes @ [m, n, k] = [70u32, 300, 600];
    let values = |count: u32, step: u32| -> Vec<u8> { (0..count).map(|i| (i * step % 251) as u8).collect() };
    let (x, w) = (values(m * k, 7), values(n * k, 11));
    let mut out = vec![0; (4 * m * n) as usize];
    let mut gm = Gm::default();
    let regions = [gm.input("x", &x), gm.input("w", &w), gm.output("out", &mut out)];
    let report = launch(profile, &gemm(profile, regions, sizes), &gm, Options::checked());
    if let Some(hazard) = report.hazards.errors().next() {
        return Err(BenchError::Wrong { problem: hazard.to_string() });
    }
    drop(gm);
    let k = k as usize;
    for (place, bytes) in out.chunks_exact(4).enumerate() {
        let (row, col) = (place / n as usize, place % n as usize);
        let terms = x[row * k..][..k].iter().zip(&w[col * k..][..k]);
        let want: i32 = terms.map(|(x, w)| i32::from(*x as i8) * i32::from(*w as i8)).sum();
        let got = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if got != want {
            return Err(BenchError::Wrong { problem: format!("row {row}, column {col} is {got}, not {want}") });
        }
    }
    Ok(())
}

/// `groups` products `m x k x n` of i8, whose sums a vector half multiplies by a factor and puts through a gelu.
pub(super) fn grouped_case(profile: &Profile, shape: &Shape) -> Result<Case, BenchError> {
    shape.only(&["groups", "m", "n", "k"])?;
    let size = |name, default| shape.size(name, default, MOST);
    let (groups, sizes) = (size("groups", Some(8))?, [size("m", None)?, size("n", None)?, size("k", None)?]);
    if profile.arch != Arch::V3510 {
        return Err(BenchError::Shape { problem: "sums go straight to vector halves, which only the 950 does".into() });
    }
    let mut gm = Gm::default();
    let [m, n, k] = sizes.map(u64::from);
    let all = u64::from(groups);
    check_grouped(profile)?;
    let regions = [gm.phantom("x", all * m * k), gm.phantom("w", all * n * k), gm.phantom("out", 2 * all * m * n)];
    let kernel = grouped(profile, regions, groups, sizes);
    let case = Case::new(kernel, gm, "two small groups without hazards, every byte written");
    Ok(Case { work: Some((2.0 * (all * m * n * k) as f64, CubeType::Int8)), ..case })
}

fn grouped(profile: &Profile, [x, w, out]: [u16; 3], groups: u32, sizes: [u32; 3]) -> Grouped {
    let [m, n, k] = sizes;
    Grouped {
        x: Global::new(x, 0, Elem::I8, groups * m, k),
        w: Global::new(w, 0, Elem::I8, groups * n, k),
        out: Global::new(out, 0, Elem::BF16, groups * m, n),
        groups,
        sizes,
        cores: profile.figures.cube_cores as usize,
    }
}

fn check_grouped(profile: &Profile) -> Result<(), BenchError> {
    let (groups, sizes @ [m, n, k]) = (2, [70u32, 300, 600]);
    let (x, w) = (vec![1; (groups * m * k) as usize], vec![2; (groups * n * k) as usize]);
    let mut out = vec![0; (2 * groups * m * n) as usize];
    let mut gm = Gm::default();
    let regions = [gm.input("x", &x), gm.input("w", &w), gm.output("out", &mut out)];
    let report = launch(profile, &grouped(profile, regions, groups, sizes), &gm, Options::checked());
    match report.hazards.errors().next() {
        Some(hazard) => Err(BenchError::Wrong { problem: hazard.to_string() }),
        None => Ok(()),
    }
}

/// Rows, columns and depth of a block.
const BLOCK: [u32; 3] = [128, 256, 128];
/// Along K in L1.
const LOAD: u32 = 512;
/// Flags between the halves: sums are there, their place is free again.
const FULL: u8 = 0;
const EMPTY: u8 = 1;
/// Blocks of sums that L0C and a vector half have room for: one each, as the published kernel of depth 1.
const ROOM: usize = 1;

struct Grouped {
    x: Global,
    w: Global,
    out: Global,
    groups: u32,
    sizes: [u32; 3],
    cores: usize,
}

impl Grouped {
    /// This core's blocks: first row, rows, first column, columns, group.
    fn blocks(&self, cx: &Context<'_>) -> Vec<[u32; 5]> {
        let [m, n, _] = self.sizes;
        let all = (0..self.groups).flat_map(|group| {
            let rows = (0..m).step_by(BLOCK[0] as usize);
            rows.flat_map(move |row| {
                let cols = (0..n).step_by(BLOCK[1] as usize);
                cols.map(move |col| [row, BLOCK[0].min(m - row), col, BLOCK[1].min(n - col), group])
            })
        });
        all.skip(cx.core()).step_by(cx.cores()).collect()
    }

    /// Where a block's sums lie in UB of each half.
    fn place(rows: u32, cols: u32) -> Tile {
        Tile::rows_of(Space::Ub, 0, Elem::I32, rows, cols)
    }
}

impl Kernel for Grouped {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        let [m, n, k] = self.sizes;
        let bytes = |edge: u32, depth: u32| edge * depth;
        let mut loads = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, bytes(BLOCK[0] + BLOCK[1], LOAD), 2);
        let mut cube = Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0a, bytes(BLOCK[0], BLOCK[2]), 2);
        let right = [(); 2].map(|()| cx.alloc(Space::L0b, bytes(BLOCK[1], BLOCK[2])));
        let mut sums = Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, 4 * BLOCK[0] * BLOCK[1], ROOM);
        let mut products = 0;
        let blocks = self.blocks(cx);
        for (turn, &[row, rows, col, cols, group]) in blocks.iter().enumerate() {
            let to = Tile::sums(sums.alloc(cx), Elem::I32, rows, cols);
            for first in (0..k).step_by(LOAD as usize) {
                let depth = LOAD.min(k - first);
                let at = loads.alloc(cx);
                let a = cx.cube_tile_at(Space::L1, at, Elem::I8, rows, depth);
                let b = cx.cube_tile_at(Space::L1, at + bytes(BLOCK[0], LOAD), Elem::I8, cols, depth);
                cx.load_nd2nz(self.x.part((group * m + row).into(), rows, first, depth), a);
                cx.load_nd2nz(self.w.part((group * n + col).into(), cols, first, depth), b);
                loads.push(cx);
                loads.pop(cx);
                for step in (0..depth).step_by(BLOCK[2] as usize) {
                    let part = BLOCK[2].min(depth - step);
                    let at = cube.alloc(cx);
                    let a0 = cx.cube_tile_at(Space::L0a, at, Elem::I8, rows, part);
                    let b0 = cx.cube_tile_at(Space::L0b, right[products % 2], Elem::I8, part, cols);
                    products += 1;
                    cx.load_l0a(a.part(0, rows, step, part), a0);
                    cx.load_l0b_transposed(b.part(0, cols, step, part), b0);
                    cube.push(cx);
                    cube.pop(cx);
                    cx.mmad(to, a0, b0, if first + step == 0 { Init::Zero } else { Init::Accumulate });
                    cube.free(cx);
                }
                loads.free(cx);
            }
            sums.push(cx);
            sums.pop(cx);
            if turn >= ROOM {
                cx.cross_wait(Pipe::Fix, Mode::Core, EMPTY);
            }
            cx.fix(to, FixTo::Ub(Grouped::place(rows, cols), FixHalf::Split));
            cx.cross_set(Pipe::Fix, Mode::Core, FULL);
            sums.free(cx);
        }
        for _ in 0..blocks.len().min(ROOM) {
            cx.cross_wait(Pipe::Fix, Mode::Core, EMPTY);
        }
        loads.close(cx);
        cube.close(cx);
        sums.close(cx);
    }

    /// `x / (1 + exp(-1.702 x))` of the sums times a factor.
    fn vector(&self, cx: &mut Context<'_>) {
        let half = BLOCK[0] / 2;
        let sums = Grouped::place(half, BLOCK[1]);
        cx.alloc_at(Space::Ub, sums.at, sums.end() as u32);
        let [x, y] = [(); 2].map(|()| cx.ub(Elem::F32, half, BLOCK[1] / 2));
        let mut out = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, half * BLOCK[1], 1);
        for [row, rows, col, cols, group] in self.blocks(cx) {
            let upper = rows.div_ceil(2);
            let (first, mine) = if cx.half() == 0 { (0, upper) } else { (upper, rows - upper) };
            cx.cross_wait(Pipe::V, Mode::Core, FULL);
            let sums = Grouped::place(mine, cols);
            for part in (0..cols).step_by(BLOCK[1] as usize / 2) {
                let width = (BLOCK[1] / 2).min(cols - part);
                let [x, y] = [x, y].map(|tile| Tile { rows: mine, cols: width, ..tile });
                let to = Tile::rows_of(Space::Ub, out.alloc(cx), Elem::BF16, mine, width);
                cx.fused(|cx| {
                    cx.cast(x, sums.part(0, mine, part, width), Round::Even);
                    cx.mul(x, x, 1.0 / 4096.0);
                    cx.mul(y, x, -1.702);
                    cx.exp(y, y);
                    cx.add(y, y, 1.0);
                    cx.div(x, x, y);
                    cx.cast(to, x, Round::Even);
                });
                out.push(cx);
                out.pop(cx);
                cx.store(to, self.out.part((group * self.sizes[0] + row + first).into(), mine, col + part, width));
                out.free(cx);
            }
            cx.cross_set(Pipe::V, Mode::Core, EMPTY);
        }
        out.close(cx);
    }
}

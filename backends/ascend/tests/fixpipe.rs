//! What FixPipe writes in each order, against where a host would put the sums.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

use anychip_ascend::isa::{Body, Elem, Fix, FixHalf, FixMode, FixTo, Global, Init, Mode, Pipe, Quant, Tile, hif8};
use anychip_ascend::kernel::{Context, Kernel};
use anychip_ascend::layout::{FRACTAL_ROWS, Layout, Tiled};
use anychip_ascend::machine::{Profile, Space};
use anychip_ascend::sim::{Gm, Options, Schedule, launch};

/// Depth of the products.
const K: u32 = 16;

/// Which way sums take to the output.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Straight.
    Gm,
    /// By UB of a vector half, which stores it as it lies there.
    Ub(u8),
    /// By L1 and from there, byte by byte, to UB.
    L1,
}

/// `x w^T` through FixPipe, and what it wrote as bytes.
struct Sums {
    operands: [u16; 2],
    out: u16,
    sizes: [u32; 2],
    elem: Elem,
    mode: FixMode,
    quant: Quant,
    way: Way,
}

impl Sums {
    /// Rows and columns of what is written to global memory or UB.
    fn shape(&self) -> [u32; 2] {
        let [m, n] = self.sizes;
        match (self.mode, self.mode.width(self.elem)) {
            (_, Some(width)) => [n / width as u32, m * width as u32],
            (FixMode::Columns, _) => [n, m],
            _ => [m, n],
        }
    }

    fn bytes(&self) -> u32 {
        let [rows, cols] = self.shape();
        rows * self.elem.bytes(cols as usize) as u32
    }

    fn half(&self) -> u8 {
        if let Way::Ub(half) = self.way { half } else { 0 }
    }

    fn ub(&self) -> Tile {
        match self.mode {
            FixMode::Fractals => Tile::fractals(Space::Ub, 0, self.elem, Layout::Nz, self.sizes[0], self.sizes[1]),
            _ => Tile::rows_of(Space::Ub, 0, self.elem, self.shape()[0], self.shape()[1]),
        }
    }
}

impl Kernel for Sums {
    fn cores(&self) -> usize {
        1
    }

    fn cube(&self, cx: &mut Context<'_>) {
        let [m, n] = self.sizes;
        let [a1, b1] = [m, n].map(|rows| cx.cube_tile(Space::L1, Elem::BF16, rows, K));
        let (a0, b0) = (cx.cube_tile(Space::L0a, Elem::BF16, m, K), cx.cube_tile(Space::L0b, Elem::BF16, K, n));
        let sums = cx.cube_tile(Space::L0c, Elem::F32, m, n);
        for (region, to) in self.operands.into_iter().zip([a1, b1]) {
            cx.load_nd2nz(Global::new(region, 0, Elem::BF16, to.rows, K), to);
        }
        cx.barrier_all();
        cx.load_l0a(a1, a0);
        cx.load_l0b_transposed(b1, b0);
        cx.barrier_all();
        cx.mmad(sums, a0, b0, Init::Zero);
        cx.barrier_all();
        let l1 = Tile::fractals(Space::L1, 1 << 16, self.elem, Layout::Nz, m, n);
        let to = match self.way {
            Way::Gm => FixTo::Gm(Global::new(self.out, 0, self.elem, self.shape()[0], self.shape()[1])),
            Way::Ub(half) => FixTo::Ub(self.ub(), if half == 0 { FixHalf::First } else { FixHalf::Second }),
            Way::L1 => FixTo::L1(l1),
        };
        let relu = self.elem == Elem::U8;
        cx.push(Body::Fix(Fix { mode: self.mode, quant: self.quant, relu, ..Fix::new(sums, to) }));
        match self.way {
            Way::Gm => return,
            Way::Ub(half) => return cx.cross_set(Pipe::Fix, Mode::Half(half), 0),
            Way::L1 => cx.barrier_all(),
        }
        let raw = |space, at| Tile::dense(space, at, Elem::U8, 1, self.bytes());
        cx.push(Body::LoadL1Ub(raw(Space::L1, l1.at), raw(Space::Ub, 0), 0));
        cx.cross_set(Pipe::Mte1, Mode::Half(0), 0);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        if self.way == Way::Gm || cx.half() as u8 != self.half() {
            return;
        }
        cx.cross_wait(Pipe::Mte3, Mode::Half(self.half()), 0);
        // Byte by byte, so that nothing is laid out anew. Rows have no gaps between them where they fill blocks of UB.
        let raw = Tile::dense(Space::Ub, 0, Elem::U8, 1, self.bytes());
        cx.store(raw, Global::new(self.out, 0, Elem::U8, 1, self.bytes()));
    }
}

fn value(i: u32) -> f32 {
    f32::from(((i * 37) % 17) as i8 - 8)
}

/// Runs it, and gives the sums as a host has them and the bytes that were written.
fn run(profile: &str, kernel: impl Fn([u16; 2], u16) -> Sums, [m, n]: [u32; 2]) -> (Vec<f32>, Vec<u8>) {
    let operand = |rows: u32, start: u32| -> Vec<u8> {
        (0..rows * K).flat_map(|i| half::bf16::from_f32(value(i + start)).to_le_bytes()).collect()
    };
    let (x, w) = (operand(m, 0), operand(n, 5));
    let mut out = vec![0; kernel([0, 1], 2).bytes() as usize];
    let mut gm = Gm::default();
    let (x, w, to) = (gm.input("x", &x), gm.input("w", &w), gm.output("out", &mut out));
    let kernel = kernel([x, w], to);
    let profile = Profile::open(profile).unwrap();
    for seed in 0..3 {
        let options = Options::checked().scheduled(Schedule::Adversarial(seed));
        let report = launch(&profile, &kernel, &gm, options);
        let found: Vec<String> = report.hazards.iter().map(|(hazard, _)| hazard.to_string()).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
    drop(gm);
    let sum = |row: u32, col: u32| (0..K).map(|k| value(row * K + k) * value(col * K + k + 5)).sum();
    ((0..m * n).map(|at| sum(at / n, at % n)).collect(), out)
}

/// The number at a place of what was written.
fn number(elem: Elem, bytes: &[u8], place: usize) -> f32 {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    match elem {
        Elem::F32 => f32::from_le_bytes(bytes[4 * place..4 * place + 4].try_into().unwrap()),
        Elem::F16 => half::f16::from_bits(half(2 * place)).to_f32(),
        Elem::BF16 => half::bf16::from_bits(half(2 * place)).to_f32(),
        Elem::HiF8 => hif8::decode(bytes[place]),
        Elem::I8 => f32::from(bytes[place] as i8),
        Elem::U8 => f32::from(bytes[place]),
        Elem::I4 => f32::from((bytes[place / 2] << (4 - place % 2 * 4)) as i8 >> 4),
        elem => unreachable!("{elem}"),
    }
}

/// A sum as a number of a type.
fn converted(elem: Elem, sum: f32) -> f32 {
    match elem {
        Elem::F32 => sum,
        Elem::F16 => half::f16::from_f32(sum).to_f32(),
        Elem::BF16 => half::bf16::from_f32(sum).to_f32(),
        Elem::HiF8 => hif8::decode(hif8::encode(sum)),
        Elem::U8 => sum.max(0.0).round_ties_even(),
        _ => sum.round_ties_even(),
    }
}

/// Every sum is where `place` has it.
#[track_caller]
fn check(
    profile: &str,
    (mode, way): (FixMode, Way),
    (elem, scale): (Elem, Option<f32>),
    sizes: [u32; 2],
    place: impl Fn(usize, usize) -> usize,
) {
    let quant = scale.map_or(Quant::None, Quant::Scale);
    let (sums, out) = run(profile, |operands, out| Sums { operands, out, sizes, elem, mode, quant, way }, sizes);
    let cols = sizes[1] as usize;
    for (at, sum) in sums.iter().enumerate() {
        let (row, col) = (at / cols, at % cols);
        let (got, want) = (number(elem, &out, place(row, col)), converted(elem, sum * scale.unwrap_or(1.0)));
        assert_eq!(got, want, "{profile} {mode:?} {way:?} {elem}: [{row},{col}]");
    }
    assert!(sums.iter().any(|sum| *sum != sums[0]), "all sums are alike: nothing was looked at");
}

#[test]
fn columns_become_rows() {
    for (elem, scale) in [(Elem::F32, None), (Elem::BF16, None), (Elem::HiF8, Some(0.125)), (Elem::I8, Some(0.0625))] {
        for (m, n) in [(32, 48), (24, 40), (1, 16), (17, 7)] {
            check("950dt", (FixMode::Columns, Way::Gm), (elem, scale), [m, n], |row, col| col * m as usize + row);
        }
        for half in [0, 1] {
            let mode = (FixMode::Columns, Way::Ub(half));
            check("950pr", mode, (elem, scale), [32, 40], |row, col| col * 32 + row);
        }
    }
}

/// Two or four fractals of sums to one, in L1 as its layout says and in global memory without the padding of rows.
#[test]
fn channels_are_merged() {
    let types = [
        ("950dt", Elem::I8, Some(0.0625), 32),
        ("950dt", Elem::HiF8, Some(0.125), 32),
        ("950dt", Elem::F16, None, 16),
        ("910b", Elem::I8, Some(0.0625), 32),
        ("910b", Elem::U8, Some(0.0625), 32),
        ("910b", Elem::I4, Some(0.00390625), 64),
        ("910b", Elem::BF16, None, 16),
    ];
    for (profile, elem, scale, c0) in types {
        for (m, n) in [(32, 64), (24, 128), (7, 64)] {
            let place = |row: usize, col: usize| col / c0 * m as usize * c0 + row * c0 + col % c0;
            check(profile, (FixMode::Fractals, Way::Gm), (elem, scale), [m, n], place);
        }
        if profile == "950dt" {
            let tiled = Tiled { layout: Layout::Nz, rows: 32, cols: 64, c0 };
            let place = |row, col| tiled.place(row, col);
            check(profile, (FixMode::Fractals, Way::L1), (elem, scale), [32, 64], place);
        }
    }
    let tiled = Tiled { layout: Layout::Nz, rows: 32, cols: 64, c0: 16 };
    let to_ub = (FixMode::Fractals, Way::Ub(1));
    check("950dt", to_ub, (Elem::BF16, None), [32, 64], |row, col| tiled.place(row, col));
}

/// f32 in fractals of 8 columns, or of 16 where nobody splits them.
#[test]
fn channels_are_split() {
    for profile in ["950dt", "910b"] {
        for (mode, width, n) in [(FixMode::Split, 8, 40), (FixMode::Fractals, 16, 48)] {
            for m in [32, 24, 7] {
                let place = |row: usize, col: usize| col / width * m as usize * width + row * width + col % width;
                check(profile, (mode, Way::Gm), (Elem::F32, None), [m, n], place);
            }
        }
    }
    assert_eq!(FRACTAL_ROWS, 16);
}

/// Split sums in global memory are what a load of fractals takes: they come back as rows.
struct Back {
    sums: Sums,
    there: u16,
}

impl Kernel for Back {
    fn cores(&self) -> usize {
        1
    }

    fn cube(&self, cx: &mut Context<'_>) {
        self.sums.cube(cx);
        cx.barrier_all();
        let ([m, n], elem) = (self.sums.sizes, self.sums.elem);
        let l1 = Tile::fractals(Space::L1, 1 << 17, elem, Layout::Nz, m, n);
        cx.push(Body::LoadNz(Global::fractals(self.sums.out, 0, elem, m, n), l1));
        cx.barrier_all();
        cx.push(Body::LoadL1Ub(l1, Tile::rows_of(Space::Ub, 0, elem, m, n), 1));
        cx.cross_set(Pipe::Mte1, Mode::Half(1), 0);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        if cx.half() == 1 {
            let ([m, n], elem) = (self.sums.sizes, self.sums.elem);
            cx.cross_wait(Pipe::Mte3, Mode::Half(1), 0);
            cx.store(Tile::rows_of(Space::Ub, 0, elem, m, n), Global::new(self.there, 0, elem, m, n));
        }
    }
}

#[test]
fn fractals_of_global_memory_come_back() {
    let profile = Profile::open("950dt").unwrap();
    let (sizes, way, quant) = ([24, 40], Way::Gm, Quant::None);
    let x: Vec<u8> = (0..40 * K).flat_map(|i| half::bf16::from_f32(value(i)).to_le_bytes()).collect();
    let sums = |operands, out| Sums { operands, out, sizes, elem: Elem::F32, mode: FixMode::Split, quant, way };
    let mut there = vec![0; 24 * 40 * 4];
    let mut gm = Gm::default();
    let x = gm.input("x", &x);
    let fractals = gm.scratch("fractals", 24 * 40 * 4);
    let kernel = Back { sums: sums([x, x], fractals), there: gm.output("there", &mut there) };
    let report = launch(&profile, &kernel, &gm, Options::checked());
    let found: Vec<String> = report.hazards.iter().map(|(hazard, _)| hazard.to_string()).collect();
    assert!(found.is_empty(), "{found:#?}");
    drop(gm);
    for at in 0..24 * 40u32 {
        let (row, col) = (at / 40, at % 40);
        let want: f32 = (0..K).map(|k| value(row * K + k) * value(col * K + k)).sum();
        assert_eq!(number(Elem::F32, &there, at as usize), want, "[{row},{col}]");
    }
}

/// A transfer takes as long in any order: what moves are its bytes.
#[test]
fn no_order_takes_longer_than_its_bytes() {
    let profile = Profile::open("950dt").unwrap();
    let time = |mode: FixMode| {
        let (sizes, way, quant) = ([128, 128], Way::Gm, Quant::None);
        let sums = |operands, out| Sums { operands, out, sizes, elem: Elem::F32, mode, quant, way };
        let x = vec![0; (128 * K * 2) as usize];
        let mut out = vec![0; 128 * 128 * 4];
        let mut gm = Gm::default();
        let x = gm.input("x", &x);
        let kernel = sums([x, x], gm.output("out", &mut out));
        launch(&profile, &kernel, &gm, Options::checked().timed()).timing.unwrap().cycles
    };
    let rows = time(FixMode::Rows);
    let bytes = 128.0 * 128.0 * 4.0 / profile.figures.l0c_gm;
    assert!(rows > bytes, "{rows}");
    for mode in [FixMode::Columns, FixMode::Fractals, FixMode::Split] {
        assert!((time(mode) - rows).abs() < 1.0, "{mode:?}: {} and {rows}", time(mode));
    }
}

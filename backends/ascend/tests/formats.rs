//! HiF8 and e5m2 in vectors and in the cube, against a host.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

use anychip_ascend::isa::{Body, Elem, FixTo, Global, Init, Round, Tile, e5m2, hif8};
use anychip_ascend::kernel::{Context, Kernel};
use anychip_ascend::machine::{Profile, Space};
use anychip_ascend::sim::{Code, Gm, Options, launch};
use anychip_core::formats::e4m3;

fn encode(elem: Elem, x: f32) -> Vec<u8> {
    match elem {
        Elem::F32 => x.to_le_bytes().to_vec(),
        Elem::F16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
        Elem::BF16 => half::bf16::from_f32(x).to_le_bytes().to_vec(),
        Elem::HiF8 => vec![hif8::encode(x)],
        Elem::E5M2 => vec![e5m2::encode(x)],
        _ => vec![e4m3::encode(x)],
    }
}

fn decode(elem: Elem, code: u8) -> f32 {
    match elem {
        Elem::HiF8 => hif8::decode(code),
        Elem::E5M2 => e5m2::decode(code),
        _ => e4m3::decode(code),
    }
}

/// A row through one conversion.
struct Cast {
    x: u16,
    out: u16,
    cols: u32,
    types: [Elem; 2],
    round: Round,
}

impl Kernel for Cast {
    fn cores(&self) -> usize {
        1
    }

    fn vector(&self, cx: &mut Context<'_>) {
        if cx.half() == 1 {
            return;
        }
        let [from, to] = self.types.map(|elem| cx.ub(elem, 1, self.cols));
        cx.load_ub(Global::new(self.x, 0, from.elem, 1, self.cols), from);
        cx.barrier_all();
        cx.cast(to, from, self.round);
        cx.barrier_all();
        cx.store(to, Global::new(self.out, 0, to.elem, 1, self.cols));
    }
}

/// Gives what comes out, what was reported, and the cycles it takes.
fn cast(x: &[u8], cols: usize, types: [Elem; 2], round: Round) -> (Vec<u8>, Vec<Code>, f64) {
    let mut out = vec![0; types[1].bytes(cols)];
    let mut gm = Gm::default();
    let x = gm.input("x", x);
    let kernel = Cast { x, out: gm.output("out", &mut out), cols: cols as u32, types, round };
    let report = launch(&Profile::open("950dt").unwrap(), &kernel, &gm, Options::checked().timed());
    drop(gm);
    (out, report.hazards.codes(), report.timing.unwrap().cycles)
}

/// Values about all codes of a type: each, what lies between it and the next, and next to that.
fn about(elem: Elem) -> Vec<f32> {
    let mut all: Vec<f32> = (0..=255u8).map(|code| decode(elem, code)).filter(|value| value.is_finite()).collect();
    all.sort_by(f32::total_cmp);
    let between: Vec<f32> = all.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
    all.extend(between.iter().flat_map(|x| [*x, x.next_up(), x.next_down()]));
    // Subnormal numbers of f32 are flushed before anything is done with them.
    all.retain(|x| !x.is_subnormal());
    all
}

#[test]
fn codes_come_of_numbers_as_the_format_has_it() {
    for (elem, round) in [(Elem::HiF8, Round::Away), (Elem::E5M2, Round::Even)] {
        for from in [Elem::F32, Elem::F16, Elem::BF16] {
            let numbers = about(elem);
            let x: Vec<u8> = numbers.iter().flat_map(|x| encode(from, *x)).collect();
            let (out, codes, _) = cast(&x, numbers.len(), [from, elem], round);
            assert!(codes.is_empty(), "{from} {elem}: {codes:?}");
            for (number, code) in numbers.iter().zip(out) {
                let rounded = match from {
                    Elem::F16 => half::f16::from_f32(*number).to_f32(),
                    Elem::BF16 => half::bf16::from_f32(*number).to_f32(),
                    _ => *number,
                };
                assert_eq!(code, encode(elem, rounded)[0], "{from} {number} to {elem}");
            }
        }
    }
}

/// All 256 codes, to each type that holds them.
#[test]
fn numbers_come_of_codes() {
    let codes: Vec<u8> = (0..=255).collect();
    for elem in [Elem::HiF8, Elem::E5M2] {
        for to in [Elem::F32, Elem::F16, Elem::BF16] {
            let (out, found, _) = cast(&codes, 256, [elem, to], Round::Even);
            assert!(found.is_empty(), "{elem} {to}: {found:?}");
            for (code, got) in codes.iter().zip(out.chunks(to.bytes(1))) {
                let want = decode(elem, *code);
                let same = got == encode(to, want);
                assert!(same || want.is_nan(), "{elem} {code:#04x} is {want}, not {got:?} of {to}");
            }
        }
    }
}

/// What is beyond a type becomes its largest, which is a warning.
#[test]
fn numbers_beyond_a_type_saturate() {
    for (elem, round, most) in [(Elem::HiF8, Round::Away, hif8::MAX), (Elem::E5M2, Round::Even, e5m2::MAX)] {
        let numbers = [1e6, -1e6, f32::INFINITY, f32::NEG_INFINITY];
        let x: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (out, codes, _) = cast(&x, 4, [Elem::F32, elem], round);
        assert_eq!(codes, [Code::Lossy]);
        assert_eq!(out.iter().map(|code| decode(elem, *code)).collect::<Vec<_>>(), [most, -most, most, -most]);
        let (out, codes, _) = cast(&f32::NAN.to_le_bytes(), 1, [Elem::F32, elem], round);
        assert!(codes.is_empty() && decode(elem, out[0]).is_nan(), "{elem}: {out:?}");
    }
}

/// The chip has e5m2 from f32 alone, HiF8 from f32 and f16: others are two conversions, and cost two.
#[test]
fn conversions_by_way_of_f32_cost_two() {
    let cols = 1 << 14;
    let time = |from: Elem, to: Elem, round| cast(&vec![0; from.bytes(cols)], cols, [from, to], round).2;
    // Transfers differ with the type: of types of one size they do not.
    let (one, two) = (time(Elem::F16, Elem::HiF8, Round::Away), time(Elem::BF16, Elem::HiF8, Round::Away));
    assert!(two > one + 32.0, "{one} {two}");
    let (one, two) = (time(Elem::BF16, Elem::E4M3, Round::Even), time(Elem::BF16, Elem::E5M2, Round::Even));
    assert!(two > one + 32.0, "{one} {two}");
    let (one, two) = (time(Elem::F32, Elem::E4M3, Round::Even), time(Elem::F32, Elem::E5M2, Round::Even));
    assert_eq!(one, two);
}

/// `x w^T` of codes, block-scaled where there are scales.
struct Product {
    x: u16,
    w: u16,
    out: u16,
    sizes: [u32; 3],
    types: [Elem; 2],
    /// Exponents of all scales of both.
    scales: Option<[u8; 2]>,
}

impl Kernel for Product {
    fn cores(&self) -> usize {
        1
    }

    fn cube(&self, cx: &mut Context<'_>) {
        let ([m, k, n], [ea, eb]) = (self.sizes, self.types);
        let (a1, b1) = (cx.cube_tile(Space::L1, ea, m, k), cx.cube_tile(Space::L1, eb, n, k));
        let (a0, b0) = (cx.cube_tile(Space::L0a, ea, m, k), cx.cube_tile(Space::L0b, eb, k, n));
        let sums = cx.cube_tile(Space::L0c, Elem::F32, m, n);
        cx.load_nd2nz(Global::new(self.x, 0, ea, m, k), a1);
        cx.load_nd2nz(Global::new(self.w, 0, eb, n, k), b1);
        cx.barrier_all();
        cx.load_l0a(a1, a0);
        cx.load_l0b_transposed(b1, b0);
        let scales = self.scales.map(|exponents| {
            let mut load = |exponent: u8, beside: Tile| {
                let bytes = 32 * beside.rows * beside.cols;
                let from = Tile::scales(cx.alloc(Space::L1, bytes), beside.rows, beside.cols);
                cx.push(Body::FillL1(from, u32::from(exponent)));
                cx.load_mx(from, beside);
                beside
            };
            [load(exponents[0], a0.scales_beside()), load(exponents[1], b0.scales_beside())]
        });
        cx.barrier_all();
        match scales {
            Some(scales) => cx.mmad_mx(sums, [a0, b0], scales, Init::Zero),
            None => cx.mmad(sums, a0, b0, Init::Zero),
        }
        cx.barrier_all();
        cx.fix(sums, FixTo::Gm(Global::new(self.out, 0, Elem::F32, m, n)));
    }
}

fn check_product(types: [Elem; 2], sizes: [u32; 3], scales: Option<[u8; 2]>) {
    let [m, k, n] = sizes;
    // Quarters, which all of these types have: sums of their products are exact in any order.
    let number = |i: u32| f32::from(((i * 29) % 13) as i8 - 6) / 4.0;
    let codes = |elem: Elem, count: u32, start: u32| -> Vec<u8> {
        (0..count).flat_map(|i| encode(elem, number(i + start))).collect()
    };
    let (x, w) = (codes(types[0], m * k, 0), codes(types[1], n * k, 3));
    let mut out = vec![0; (4 * m * n) as usize];
    let mut gm = Gm::default();
    let (xs, ws) = (gm.input("x", &x), gm.input("w", &w));
    let kernel = Product { x: xs, w: ws, out: gm.output("out", &mut out), sizes, types, scales };
    let report = launch(&Profile::open("950dt").unwrap(), &kernel, &gm, Options::checked());
    let found: Vec<String> = report.hazards.iter().map(|(hazard, _)| hazard.to_string()).collect();
    assert!(found.is_empty(), "{types:?}: {found:#?}");
    drop(gm);
    let factor: f32 = scales.map_or(1.0, |both| both.iter().map(|e| 2f32.powi(i32::from(*e) - 127)).product());
    for at in 0..(m * n) as usize {
        let (row, col) = (at / n as usize * k as usize, at % n as usize * k as usize);
        let one = |depth: usize| decode(types[0], x[row + depth]) * decode(types[1], w[col + depth]);
        let want: f32 = (0..k as usize).map(one).sum::<f32>() * factor;
        let got = f32::from_le_bytes(out[4 * at..4 * at + 4].try_into().unwrap());
        assert_eq!(got, want, "{types:?} {sizes:?} {scales:?}: {at}");
    }
}

#[test]
fn products_of_codes() {
    for types in [
        [Elem::HiF8, Elem::HiF8],
        [Elem::E5M2, Elem::E5M2],
        [Elem::E5M2, Elem::E4M3],
        [Elem::E4M3, Elem::E5M2],
        [Elem::E4M3, Elem::E4M3],
    ] {
        check_product(types, [33, 40, 50], None);
        check_product(types, [16, 96, 16], None);
    }
}

#[test]
fn block_scaled_products_of_codes() {
    for types in [[Elem::E5M2, Elem::E5M2], [Elem::E5M2, Elem::E4M3], [Elem::E4M3, Elem::E5M2]] {
        check_product(types, [32, 128, 48], Some([129, 126]));
        check_product(types, [16, 64, 16], Some([127, 127]));
    }
}

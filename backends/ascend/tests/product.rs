//! A product through all memories of the cube, on both generations.
#![allow(missing_docs, clippy::unwrap_used)]

use anychip_ascend::isa::{Elem, FixTo, Global, Init, Pipe};
use anychip_ascend::kernel::{Context, Kernel};
use anychip_ascend::machine::{Profile, Space};
use anychip_ascend::sim::{Gm, Options, Schedule, launch};

struct Product {
    x: u16,
    w: u16,
    out: u16,
    sizes: [u32; 3],
    elem: Elem,
    /// Whether `w` is rows of k, or else rows of n.
    by_k: bool,
}

impl Kernel for Product {
    fn cores(&self) -> usize {
        1
    }

    fn cube(&self, cx: &mut Context<'_>) {
        let ([m, k, n], elem) = (self.sizes, self.elem);
        let a1 = cx.cube_tile(Space::L1, elem, m, k);
        let b1 = if self.by_k { cx.cube_tile(Space::L1, elem, n, k) } else { cx.cube_tile(Space::L1, elem, k, n) };
        let a0 = cx.cube_tile(Space::L0a, elem, m, k);
        let b0 = cx.cube_tile(Space::L0b, elem, k, n);
        let sums = cx.cube_tile(Space::L0c, Elem::F32, m, n);
        let loaded = cx.flag(Pipe::Mte2, Pipe::Mte1);
        let ready = cx.flag(Pipe::Mte1, Pipe::M);
        let summed = cx.flag(Pipe::M, Pipe::Fix);
        cx.load_nd2nz(Global::new(self.x, 0, elem, m, k), a1);
        cx.load_nd2nz(Global::new(self.w, 0, elem, b1.rows, b1.cols), b1);
        cx.set_flag(Pipe::Mte2, Pipe::Mte1, loaded);
        cx.wait_flag(Pipe::Mte2, Pipe::Mte1, loaded);
        cx.load_l0a(a1, a0);
        if self.by_k {
            cx.load_l0b_transposed(b1, b0)
        } else {
            cx.load_l0b(b1, b0)
        }
        cx.set_flag(Pipe::Mte1, Pipe::M, ready);
        cx.wait_flag(Pipe::Mte1, Pipe::M, ready);
        cx.mmad(sums, a0, b0, Init::Zero);
        cx.set_flag(Pipe::M, Pipe::Fix, summed);
        cx.wait_flag(Pipe::M, Pipe::Fix, summed);
        cx.fix(sums, FixTo::Gm(Global::new(self.out, 0, Elem::F32, m, n)));
    }
}

#[test]
fn a_product_is_what_it_is_by_hand() {
    for profile in ["950dt", "910b"] {
        let profile = Profile::open(profile).unwrap();
        for elem in [Elem::F32, Elem::BF16] {
            for (by_k, [m, k, n]) in
                [(true, [33, 40, 50]), (false, [33, 40, 50]), (true, [1, 7, 5]), (false, [16, 16, 16])]
            {
                let value = |i: u32| f32::from(((i * 37) % 17) as i8 - 8);
                let bytes = |count: u32, start: u32| -> Vec<u8> {
                    let all = (0..count).map(|i| value(i + start));
                    match elem {
                        Elem::F32 => all.flat_map(f32::to_le_bytes).collect(),
                        _ => all.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
                    }
                };
                let (x, w) = (bytes(m * k, 0), bytes(k * n, 5));
                let mut out = vec![0; (m * n * 4) as usize];
                let mut gm = Gm::default();
                let (x, w) = (gm.input("x", &x), gm.input("w", &w));
                let kernel = Product { x, w, out: gm.output("out", &mut out), sizes: [m, k, n], elem, by_k };
                let options = Options::checked().scheduled(Schedule::Adversarial(3));
                let report = launch(&profile, &kernel, &gm, options);
                let found: Vec<String> = report.hazards.iter().map(|(hazard, _)| hazard.to_string()).collect();
                assert!(found.is_empty(), "{found:#?}");
                drop(gm);
                for row in 0..m {
                    for col in 0..n {
                        let weight = |depth| if by_k { col * k + depth } else { depth * n + col };
                        let sum: f32 = (0..k).map(|depth| value(row * k + depth) * value(weight(depth) + 5)).sum();
                        let at = 4 * (row * n + col) as usize;
                        let got = f32::from_le_bytes(out[at..at + 4].try_into().unwrap());
                        assert!(
                            (got - sum).abs() < 1e-3,
                            "{} {elem} {m}x{k}x{n} by_k {by_k}: [{row},{col}] {got} {sum}",
                            profile.name
                        );
                    }
                }
            }
        }
    }
}

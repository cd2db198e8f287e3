//! The devices of this workspace pass the quick profile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_conformance::{Report, Selection, run};
use anychip_core::forward::{Hooks, Inner, Recordings, Wrapped};
use anychip_core::{Accumulator, DType, Device, Numerics, Op, Result, ops};

fn quick(device: &dyn Device, seed: u64) -> Report {
    run(device, &Selection { seed, ..Selection::default() }, &mut |_| true).unwrap()
}

fn assert_passes(device: &dyn Device, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let report = quick(device, seed);
        println!("{}", report.matrix());
        assert!(report.passed, "{}", report.matrix());
        assert_eq!(report.counts.executed, report.counts.selected);
        let all: Vec<&str> = report.ops.iter().map(|o| o.op).collect();
        assert_eq!((all[0], &all[1..]), ("device", ops::NAMES));
    }
}

#[test]
fn cpu_passes() {
    assert_passes(&*anychip_cpu::open(), 0..1);
}

/// How work is shared out depends on the number of threads, and so does which lines of a kernel run at all: this machine's
/// few cores are not enough to try them. A process has one number, so this test's own executable is run again.
#[test]
fn cpu_passes_with_sixteen_threads() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let run = command.args(["--exact", "cpu_passes", "--nocapture"]).env("RAYON_NUM_THREADS", "16").output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains(", 16 threads)"), "{said}");
}

#[test]
fn cpu_passes_under_other_seeds() {
    assert_passes(&*anychip_cpu::open(), 1..3);
}

#[test]
fn reference_passes() {
    assert_passes(&*anychip_reference::open(4 << 30), 0..1);
}

/// The CPU, declaring the arithmetic of a coarser chip: a narrow accumulator that truncates, rough functions, flushing.
struct Modest;

impl Hooks for Modest {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::Whole
    }

    fn numerics(&self, _: &dyn Device, _: &Op) -> Numerics {
        Numerics {
            accumulator: Accumulator { significand_bits: 14, terms_per_rounding: 16, truncates: true },
            function_ulps: 64.0,
            flushes_subnormals: true,
            ..Numerics::f32()
        }
    }
}

/// A device that promises less is judged by less, and still by something: every bound is finite. The report shows what
/// was promised.
#[test]
fn who_declares_less_gets_wider_bounds_and_finite_ones() {
    let device = Wrapped::new(anychip_cpu::open(), Modest);
    assert_passes(&device, 0..3);
    let report = quick(&device, 3);
    let declared = |op: &str| report.ops.iter().find(|o| o.op == op).unwrap().declared.clone();
    assert_eq!(declared("linear").len(), 1);
    assert!(declared("linear")[0].starts_with("accumulator of 14 bits, 16 products to a rounding, truncating"));
}

/// The CPU behind a matrix unit that takes bf16 alone: an f32 operand is rounded on the way in.
struct RoundsOperand {
    operand: &'static str,
    declares: bool,
}

impl Hooks for RoundsOperand {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::ByOperation
    }

    fn numerics(&self, inner: &dyn Device, op: &Op) -> Numerics {
        let intermediates = if self.declares { vec![(self.operand, DType::BF16)] } else { Vec::new() };
        Numerics { intermediates, ..inner.numerics(op) }
    }

    fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> Result<()> {
        let (device, stream) = (inner.device, &mut *inner.stream);
        let rounded = op.rebind(&mut |name, _, tensor| {
            if name != self.operand || tensor.dtype() != DType::F32 {
                return Ok(tensor.clone());
            }
            let (other, mut bytes) = (device.tensor(DType::F32, tensor.sizes())?, vec![0; tensor.bytes() as usize]);
            stream.read(tensor, &mut bytes)?;
            for b in bytes.chunks_exact_mut(4) {
                let x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                b.copy_from_slice(&half::bf16::from_f32(x).to_f32().to_le_bytes());
            }
            stream.write(&other, &bytes)?;
            Ok(other)
        })?;
        stream.enqueue(&rounded)
    }
}

/// What a device rounds beyond the operation is right when it says so, and wrong when it does not.
#[test]
fn a_further_rounding_passes_where_it_is_declared_and_nowhere_else() {
    for (op, operand) in [
        ("linear", "x"),
        ("linear", "w"),
        ("expert_gemm", "x"),
        ("sparse_attention", "q"),
        ("dense_attention", "k"),
        ("dense_attention", "v"),
        ("index_scores", "q"),
        ("expert_ffn", "x"),
    ] {
        let tried = |declares| {
            let device = Wrapped::new(anychip_cpu::open(), RoundsOperand { operand, declares });
            let selection = Selection { ops: vec![op.into()], ..Selection::default() };
            run(&device, &selection, &mut |_| true).unwrap()
        };
        let (declared, silent) = (tried(true), tried(false));
        assert!(declared.passed, "{operand}: {}", declared.matrix());
        let said = &declared.ops[0].declared;
        assert!(said.iter().all(|text| text.contains(&format!("{operand} rounded to bf16"))), "{said:?}");
        assert!(silent.counts.failed >= 5, "{op} {operand}: {}", silent.matrix());
    }
}

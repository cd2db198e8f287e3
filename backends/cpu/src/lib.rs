//! The CPU device: every operation of the anychip contract in threaded f32.
//!
//! Operands stay in the formats they are stored in. A kernel reads a row of weights once into f32, multiplies it with
//! all rows of the batch that want it, and rounds once on the store. Sums have several accumulators in a fixed order, so
//! a row's bits depend neither on the rest of the batch nor on how many threads there are.
#![forbid(unsafe_code)]

mod attention;
mod gemm;
mod load;
mod ops;
mod pages;
#[cfg(test)]
mod testing;

use anychip_core::host::{HostDevice, Kernels, total_memory};
use anychip_core::ops::OpKind;
use anychip_core::{Device, Numerics, Op, Result, Support};

/// The kernels of the CPU device, for use with [`HostDevice`].
pub struct CpuKernels;

/// Opens the CPU with as much memory as the machine has.
pub fn open() -> Box<dyn Device> {
    open_with_limit(total_memory().unwrap_or(u64::MAX / 2))
}

/// Opens the CPU with at most `bytes` bytes of memory for tensors.
pub fn open_with_limit(bytes: u64) -> Box<dyn Device> {
    Box::new(HostDevice::open("cpu", &description(), bytes, CpuKernels))
}

/// One arm per operation, from which both answers come: whether there is a kernel, and running it.
macro_rules! kernels {
    ($($Kind:ident => $module:ident),* $(,)?) => {
        /// The operations that there are kernels for.
        #[cfg(test)]
        const KERNELS: &[&str] = &[$(<anychip_core::ops::$Kind as anychip_core::Operation>::NAME),*];

        impl Kernels for CpuKernels {
            fn supports(&self, op: &Op) -> Support {
                match op.kind() {
                    $(OpKind::$Kind(_) => Support::Native,)*
                    _ => unknown(op.name()),
                }
            }

            fn numerics(&self, op: &Op) -> Numerics {
                numerics(op)
            }

            fn run(&self, op: &Op) -> Result<()> {
                // A rayon thread that waits takes up other work, which may want this device again and would wait for
                // itself. A plain thread only waits.
                if rayon::current_thread_index().is_some() {
                    let joined = std::thread::scope(|scope| scope.spawn(|| run(op)).join());
                    return joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                }
                run(op)
            }
        }

        fn run(op: &Op) -> Result<()> {
            match op.kind() {
                $(OpKind::$Kind(op) => ops::$module::run(op),)*
                _ => unknown(op.name()).require("cpu", op.name()),
            }
        }
    };
}

kernels! {
    SparseAttention => sparse_attention,
    DenseAttention => dense_attention,
    KvCompress => kv_compress,
    IndexScores => index_scores,
    TopK => top_k,
    KvStore => kv_store,
    Route => route,
    ExpertGemm => expert_gemm,
    ExpertFfn => expert_ffn,
    Linear => linear,
    Embed => embed,
    RmsNorm => rms_norm,
    Rope => rope,
    Swiglu => swiglu,
    Quantize => quantize,
    Dequantize => dequantize,
    Hadamard => hadamard,
    HyperPre => hyper_pre,
    HyperPost => hyper_post,
    HyperHead => hyper_head,
    NewtonSchulz => newton_schulz,
}

// The contract may grow before this device does.
fn unknown(op: &'static str) -> Support {
    Support::unsupported("operation", "one the device has a kernel for", op)
}

/// f32 sums, one rounding per product. Functions are the system's in f32, within 1 ulp, or in f64 and rounded once.
fn numerics(op: &Op) -> Numerics {
    let function_ulps = match op.kind() {
        OpKind::Route(_) | OpKind::ExpertFfn(_) | OpKind::Swiglu(_) | OpKind::RmsNorm(_) => 0.5,
        _ => 1.0,
    };
    Numerics { function_ulps, ..Numerics::f32() }
}

/// Model and threads: `AMD EPYC 9654, 96 threads`.
fn description() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{model}, {} threads", load::threads())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use anychip_core::ops::{Hadamard, Operation, RmsNorm, Rounding};
    use anychip_core::{DType, Error};

    /// Every thread of rayon's global pool waits for the device while it computes, and waiting rayon threads take up
    /// each other's work: neither may keep the device from finishing.
    #[test]
    fn rayon_threads_may_all_wait_for_the_device() {
        use rayon::prelude::*;
        let device = open();
        let op = || {
            let x = device.tensor(DType::F32, &[256, 256])?;
            let out = device.tensor(DType::F32, &[256, 256])?;
            Hadamard { x, out }.build()
        };
        let ops: Vec<Op> = (0..200).map(|_| op().unwrap()).collect();
        let all = ops.par_iter().map(|op| device.open_stream()?.enqueue(op));
        assert!(all.collect::<Vec<Result<()>>>().iter().all(Result::is_ok));
    }

    #[test]
    fn there_is_a_kernel_for_every_operation() {
        assert_eq!(KERNELS, anychip_core::ops::NAMES);
    }

    #[test]
    fn the_device_says_what_it_is() {
        let info = open().info();
        assert_eq!(info.name, "cpu");
        assert!(info.description.ends_with(" threads"), "{}", info.description);
        assert!(info.memory_bytes.unwrap() > 1 << 20 && !info.asynchronous);
    }

    #[test]
    fn memory_ends_at_the_limit_and_comes_back() {
        let device = open_with_limit(1000);
        let most = device.allocate(1000).unwrap();
        assert!(matches!(device.allocate(1), Err(Error::OutOfMemory { requested: 1, available: 0, .. })));
        drop(most);
        assert!(device.allocate(1000).is_ok());
    }

    #[test]
    fn each_operation_declares_its_numerics() {
        let device = open_with_limit(1 << 20);
        let [x, out] = [(); 2].map(|()| device.tensor(DType::F32, &[2, 8]).unwrap());
        let transform = Hadamard { x: x.clone(), out: out.clone() }.build().unwrap();
        let norm = RmsNorm { x, weight: None, eps: 1e-6, rounding: Rounding::None, out }.build().unwrap();
        assert!(device.supports(&norm).is_native());
        assert_eq!(device.numerics(&norm).function_ulps, 0.5);
        assert_eq!(device.numerics(&transform), Numerics { function_ulps: 1.0, ..Numerics::f32() });
    }
}

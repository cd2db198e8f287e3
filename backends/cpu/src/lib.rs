//! The CPU device: every operation of the anychip contract in threaded f32.
//!
//! Operands stay in the formats they are stored in. A kernel reads a row of weights once into f32, multiplies it with
//! all rows of the batch that want it, and rounds once on the store. Sums have several accumulators in a fixed order, so
//! a row's bits depend neither on the rest of the batch nor on how many threads there are.
#![forbid(unsafe_code)]

mod gemm;
mod load;
mod ops;
mod pages;

use anychip_core::host::{HostDevice, Kernels};
use anychip_core::ops::OpKind;
use anychip_core::{Device, Numerics, Op, Result, Support};

/// The kernels of the CPU device, for use with [`HostDevice`].
pub struct CpuKernels;

/// Opens the CPU with as much memory as the machine has.
pub fn open() -> Box<dyn Device> {
    open_with_limit(machine_memory().unwrap_or(u64::MAX / 2))
}

/// Opens the CPU with at most `bytes` bytes of memory for tensors.
pub fn open_with_limit(bytes: u64) -> Box<dyn Device> {
    Box::new(HostDevice::open("cpu", &description(), bytes, CpuKernels))
}

impl Kernels for CpuKernels {
    fn supports(&self, op: &Op) -> Support {
        kernel(op).map_or_else(unknown, |_| Support::Native)
    }

    fn numerics(&self, op: &Op) -> Numerics {
        let _ = op;
        Numerics::f32()
    }

    fn run(&self, op: &Op) -> Result<()> {
        match op.kind() {
            OpKind::SparseAttention(op) => ops::sparse_attention::run(op),
            OpKind::DenseAttention(op) => ops::dense_attention::run(op),
            OpKind::KvCompress(op) => ops::kv_compress::run(op),
            OpKind::IndexScores(op) => ops::index_scores::run(op),
            OpKind::TopK(op) => ops::top_k::run(op),
            OpKind::KvStore(op) => ops::kv_store::run(op),
            OpKind::Route(op) => ops::route::run(op),
            OpKind::ExpertGemm(op) => ops::expert_gemm::run(op),
            OpKind::ExpertFfn(op) => ops::expert_ffn::run(op),
            OpKind::Linear(op) => ops::linear::run(op),
            OpKind::Embed(op) => ops::embed::run(op),
            OpKind::RmsNorm(op) => ops::rms_norm::run(op),
            OpKind::Rope(op) => ops::rope::run(op),
            OpKind::Swiglu(op) => ops::swiglu::run(op),
            OpKind::Quantize(op) => ops::quantize::run(op),
            OpKind::Dequantize(op) => ops::dequantize::run(op),
            OpKind::Hadamard(op) => ops::hadamard::run(op),
            OpKind::HyperPre(op) => ops::hyper_pre::run(op),
            OpKind::HyperPost(op) => ops::hyper_post::run(op),
            OpKind::HyperHead(op) => ops::hyper_head::run(op),
            OpKind::NewtonSchulz(op) => ops::newton_schulz::run(op),
            _ => Ok(()),
        }
    }
}

//! The catalogue: one file per operation, each a list of cases.

use crate::builder::Builder;
use crate::case::Profile::{self, Full, Quick};
use crate::case::{Case, Check};
use crate::format_tag::{kv_tag, tag};
use crate::random::Family::{self, Cancelling, Normal, Offset, Outliers, Paired, Poisoned, Quiet};
use crate::relation;
use anychip_core::{DType, Format, KvFormat, Op, Operation, Result, ScaleLayout, ScaleType};

/// Cases of one operation, as they are listed.
pub(crate) struct Cases {
    op_name: &'static str,
    seed: u64,
    all: Vec<Case>,
}

impl Cases {
    /// Adds a case to `profile` and those above it. `name` says what is special, then the shape: `skewed/r7-n40-k144`.
    fn add(
        &mut self,
        profile: Profile,
        name: impl AsRef<str>,
        build: impl Fn(&mut Builder<'_>) -> Result<Op> + Send + Sync + 'static,
    ) {
        self.all.push(Case::new(self.op_name, name.as_ref(), profile, self.seed, build));
    }
}

impl Cases {
    /// Adds an exact case to the quick profile.
    fn exact(
        &mut self,
        check: Check,
        name: impl AsRef<str>,
        build: impl Fn(&mut Builder<'_>) -> Result<Op> + Send + Sync + 'static,
    ) {
        let name = format!("r1-exact/{}", name.as_ref());
        self.all.push(Case::new(self.op_name, &name, Quick, self.seed, build).judged_by(check));
    }
}

/// Every case of a profile under a seed: those of the device itself, then those of operations in the order of the contract.
pub fn cases(profile: Profile, seed: u64) -> Vec<Case> {
    let mut all = crate::promises::cases(profile, seed);
    all.extend(of_operations(profile, seed));
    all
}

macro_rules! catalogue {
    ($($op:ident),* $(,)?) => {
        $(mod $op;)*
        mod exact;

        /// Those of operations, in the order of the contract.
        pub(crate) fn of_operations(profile: Profile, seed: u64) -> Vec<Case> {
            let mut all = Vec::new();
            $({
                let mut cases = Cases { op_name: stringify!($op), seed, all: Vec::new() };
                $op::list(&mut cases);
                exact::list(&mut cases);
                cases.all.extend(relation::cases_of(&cases.all));
                all.extend(cases.all.into_iter().filter(|case| case.profile <= profile));
            })*
            all
        }
    };
}

catalogue! {
    sparse_attention,
    dense_attention,
    kv_compress,
    index_scores,
    top_k,
    kv_store,
    route,
    expert_gemm,
    expert_ffn,
    linear,
    embed,
    rms_norm,
    rope,
    swiglu,
    quantize,
    dequantize,
    hadamard,
    hyper_pre,
    hyper_post,
    hyper_head,
    newton_schulz,
}

/// Bytes of an operand whose last byte offsets are no signed 32-bit number.
const BEYOND_2GIB: usize = (1 << 31) + (1 << 26);

impl Cases {
    /// Adds a case with an operand of more than 2 GiB to the full profile.
    fn beyond_2gib(
        &mut self,
        name: impl AsRef<str>,
        build: impl Fn(&mut Builder<'_>) -> Result<Op> + Send + Sync + 'static,
    ) {
        let case = Case::new(self.op_name, &format!("beyond_2gib/{}", name.as_ref()), Full, self.seed, build);
        // Before and after on the host, the device's where that is the host's, the oracle's operand, and a copy of it for each
        // of the two estimates.
        self.all.push(case.taking(6 * BEYOND_2GIB as u64));
    }
}

/// Activations as served: e4m3, a ue8m0 scale per 128 columns of a row.
const E4M3_ROWS: Format = Format::E4M3(ScaleLayout::per_row(128));
/// FP8 weights as published: e4m3, a ue8m0 scale per 128 x 128 block.
const E4M3_BLOCKS: Format = Format::E4M3(ScaleLayout::BLOCK_128);
/// FP8 weights with f32 scales, as V3 has them.
const E4M3_F32_BLOCKS: Format = Format::E4M3(ScaleLayout { scale: ScaleType::F32, rows: 128, cols: 128 });
/// FP4 experts as published: e2m1, a ue8m0 scale per 32 columns of a row.
const E2M1_ROWS: Format = Format::E2M1(ScaleLayout::per_row(32));
const F32: Format = Format::Plain(DType::F32);
const BF16: Format = Format::Plain(DType::BF16);
const F16: Format = Format::Plain(DType::F16);

use super::{Access, Check, Operation, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Matrix, Result, Tensor};

/// The three matrices of one expert, or of all routed experts of a layer as groups.
#[derive(Clone, Debug)]
pub struct ExpertWeights {
    /// W1, `[E, I, d]`.
    pub gate: Matrix,
    /// W3, `[E, I, d]`.
    pub up: Matrix,
    /// W2, `[E, d, I]`.
    pub down: Matrix,
}

impl ExpertWeights {
    fn check(&self, check: &Check, groups: usize, hidden: usize, inner: usize) -> Result<(), Invalid> {
        check.matrix("gate", &self.gate, [groups, inner, hidden], "[E, I, d]")?;
        check.matrix("up", &self.up, [groups, inner, hidden], "[E, I, d]")?;
        check.matrix("down", &self.down, [groups, hidden, inner], "[E, d, I]")
    }

    fn bytes(&self) -> u64 {
        self.gate.bytes() + self.up.bytes() + self.down.bytes()
    }
}

/// What is rounded between an expert's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intermediates {
    /// Nothing: f32 or better from `x` to `out`.
    Exact,
    /// As served: gate and up to bf16; `h` to bf16 and then to e4m3 with one ue8m0 scale per `block` columns; each
    /// expert's result to bf16. The sum over experts is f32.
    Served {
        /// Columns that share a scale of `h`.
        block: usize,
    },
}

/// A layer's experts: gate and up, clamped SwiGLU, routing weight, down, and the sum over the chosen experts.
///
/// ```text
/// y_e = W2_e h_e,   h_e = w_e * silu(min(W1_e x, limit)) * clamp(W3_e x, -limit, limit)
/// out = sum over the row's experts, ascending, of y_e  +  y_shared
/// ```
///
/// The shared expert has weight 1 and comes last. An expert outside `[0, E)` contributes nothing; one named twice
/// counts twice.
///
/// Equals [`Quantize`](super::Quantize) / [`ExpertGemm`](super::ExpertGemm) / [`Swiglu`](super::Swiglu) /
/// [`ExpertGemm`](super::ExpertGemm) over rows gathered by expert, then the sum.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | float, or e4m3 with scales per row | `[1, T, d]` |
/// | `experts` | i32 | `[T, k]` |
/// | `weights` | f32 | `[T, k]` |
/// | `routed` | float, e4m3 or e2m1 | `[E, I, d]`, `[E, I, d]`, `[E, d, I]` |
/// | `shared` | float, e4m3 or e2m1 | the same with one group and its own `I` |
/// | `out` | float | `[T, d]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`Expert`, `MoE`), which applies the weight before W2; transformers applies
/// it after, which is equal in exact arithmetic only.
#[derive(Clone, Debug)]
pub struct ExpertFfn {
    /// Rows.
    pub x: Matrix,
    /// Experts of each row.
    pub experts: Tensor,
    /// Their weights.
    pub weights: Tensor,
    /// Routed experts.
    pub routed: ExpertWeights,
    /// Shared expert.
    pub shared: Option<ExpertWeights>,
    /// `swiglu_limit`, positive; infinity for none. The gate has no lower clamp.
    pub limit: f32,
    /// Roundings between the matrices.
    pub intermediates: Intermediates,
    /// Result.
    pub out: Tensor,
}

impl Operation for ExpertFfn {
    const NAME: &'static str = "expert_ffn";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        let (rows, hidden) = (self.x.rows(), self.x.cols());
        check.matrix("x", &self.x, [1, rows, hidden], "[1, T, d]")?;
        let per_row = self.x.format().layout().is_none_or(|l| l.rows == 1);
        check.require(per_row, "scale block of x", "one row", self.x.format())?;
        let k = self.experts.size(1);
        check.is("experts", &self.experts, DType::I32, &[rows, k], "[T, k]")?;
        check.is("weights", &self.weights, DType::F32, &[rows, k], "[T, k]")?;
        self.routed.check(&check, self.routed.gate.groups(), hidden, self.routed.gate.rows())?;
        if let Some(shared) = &self.shared {
            shared.check(&check, 1, hidden, shared.gate.rows())?;
        }
        check.require(self.limit > 0.0, "limit", "positive", self.limit)?;
        if let Intermediates::Served { block } = self.intermediates {
            check.require(block > 0, "block", "at least 1", block)?;
        }
        check.floats("out", &self.out, &[rows, hidden], "[T, d]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        self.x.visit(["x", "x scales"], Access::Read, f)?;
        f("experts", Access::Read, &mut self.experts)?;
        f("weights", Access::Read, &mut self.weights)?;
        self.routed.gate.visit(["gate", "gate scales"], Access::Read, f)?;
        self.routed.up.visit(["up", "up scales"], Access::Read, f)?;
        self.routed.down.visit(["down", "down scales"], Access::Read, f)?;
        if let Some(shared) = &mut self.shared {
            shared.gate.visit(["shared gate", "shared gate scales"], Access::Read, f)?;
            shared.up.visit(["shared up", "shared up scales"], Access::Read, f)?;
            shared.down.visit(["shared down", "shared down scales"], Access::Read, f)?;
        }
        f("out", Access::Write, &mut self.out)
    }

    /// Weights counted for as many experts as the rows can choose.
    fn cost(&self) -> Cost {
        let (rows, hidden, k) = (self.x.rows(), self.x.cols(), self.experts.size(1));
        let groups = self.routed.gate.groups().max(1);
        let touched = self.routed.bytes() / groups as u64 * rows.saturating_mul(k).min(groups) as u64;
        let (shared_inner, shared_bytes) = self.shared.as_ref().map_or((0, 0), |s| (s.gate.rows(), s.bytes()));
        Cost {
            flops: product(&[6, rows, hidden, k.saturating_mul(self.routed.gate.rows()).saturating_add(shared_inner)]),
            read: self.x.bytes() + bytes(&[&self.experts, &self.weights]) + touched + shared_bytes,
            written: self.out.bytes(),
        }
    }
}

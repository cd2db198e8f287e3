use super::{Access, Check, Operation, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// How a row's experts are chosen.
#[derive(Clone, Debug)]
pub enum Choice {
    /// The `k` largest of `score + bias`, best first, of equal ones the lower expert; `bias` is f32 `[E]` and takes part
    /// in the choice alone.
    Best {
        /// Bias of each expert.
        bias: Tensor,
    },
    /// Row `token` of a table, in its order: i32 `[V, k]` of experts, i32 `[T]` of tokens.
    Hash {
        /// Experts of each token.
        table: Tensor,
        /// Token of each row.
        tokens: Tensor,
    },
}

/// The experts of each row and their weights.
///
/// `score = sqrt(softplus(logit))` with `softplus(z) = ln(1 + e^z)`; the weight of a chosen expert is
/// `scale * score / (sum of the chosen scores + 1e-20)`. A token outside the table, or a table entry outside `[0, E)`,
/// gives expert -1 with weight 0; it takes no part in the sum. A NaN score is chosen last, the lower expert first; the
/// weights of a row that chose one are NaN.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `logits` | f32 | `[T, E]` |
/// | `experts` | i32 | `[T, k]` |
/// | `weights` | f32 | `[T, k]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`Gate`); ties as in TileKernels ("always return the smaller index").
#[derive(Clone, Debug)]
pub struct Route {
    /// Router logits.
    pub logits: Tensor,
    /// How experts are chosen.
    pub choice: Choice,
    /// `routed_scaling_factor`.
    pub scale: f32,
    /// Chosen experts.
    pub experts: Tensor,
    /// Their weights.
    pub weights: Tensor,
}

impl Operation for Route {
    const NAME: &'static str = "route";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.dtype("logits", &self.logits, &[DType::F32])?;
        check.rank("logits", &self.logits, 2, "[T, E]")?;
        let (rows, count, k) = (self.logits.size(0), self.logits.size(1), self.experts.size(1));
        check.is("experts", &self.experts, DType::I32, &[rows, k], "[T, k]")?;
        check.is("weights", &self.weights, DType::F32, &[rows, k], "[T, k]")?;
        check.require(k >= 1 && k <= count, "k", format!("1 to E = {count}"), k)?;
        check.require(self.scale.is_finite(), "scale", "finite", self.scale)?;
        match &self.choice {
            Choice::Best { bias } => check.is("bias", bias, DType::F32, &[count], "[E]"),
            Choice::Hash { table, tokens } => {
                check.is("table", table, DType::I32, &[table.size(0), k], "[V, k]")?;
                check.is("tokens", tokens, DType::I32, &[rows], "[T]")
            }
        }
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("logits", Access::Read, &mut self.logits)?;
        match &mut self.choice {
            Choice::Best { bias } => f("bias", Access::Read, bias)?,
            Choice::Hash { table, tokens } => {
                f("table", Access::Read, table)?;
                f("tokens", Access::Read, tokens)?;
            }
        }
        f("experts", Access::Write, &mut self.experts)?;
        f("weights", Access::Write, &mut self.weights)
    }

    fn cost(&self) -> Cost {
        let chosen = match &self.choice {
            Choice::Best { bias } => bias.bytes(),
            Choice::Hash { tokens, .. } => tokens.bytes() + self.experts.bytes(),
        };
        Cost {
            flops: product(&[4, self.logits.count()]),
            read: self.logits.bytes() + chosen,
            written: bytes(&[&self.experts, &self.weights]),
        }
    }
}

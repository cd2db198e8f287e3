use super::{Access, Check, Operation, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Pools windows of `m` tokens into one entry each, by a softmax per channel, with state carried from call to call.
///
/// Defined as repeating one step per row, in row order. Row `t` has position `p = position[t]`, sequence
/// `s = sequence[t]`, values `c = kv[t]` and scores `g = gate[t] + ape[p mod m]`, both of `C` channels.
///
/// Plain form (HCA; `C = D`, state of `m` slots): slot `p mod m` takes `(c, g)`. When `(p + 1) mod m = 0` the entry is
/// `sum_j softmax_j(g_j) * c_j` over all `m` slots, channel by channel.
///
/// Overlapping form (CSA; `C = 2 D`, state of `2 m` slots): slot `m + p mod m` takes `(c, g)`. When `(p + 1) mod m = 0`
/// the entry pools slots `0..m` by their channels `0..D` together with slots `m..2m` by their channels `D..2D`; then
/// slots `m..2m` are copied to `0..m`. A fresh sequence has `kv = 0` and `score = -inf` in all slots, so that the first
/// window's missing predecessor weighs exactly nothing.
///
/// `closing[e]` names the row whose window gives `out[e]`. A row that closes no window (`(p + 1) mod m` is not 0), -1, a row
/// outside `[0, T)` and one whose sequence lies outside the state give a row of zeros. Rows whose sequence lies outside the
/// state or whose position is negative change nothing. A channel whose scores are all -inf pools to NaN, as 0 / 0.
///
/// Rows of a sequence need not be neighbours, nor their positions consecutive: the definition is the step, row after row.
/// Callers that give each sequence's rows together, ascending, let a device work on all windows at once; it may look at
/// the positions and fall back to one row at a time. With no rows the state stays; with no entries it still advances.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `kv`, `gate` | f32 | `[T, C]` |
/// | `ape` | f32 | `[m, C]` |
/// | `state` | f32, changed | `[S, 2, slots, C]`: values, then scores with `ape` added |
/// | `sequence`, `position` | i32 | `[T]`; positions are not negative |
/// | `closing` | i32 | `[E]` |
/// | `out` | float | `[E, D]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`Compressor`). Trap: in the checkpoint the first `D` channels belong to the
/// previous window, the last `D` to the current one; the paper's names run the other way.
#[derive(Clone, Debug)]
pub struct KvCompress {
    /// Values, `wkv x`.
    pub kv: Tensor,
    /// Scores, `wgate x`, without `ape`.
    pub gate: Tensor,
    /// Score offset by place in the window.
    pub ape: Tensor,
    /// Carried state of each sequence.
    pub state: Tensor,
    /// Sequence of each row.
    pub sequence: Tensor,
    /// Position of each row in its sequence.
    pub position: Tensor,
    /// Row that closes the window of each entry, -1 for none.
    pub closing: Tensor,
    /// Whether windows overlap (CSA).
    pub overlap: bool,
    /// Entries.
    pub out: Tensor,
}

impl KvCompress {
    /// `m`, tokens of a window.
    pub fn ratio(&self) -> usize {
        self.ape.size(0)
    }

    /// `C`, channels of a row: twice the entry's where windows overlap.
    pub fn channels(&self) -> usize {
        self.ape.size(1)
    }

    /// Slots of a sequence's state.
    pub fn slots(&self) -> usize {
        self.ratio() * if self.overlap { 2 } else { 1 }
    }
}

impl Operation for KvCompress {
    const NAME: &'static str = "kv_compress";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.dtype("ape", &self.ape, &[DType::F32])?;
        check.rank("ape", &self.ape, 2, "[m, C]")?;
        let (channels, rows) = (self.channels(), self.kv.size(0));
        check.require(self.ratio() > 0, "tokens of a window", "at least 1", 0)?;
        check.require(!self.overlap || channels.is_multiple_of(2), "channels of overlapping windows", "even", channels)?;
        check.is("kv", &self.kv, DType::F32, &[rows, channels], "[T, C]")?;
        check.is("gate", &self.gate, DType::F32, &[rows, channels], "[T, C]")?;
        let state = [self.state.size(0), 2, self.slots(), channels];
        check.is("state", &self.state, DType::F32, &state, "[S, 2, slots, C]")?;
        check.is("sequence numbers", &self.sequence, DType::I32, &[rows], "[T]")?;
        check.is("positions", &self.position, DType::I32, &[rows], "[T]")?;
        check.dtype("closing rows", &self.closing, &[DType::I32])?;
        check.rank("closing rows", &self.closing, 1, "[E]")?;
        let dim = if self.overlap { channels / 2 } else { channels };
        check.floats("out", &self.out, &[self.closing.size(0), dim], "[E, D]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("kv", Access::Read, &mut self.kv)?;
        f("gate", Access::Read, &mut self.gate)?;
        f("ape", Access::Read, &mut self.ape)?;
        f("state", Access::ReadWrite, &mut self.state)?;
        f("sequence numbers", Access::Read, &mut self.sequence)?;
        f("positions", Access::Read, &mut self.position)?;
        f("closing rows", Access::Read, &mut self.closing)?;
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        let row = product(&[2, self.channels(), 4]);
        Cost {
            flops: product(&[self.out.count(), self.slots(), 4]) + self.gate.count() as u64,
            read: bytes(&[&self.kv, &self.gate, &self.ape])
                .saturating_add(row.saturating_mul(product(&[self.out.size(0), self.slots()]))),
            written: self.out.bytes() + row.saturating_mul(self.kv.size(0) as u64),
        }
    }
}

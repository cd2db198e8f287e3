//! The same operation over operands of other contents and sizes.

use crate::builder::{Built, Laid, Operand, POISON, UNWRITTEN};
use crate::rules::structure::floats;
use anychip_core::ops::OpKind;
use anychip_core::{Access, DType, Device, Numerics, Op, Operation, Result, Tensor};
use half::{bf16, f16};
use std::ops::Range;

/// Powers of two that inputs are scaled by: far enough that nothing of the old size is left, near enough for f16.
const SHIFT: i32 = 4;
/// Places behind a list: more than a block of any kernel's.
const BEHIND: usize = 70;

/// An operation and its operands.
pub(crate) struct Variant {
    pub(crate) op: Op,
    pub(crate) built: Built,
}

/// Sizes and bytes of an operand.
pub(crate) type Contents = (Vec<usize>, Vec<u8>);

/// Gives an operand's contents from its name, use, tensor and bytes.
type Change<'a> = dyn FnMut(&'static str, Access, &Tensor, &[u8]) -> Contents + 'a;

impl Variant {
    /// `f` gives sizes and bytes of each operand from those that it has in the case. Its type stays.
    pub(crate) fn new(device: &dyn Device, op: &Op, built: &Built, f: &mut Change<'_>) -> Result<Variant> {
        let mut stream = device.open_stream()?;
        let mut operands = Vec::new();
        let op = rebuilt(op.kind(), &mut |name, access, tensor| {
            let before = built.operand(tensor).map(|i| built.operands[i].view(built.operands[i].before(), tensor));
            let (sizes, bytes) = f(name, access, tensor, before.unwrap_or_default());
            let operand = Operand::new(device, tensor.dtype(), &sizes, &bytes)?;
            stream.write(operand.whole(), operand.before())?;
            *tensor = operand.tensor().clone();
            operands.push(operand);
            Ok(())
        })?;
        Ok(Variant { op, built: Built { stream, laid: Laid { operands, expects_nan: built.expects_nan } } })
    }

    /// The same in every byte.
    pub(crate) fn copy(device: &dyn Device, op: &Op, built: &Built) -> Result<Variant> {
        Variant::new(device, op, built, &mut |_, _, tensor, bytes| same(tensor, bytes))
    }

    /// Pages at other places, and tables that know them.
    pub(crate) fn relocated(device: &dyn Device, op: &Op, built: &Built, places: &Places) -> Result<Variant> {
        Variant::new(device, op, built, &mut |name, _, tensor, bytes| match name {
            "pool" | "second pool" => (tensor.sizes().to_vec(), places.pages(name, bytes, tensor.size(0))),
            "page table" | "second page table" => {
                let of_pool = places.of(name.replace("page table", "pool").as_str());
                let moved = bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).map(|page| {
                    let inside = usize::try_from(page).ok().and_then(|page| of_pool.get(page));
                    inside.map_or(page, |&place| place as i32)
                });
                (tensor.sizes().to_vec(), moved.flat_map(i32::to_le_bytes).collect())
            }
            _ => same(tensor, bytes),
        })
    }

    /// Lists with places behind that name nothing.
    pub(crate) fn masked(device: &dyn Device, op: &Op, built: &Built) -> Result<Variant> {
        let of_experts = matches!(op.kind(), OpKind::ExpertFfn(_));
        Variant::new(device, op, built, &mut |name, _, tensor, bytes| {
            let behind = match (name, of_experts) {
                ("entries" | "second entries", _) => (-1i32).to_le_bytes().repeat(BEHIND),
                ("experts", true) => (-1i32).to_le_bytes().repeat(3),
                ("weights", true) => 1f32.to_le_bytes().repeat(3),
                _ => return same(tensor, bytes),
            };
            let (rows, width) = (tensor.size(0), tensor.size(1));
            let longer = (0..rows).flat_map(|row| [&bytes[row * width * 4..][..width * 4], &behind].concat());
            (vec![rows, width + behind.len() / 4], longer.collect())
        })
    }

    /// The inputs that the result is linear in or does not see, times a power of two.
    pub(crate) fn scaled(device: &dyn Device, op: &Op, built: &Built) -> Result<Variant> {
        let inputs = scaled_inputs(op.name());
        let has_scales = op.operands().iter().any(|(name, _, _)| *name == "x scales");
        Variant::new(device, op, built, &mut |name, _, tensor, bytes| {
            let is_it = match has_scales && inputs.contains(&"x") {
                true => name == "x scales",
                false => inputs.contains(&name),
            };
            if is_it { (tensor.sizes().to_vec(), times(tensor.dtype(), bytes)) } else { same(tensor, bytes) }
        })
    }
}

impl Variant {
    /// The rows of a store in reverse.
    pub(crate) fn reversed(device: &dyn Device, op: &Op, built: &Built) -> Result<Variant> {
        Variant::new(device, op, built, &mut |name, _, tensor, bytes| match name {
            "x" | "sequence numbers" | "entries" => {
                let row = bytes.len() / tensor.size(0).max(1);
                (tensor.sizes().to_vec(), bytes.chunks(row.max(1)).rev().flatten().copied().collect())
            }
            _ => same(tensor, bytes),
        })
    }

    /// Some rows of a compression, from the state it has in the case or from another one. Entries that rows outside close
    /// are nobody's.
    pub(crate) fn part(
        device: &dyn Device,
        op: &Op,
        built: &Built,
        rows: Range<usize>,
        state: Option<&[u8]>,
    ) -> Result<Variant> {
        Variant::new(device, op, built, &mut |name, _, tensor, bytes| match name {
            "kv" | "gate" | "sequence numbers" | "positions" => {
                let (all, mut sizes) = (tensor.size(0), tensor.sizes().to_vec());
                sizes[0] = rows.len();
                let row = bytes.len() / all.max(1);
                (sizes, bytes[rows.start * row..rows.end * row].to_vec())
            }
            "closing rows" => {
                let own = |row: i32| match usize::try_from(row) {
                    Ok(row) if rows.contains(&row) => (row - rows.start) as i32,
                    _ => -1,
                };
                let rows = bytes.chunks_exact(4).map(|b| own(i32::from_le_bytes([b[0], b[1], b[2], b[3]])));
                (tensor.sizes().to_vec(), rows.flat_map(i32::to_le_bytes).collect())
            }
            "state" => (tensor.sizes().to_vec(), state.unwrap_or(bytes).to_vec()),
            _ => same(tensor, bytes),
        })
    }
}

/// What an output is like before the operation, under another size.
pub(crate) fn prefill(count: usize, may_be_nan: bool) -> Vec<u8> {
    vec![if may_be_nan { UNWRITTEN } else { POISON }; count]
}

pub(crate) fn same(tensor: &Tensor, bytes: &[u8]) -> Contents {
    (tensor.sizes().to_vec(), bytes.to_vec())
}

/// Operands that, scaled together, scale the result. Block scales stand in for codes.
fn scaled_inputs(op: &str) -> &'static [&'static str] {
    match op {
        "linear" | "expert_gemm" | "hadamard" | "rope" | "dequantize" => &["x"],
        "hyper_post" => &["y", "streams"],
        "dense_attention" => &["v"],
        "swiglu" | "expert_ffn" => &["weights"],
        "newton_schulz" => &["g"],
        _ => &[],
    }
}

/// The power of the inputs' factor that the result has: 1 where it is linear, 0 where it is normalised. Nothing where a
/// factor says nothing.
pub(crate) fn degree(op: &str) -> Option<i32> {
    match op {
        "newton_schulz" => Some(0),
        _ => (!scaled_inputs(op).is_empty()).then_some(1),
    }
}

/// Where the factor is exact, the result for scaled inputs as the device must give it.
pub(crate) fn scaled_value(op: &str, x: f64) -> f64 {
    x * 2f64.powi(SHIFT * degree(op).unwrap_or(0))
}

fn times(dtype: DType, bytes: &[u8]) -> Vec<u8> {
    let factor = 2f32.powi(SHIFT);
    match dtype {
        // 255 is NaN and stays.
        DType::UE8M0 => {
            bytes.iter().map(|&b| if b == u8::MAX { b } else { b.saturating_add(SHIFT as u8).min(254) }).collect()
        }
        DType::BF16 => {
            let two = bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32() * factor);
            two.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect()
        }
        DType::F16 => {
            let two = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32() * factor);
            two.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect()
        }
        _ => {
            let four = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) * factor);
            four.flat_map(f32::to_le_bytes).collect()
        }
    }
}

/// New places of the pages of each pool.
pub(crate) struct Places(pub(crate) Vec<(&'static str, Vec<usize>)>);

impl Places {
    fn of(&self, pool: &str) -> &[usize] {
        self.0.iter().find(|(name, _)| *name == pool).map_or(&[], |(_, places)| places)
    }

    /// Pages moved to their places.
    pub(crate) fn pages(&self, pool: &str, bytes: &[u8], count: usize) -> Vec<u8> {
        let mut moved = bytes.to_vec();
        let len = bytes.len() / count.max(1);
        for (page, &place) in self.of(pool).iter().enumerate() {
            moved[place * len..][..len].copy_from_slice(&bytes[page * len..][..len]);
        }
        moved
    }
}

type Replace<'a> = dyn FnMut(&'static str, Access, &mut Tensor) -> Result<()> + 'a;

/// [`Op::rebind`] without its rule that sizes stay: `build` checks the new ones.
fn rebuilt(kind: &OpKind, f: &mut Replace<'_>) -> Result<Op> {
    macro_rules! each {
        ($($Kind:ident)*) => {
            match kind {
                $(OpKind::$Kind(op) => {
                    let mut op = op.clone();
                    op.visit(f)?;
                    op.build()
                })*
                // The contract may grow before the suite does.
                _ => {
                    let what = "an operation without relations".into();
                    Err(anychip_core::Invalid::BadView { what, shape: String::new() }.into())
                }
            }
        };
    }
    each! {
        SparseAttention DenseAttention KvCompress IndexScores TopK KvStore Route ExpertGemm ExpertFfn Linear Embed RmsNorm
        Rope Swiglu Quantize Dequantize Hadamard HyperPre HyperPost HyperHead NewtonSchulz
    }
}

/// Whether a power of two on a subnormal number is one on what the device makes of it: not where it takes it for zero, nor
/// where it rounds it once more, on a grid that does not shrink with it.
pub(super) fn keeps_subnormals(numerics: &Numerics) -> bool {
    !numerics.flushes_subnormals && numerics.intermediates.is_empty()
}

/// Whether an operand that the operation reads has a subnormal number among its own.
pub(super) fn reads_subnormals(op: &Op, built: &Built) -> bool {
    let read = op.operands().into_iter().filter(|(_, access, t)| *access != Access::Write && t.dtype().is_float());
    read.into_iter().any(|(_, _, tensor)| {
        let Some(index) = built.operand(&tensor) else { return false };
        let operand = &built.operands[index];
        let values = floats(tensor.dtype(), operand.view(operand.before(), &tensor));
        values.iter().any(|x| *x != 0.0 && x.abs() < f64::from(f32::MIN_POSITIVE))
    })
}

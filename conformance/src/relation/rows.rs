//! Rows of a batch, and the same operation over others.

use super::variant::{Variant, prefill, same};
use crate::builder::{Built, POISON};
use crate::case::Case;
use anychip_core::{Access, DType, Device, Op, Result};

/// Operands that hold a run of bytes for each row, in the order of the rows. All others are shared by the rows.
fn by_row(op: &str) -> &'static [&'static str] {
    match op {
        "sparse_attention" => &["q", "sequence numbers", "entries", "second sequence numbers", "second entries", "out"],
        // A row is a sequence of the batch: those of one sequence see each other's keys.
        "dense_attention" => &["q", "k", "v", "out"],
        "index_scores" => &["q", "q scales", "weights", "sequence numbers", "visible", "out"],
        "top_k" => &["scores", "out"],
        "route" => &["logits", "tokens", "experts", "weights"],
        "expert_gemm" | "linear" | "rms_norm" | "hadamard" => &["x", "x scales", "out"],
        "expert_ffn" => &["x", "x scales", "experts", "weights", "out"],
        "embed" => &["ids", "out"],
        "rope" => &["x", "angles", "out"],
        "swiglu" => &["gate", "up", "weights", "out"],
        "quantize" => &["x", "out", "out scales"],
        "hyper_pre" => &["streams", "x", "post", "comb"],
        "hyper_post" => &["y", "streams", "post", "comb", "out"],
        "hyper_head" => &["streams", "out"],
        _ => &[],
    }
}

/// Whether a case has rows that do not depend on each other.
pub(crate) fn of_case(case: &Case) -> bool {
    !by_row(case.op_name).is_empty()
}

/// Whether an operand has a run of bytes for each row.
pub(crate) fn is_by_row(op: &Op, operand: &str) -> bool {
    by_row(op.name()).contains(&operand)
}

/// The axis that rows run along: matrices have groups before it.
fn axis(op: &str, operand: &str) -> usize {
    let is_matrix = match op {
        "linear" | "expert_gemm" | "expert_ffn" => operand.starts_with('x'),
        "index_scores" => operand.starts_with('q'),
        "quantize" => operand.starts_with("out"),
        _ => false,
    };
    usize::from(is_matrix)
}

/// Rows of the operation.
pub(crate) fn count(op: &Op) -> usize {
    let last = by_row(op.name()).last().copied().unwrap_or_default();
    let out = op.operands().into_iter().find(|(name, access, _)| *name == last && *access != Access::Read);
    out.map_or(0, |(_, _, tensor)| tensor.size(axis(op.name(), last)))
}

/// The bytes of a row.
pub(crate) fn row_of(bytes: &[u8], count: usize, row: usize) -> &[u8] {
    let len = bytes.len() / count.max(1);
    bytes.get(row * len..(row + 1) * len).unwrap_or_default()
}

/// An operation over rows of another, by their numbers in it.
pub(crate) struct Arranged {
    pub(crate) variant: Variant,
    pub(crate) rows: Vec<usize>,
}

/// The operation over these rows, each as often as it is named. Rows of experts are sorted by expert first, so that the
/// loads of the experts change with the batch.
pub(crate) fn arranged(device: &dyn Device, op: &Op, built: &Built, mut rows: Vec<usize>) -> Result<Arranged> {
    let all = count(op);
    let mut offsets = None;
    if op.name() == "expert_gemm"
        && let Some((_, _, tensor)) = op.operands().iter().find(|(name, _, _)| *name == "offsets")
        && let Some(index) = built.operand(tensor)
    {
        let owners = owners(built.operands[index].bytes(), all);
        let experts = tensor.size(0).saturating_sub(1);
        rows.sort_by_key(|&row| owners[row].unwrap_or(experts));
        let before = |e: usize| rows.iter().filter(|&&row| owners[row].unwrap_or(experts) < e).count() as i32;
        offsets = Some((0..=experts).flat_map(|e| before(e).to_le_bytes()).collect::<Vec<u8>>());
    }
    let variant = Variant::new(device, op, built, &mut |name, access, tensor, bytes| {
        if let ("offsets", Some(offsets)) = (name, &offsets) {
            return (tensor.sizes().to_vec(), offsets.clone());
        }
        if !is_by_row(op, name) {
            return same(tensor, bytes);
        }
        let axis = axis(op.name(), name);
        let mut sizes = tensor.sizes().to_vec();
        sizes[axis] = sizes[axis] / all.max(1) * rows.len();
        let bytes = match access {
            Access::Read => rows.iter().flat_map(|&row| row_of(bytes, all, row)).copied().collect(),
            _ => prefill(bytes.len() / all.max(1) * rows.len(), built.expects_nan || !tensor.dtype().is_float()),
        };
        (sizes, bytes)
    })?;
    Ok(Arranged { variant, rows })
}

/// The expert of each row: where ranges overlap, the later one.
fn owners(offsets: &[u8], rows: usize) -> Vec<Option<usize>> {
    let ends: Vec<usize> = offsets
        .chunks_exact(4)
        .map(|b| (i32::from_le_bytes([b[0], b[1], b[2], b[3]]).max(0) as usize).min(rows))
        .collect();
    let of = |row: usize| (0..ends.len().saturating_sub(1)).rev().find(|&e| (ends[e]..ends[e + 1]).contains(&row));
    (0..rows).map(of).collect()
}

/// What becomes of the rows around one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Around {
    /// NaN: seen by whatever they are added to.
    Poison,
    /// That row's own contents: seen by a maximum or a sum that the rows share.
    Copies,
}

/// The same operation, and all rows but `kept` with other contents. Integers stay: what a row asks for may decide how the
/// work is divided, which a device may do by the shape of the batch.
pub(crate) fn surrounded(device: &dyn Device, op: &Op, built: &Built, kept: usize, around: Around) -> Result<Variant> {
    let all = count(op);
    let mut variant = Variant::new(device, op, built, &mut |name, access, tensor, bytes| {
        if !is_by_row(op, name) || tensor.dtype() == DType::I32 && access == Access::Read {
            return same(tensor, bytes);
        }
        if access != Access::Read {
            return (tensor.sizes().to_vec(), prefill(bytes.len(), true));
        }
        let mut changed = bytes.to_vec();
        let len = bytes.len() / all.max(1);
        for row in (0..all).filter(|&row| row != kept) {
            match around {
                Around::Poison => changed[row * len..][..len].fill(POISON),
                Around::Copies => changed[row * len..][..len].copy_from_slice(row_of(bytes, all, kept)),
            }
        }
        (tensor.sizes().to_vec(), changed)
    })?;
    variant.built.expects_nan = true;
    Ok(variant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_belongs_to_the_last_expert_that_names_it() {
        let bytes = |offsets: &[i32]| offsets.iter().flat_map(|o| o.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(owners(&bytes(&[0, 6, 3, 8]), 9)[2..], [Some(0), Some(2), Some(2), Some(2), Some(2), Some(2), None]);
        assert_eq!(owners(&bytes(&[-5, 2, 100, i32::MAX]), 3), [Some(0), Some(0), Some(1)]);
    }
}

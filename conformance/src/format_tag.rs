//! Number formats in words: parts of case names, and what an operation's operands are stored in.

use anychip_core::ops::{ExpertWeights, OpKind};
use anychip_core::{Access, Format, KvFormat, Matrix, Op, Paged, ScaleType, Tensor};

/// A format as case names have it: `bf16`, `e4m3.1x128`, `e4m3.f32.128x128`.
pub(crate) fn tag(format: Format) -> String {
    let name = format.dtype().name();
    match format.layout() {
        None => name.into(),
        Some(l) => format!("{name}{}.{}x{}", if l.scale == ScaleType::F32 { ".f32" } else { "" }, l.rows, l.cols),
    }
}

/// An entry format as case names have it: `f32x32`, `fp8x448.bf16x64`.
pub(crate) fn kv_tag(format: KvFormat) -> String {
    format.to_string().replace('+', ".")
}

/// What the operands that carry the data of an operation are stored in: `bf16 x e4m3.128x128 -> f32`,
/// `bf16 x fp8 pool -> bf16`. Left out are indices, and operands that the contract knows in one type only.
pub(crate) fn formats(op: &Op) -> String {
    let (inputs, outputs) = match op.kind() {
        OpKind::SparseAttention(op) => {
            let pools = joined(op.scopes.iter().map(|scope| pool(&scope.kv)), " + ");
            (vec![plain(&op.q), pools], plain(&op.out))
        }
        OpKind::DenseAttention(op) => (vec![plain(&op.q), either([&op.k, &op.v])], plain(&op.out)),
        OpKind::KvCompress(op) => (vec![either([&op.kv, &op.gate])], plain(&op.out)),
        OpKind::IndexScores(op) => (vec![matrix(&op.q), pool(&op.keys), plain(&op.weights)], plain(&op.out)),
        OpKind::TopK(op) => (vec![plain(&op.scores)], plain(&op.out)),
        OpKind::KvStore(op) => (vec![plain(&op.x)], pool(&op.kv)),
        OpKind::Route(op) => (vec![plain(&op.logits)], plain(&op.weights)),
        OpKind::ExpertGemm(op) => (vec![matrix(&op.x), matrix(&op.w)], plain(&op.out)),
        OpKind::ExpertFfn(op) => {
            let of = |w: &ExpertWeights| joined([&w.gate, &w.up, &w.down].map(matrix), "/");
            let experts = std::iter::once(&op.routed).chain(&op.shared).map(of);
            (vec![matrix(&op.x), joined(experts, " + ")], plain(&op.out))
        }
        OpKind::Linear(op) => (vec![matrix(&op.x), matrix(&op.w)], plain(&op.out)),
        OpKind::Embed(op) => (vec![plain(&op.table)], plain(&op.out)),
        OpKind::RmsNorm(op) => {
            (std::iter::once(plain(&op.x)).chain(op.weight.as_ref().map(plain)).collect(), plain(&op.out))
        }
        OpKind::Rope(op) => (vec![plain(&op.x)], plain(&op.out)),
        OpKind::Swiglu(op) => (vec![either([&op.gate, &op.up])], plain(&op.out)),
        OpKind::Quantize(op) => (vec![plain(&op.x)], matrix(&op.out)),
        OpKind::Dequantize(op) => (vec![matrix(&op.x)], plain(&op.out)),
        OpKind::Hadamard(op) => (vec![plain(&op.x)], plain(&op.out)),
        OpKind::HyperPre(op) => (vec![plain(&op.streams)], plain(&op.x)),
        OpKind::HyperPost(op) => (vec![plain(&op.y), plain(&op.streams)], plain(&op.out)),
        OpKind::HyperHead(op) => (vec![plain(&op.streams)], plain(&op.out)),
        OpKind::NewtonSchulz(op) => (vec![plain(&op.g)], plain(&op.out)),
        // The contract may grow before the suite does.
        _ => {
            let (read, written): (Vec<_>, Vec<_>) =
                op.operands().into_iter().partition(|(_, access, _)| *access == Access::Read);
            let types = |all: Vec<(_, _, Tensor)>| all.iter().map(|(_, _, tensor)| plain(tensor)).collect::<Vec<_>>();
            (types(read), types(written).join(", "))
        }
    };
    format!("{} -> {outputs}", inputs.join(" x "))
}

fn plain(tensor: &Tensor) -> String {
    tensor.dtype().name().into()
}

fn matrix(matrix: &Matrix) -> String {
    tag(matrix.format())
}

/// A pool by the kind of its entries; their sizes belong to the shape.
fn pool(kv: &Paged) -> String {
    let entries = kv.pool.format().to_string();
    format!("{} pool", entries.split_once('x').map_or(&*entries, |(kind, _)| kind))
}

fn either(tensors: [&Tensor; 2]) -> String {
    joined(tensors.map(plain), "/")
}

/// Each once, in the order they come.
fn joined(all: impl IntoIterator<Item = String>, between: &str) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct.join(between)
}

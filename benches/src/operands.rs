//! Operations by name and shape, over operands of any source.

use crate::v4_flash::{E2M1_ROWS, E4M3_BLOCKS, E4M3_ROWS};
use crate::{BenchError, Shape};
use anychip_conformance::{Builder, Family, Stretch};
use anychip_core::ops::{DenseAttention, ExpertGemm, KeyScope, Linear, Operation, Rounding, SparseAttention, TopK};
use anychip_core::{
    DType, Device, Format, KvFormat, KvPool, Matrix, Op, PAGE_ENTRIES, Paged, Result, ScaleLayout, Stream, Tensor,
};

/// Where operands come from.
pub(crate) trait Operands {
    fn floats(&mut self, dtype: DType, sizes: &[usize]) -> Result<Tensor>;
    fn matrix(&mut self, format: Format, sizes: [usize; 3]) -> Result<Matrix>;
    /// Entries 0 to `len` of one sequence, for `rows` rows.
    fn paged(&mut self, format: KvFormat, len: usize, rows: usize) -> Result<Paged>;
    fn integers(&mut self, sizes: &[usize], values: &[i32]) -> Result<Tensor>;
    fn output(&mut self, dtype: DType, sizes: &[usize]) -> Result<Tensor>;
}

/// Random values, the same on every device.
impl Operands for Builder<'_> {
    fn floats(&mut self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.values(dtype, sizes, Family::Normal, 1.0)
    }

    fn matrix(&mut self, format: Format, sizes: [usize; 3]) -> Result<Matrix> {
        self.matrix(format, sizes, Family::Normal, (sizes[2] as f32).powf(-0.25))
    }

    fn paged(&mut self, format: KvFormat, len: usize, rows: usize) -> Result<Paged> {
        self.paged(format, &[Stretch { start: 0, len }], &vec![0; rows], Family::Normal, 1.0)
    }

    fn integers(&mut self, sizes: &[usize], values: &[i32]) -> Result<Tensor> {
        self.integers(sizes, values)
    }

    fn output(&mut self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.output(dtype, sizes)
    }
}

/// Operands that hold nothing but lists, for devices that compute no values.
pub(crate) struct Blank<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) stream: Box<dyn Stream>,
}

impl Operands for Blank<'_> {
    fn floats(&mut self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.device.tensor(dtype, sizes)
    }

    fn matrix(&mut self, format: Format, sizes @ [groups, rows, cols]: [usize; 3]) -> Result<Matrix> {
        let codes = self.device.tensor(format.dtype(), &sizes)?;
        match format.layout().zip(format.scale_sizes(groups, rows, cols)) {
            None => Ok(Matrix::plain(&codes)?),
            Some((layout, sizes)) => {
                Ok(Matrix::scaled(&codes, &self.device.tensor(layout.scale.dtype(), &sizes)?, layout)?)
            }
        }
    }

    fn paged(&mut self, format: KvFormat, len: usize, rows: usize) -> Result<Paged> {
        let pages = len.div_ceil(PAGE_ENTRIES);
        let pool = KvPool::new(format, &self.device.tensor(DType::U8, &[pages, format.page_bytes()])?)?;
        let table: Vec<i32> = (0..pages as i32).collect();
        let table = self.integers(&[1, pages], &table)?;
        Ok(Paged { pool, table, sequence: self.integers(&[rows], &vec![0; rows])? })
    }

    fn integers(&mut self, sizes: &[usize], values: &[i32]) -> Result<Tensor> {
        let tensor = self.device.tensor(DType::I32, sizes)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.stream.write(&tensor, &bytes)?;
        Ok(tensor)
    }

    fn output(&mut self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.device.tensor(dtype, sizes)
    }
}

/// Operations that can be asked for.
pub const OPS: [&str; 5] = ["linear", "expert_gemm", "dense_attention", "sparse_attention", "top_k"];

/// What builds an operation.
pub(crate) type Build = Box<dyn Fn(&mut dyn Operands) -> Result<Op>>;

const OUT: [(&str, DType); 3] = [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)];
/// Most of any size.
const MOST: u32 = 1 << 20;

/// What builds an operation at a shape.
///
/// # Errors
/// [`BenchError::UnknownOp`], and those of [`Shape`].
pub(crate) fn builder(op: &str, shape: &Shape) -> Result<Build, BenchError> {
    let size = |name: &str, default| shape.size(name, default, MOST).map(|size| size as usize);
    let plain = |dtype| Format::Plain(dtype);
    let mx8 = Format::E4M3(ScaleLayout::per_row(32));
    match op {
        "linear" => {
            shape.only(&["m", "n", "k", "dtype", "out"])?;
            let [m, n, k] = [size("m", None)?, size("n", None)?, size("k", None)?];
            let types = [
                ("f16", [plain(DType::F16); 2]),
                ("bf16", [plain(DType::BF16); 2]),
                ("f32", [plain(DType::F32); 2]),
                ("fp8", [E4M3_ROWS, E4M3_BLOCKS]),
                ("mxfp8", [mx8; 2]),
                ("mxfp4", [E2M1_ROWS; 2]),
            ];
            let ([x, w], out) = (shape.word("dtype", &types)?, shape.word("out", &OUT)?);
            Ok(Box::new(move |b| {
                let (x, w) = (b.matrix(x, [1, m, k])?, b.matrix(w, [1, n, k])?);
                Linear { x, w, out: b.output(out, &[m, n])? }.build()
            }))
        }
        "expert_gemm" => {
            shape.only(&["experts", "tokens", "k", "n", "top", "dtype", "out"])?;
            let [experts, tokens] = [size("experts", None)?, size("tokens", None)?];
            let [k, n, top] = [size("k", None)?, size("n", None)?, size("top", Some(1))?];
            let types = [
                ("w4a8", [mx8, E2M1_ROWS]),
                ("mxfp8", [mx8; 2]),
                ("mxfp4", [E2M1_ROWS; 2]),
                ("fp8", [E4M3_ROWS, E4M3_BLOCKS]),
                ("bf16", [plain(DType::BF16); 2]),
                ("f16", [plain(DType::F16); 2]),
            ];
            let ([x, w], out) = (shape.word("dtype", &types)?, shape.word("out", &[OUT[2], OUT[0], OUT[1]])?);
            Ok(Box::new(move |b| {
                let rows = tokens * top;
                let (x, w) = (b.matrix(x, [1, rows, k])?, b.matrix(w, [experts, n, k])?);
                // As many rows for each, as near as whole rows come to it; each row's experts are others.
                let offsets: Vec<i32> = (0..=experts).map(|e| (rows * e / experts) as i32).collect();
                let offsets = b.integers(&[experts + 1], &offsets)?;
                ExpertGemm { x, w, offsets, out: b.output(out, &[rows, n])? }.build()
            }))
        }
        "dense_attention" => {
            shape.only(&["heads", "d", "s", "causal", "dtype"])?;
            let [heads, d, s] = [size("heads", None)?, size("d", None)?, size("s", None)?];
            let causal = shape.word("causal", &[("no", false), ("yes", true)])?;
            let dtype = shape.word("dtype", &[("bf16", DType::BF16), ("f16", DType::F16), ("f32", DType::F32)])?;
            Ok(Box::new(move |b| {
                let mut operand = || b.floats(dtype, &[1, s, heads, d]);
                let (q, k, v) = (operand()?, operand()?, operand()?);
                let out = b.output(dtype, &[1, s, heads, d])?;
                DenseAttention { q, k, v, scale: (d as f32).sqrt().recip(), causal, sink: None, out }.build()
            }))
        }
        "sparse_attention" => {
            shape.only(&["heads", "d", "keys", "q", "pool"])?;
            let [heads, d, keys] = [size("heads", None)?, size("d", None)?, size("keys", None)?];
            let (rows, pool) = (size("q", Some(1))?, size("pool", Some(65536))?.max(keys));
            // V4's entry: 64 elements of bf16 behind those of FP8.
            let rope = d.min(64);
            Ok(Box::new(move |b| {
                let q = b.floats(DType::BF16, &[rows, heads, d])?;
                let kv = b.paged(KvFormat::Fp8 { nope: d - rope, rope }, pool, rows)?;
                // An odd step reaches each of 2^n entries once, and entries from everywhere.
                let list = (0..rows * keys).map(|i| ((i / keys + 1999 * (i % keys)) % pool) as i32);
                let scopes = vec![KeyScope { kv, entries: b.integers(&[rows, keys], &list.collect::<Vec<_>>())? }];
                let sink = b.floats(DType::F32, &[heads])?;
                let out = b.output(DType::BF16, &[rows, heads, d])?;
                let scale = (d as f32).sqrt().recip();
                SparseAttention { q, scopes, sink, scale, rounding: Rounding::Bf16, out }.build()
            }))
        }
        "top_k" => {
            shape.only(&["rows", "n", "k"])?;
            let [rows, n, k] = [size("rows", Some(1))?, size("n", None)?, size("k", None)?];
            Ok(Box::new(move |b| {
                let scores = b.floats(DType::F32, &[rows, n])?;
                TopK { scores, out: b.output(DType::I32, &[rows, k])? }.build()
            }))
        }
        _ => Err(BenchError::UnknownOp { op: op.into(), known: OPS.join(", ") }),
    }
}

//! Operands as f32: reading floats and rows of matrices, storing rounded rows, sums of products, sharing the work.

use anychip_core::formats::{e2m1, e4m3, scale};
use anychip_core::host::{self, Read, Write};
use anychip_core::{Cost, DType, Format, Matrix, Operation, Result, ScaleLayout, ScaleType, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::ops::Range;
use std::sync::OnceLock;

/// Multiply-adds, or the like, below which handing work to other threads takes longer than doing it.
const SERIAL_WORK: usize = 1 << 16;

/// How much there is to do: what decides whether other threads are worth it, and nothing else.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Multiply-adds, or the like, of each row.
    Each(usize),
    /// All rows together, by what the operation costs at least.
    All(Cost),
}

impl Work {
    /// All rows of an operation.
    pub(crate) fn of(op: &impl Operation) -> Work {
        Work::All(op.cost())
    }

    /// Multiply-adds, or the like, of one of `rows` rows. What a kernel moves it also converts: a byte counts as one.
    fn of_row(self, rows: usize) -> usize {
        match self {
            Work::Each(work) => work,
            Work::All(cost) => {
                let all = (cost.flops / 2).saturating_add(cost.bytes());
                usize::try_from(all).unwrap_or(usize::MAX) / rows.max(1)
            }
        }
    }
}

/// Independent accumulators of a sum of products: enough for the adders' latency, and a fixed order whatever the batch.
const LANES: usize = 16;

/// A float tensor, held for reading.
pub(crate) struct Floats<'a> {
    elements: Read<'a>,
    dtype: DType,
}

impl<'a> Floats<'a> {
    /// Holds `tensor`, which is f32, bf16 or f16.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Floats<'a>> {
        Ok(Floats { elements: host::read(tensor)?, dtype: tensor.dtype() })
    }

    /// Reads the `out.len()` elements from element `start` on, exactly.
    pub(crate) fn read(&self, start: usize, out: &mut [f32]) {
        widen(self.dtype, &self.elements, start..start + out.len(), out);
    }

    /// As [`read`](Floats::read), without a copy where the elements are f32 already; else they are put into `scratch`.
    pub(crate) fn view<'s>(&'s self, start: usize, len: usize, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        if self.dtype == DType::F32 {
            return &self.elements.as_slice()[start..start + len];
        }
        scratch.resize(len, 0.0);
        self.read(start, scratch);
        scratch
    }
}

/// All elements of a float tensor, for operands that are small.
pub(crate) fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut all = vec![0.0; tensor.count()];
    Floats::of(tensor)?.read(0, &mut all);
    Ok(all)
}

fn widen(dtype: DType, elements: &Read<'_>, range: Range<usize>, out: &mut [f32]) {
    match dtype {
        DType::BF16 => {
            for (out, x) in out.iter_mut().zip(&elements.as_slice::<bf16>()[range]) {
                *out = f32::from_bits((x.to_bits() as u32) << 16);
            }
        }
        DType::F16 => elements.as_slice::<f16>()[range].convert_to_f32_slice(out),
        _ => out.copy_from_slice(&elements.as_slice::<f32>()[range]),
    }
}

/// A matrix of any format, held for reading row by row.
pub(crate) struct Rows<'a> {
    codes: Read<'a>,
    scales: Option<Scales<'a>>,
    format: Format,
    rows: usize,
    cols: usize,
}

struct Scales<'a> {
    scales: Read<'a>,
    layout: ScaleLayout,
}

impl<'a> Rows<'a> {
    /// Holds `matrix`.
    pub(crate) fn of(matrix: &'a Matrix) -> Result<Rows<'a>> {
        let scales = match matrix.scales() {
            Some((scales, layout)) => Some(Scales { scales: host::read(scales)?, layout }),
            None => None,
        };
        let (rows, cols) = (matrix.rows(), matrix.cols());
        Ok(Rows { codes: host::read(matrix.codes())?, scales, format: matrix.format(), rows, cols })
    }

    /// Rows of each group.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Reads the values of row `row` of group `group`, codes times their scales, into `out`, which holds `cols` elements.
    pub(crate) fn read(&self, group: usize, row: usize, out: &mut [f32]) {
        let start = (group * self.rows + row) * self.cols;
        match self.format {
            Format::E4M3(_) => {
                for (out, &code) in out.iter_mut().zip(&self.codes.bytes()[start..start + self.cols]) {
                    *out = e4m3::TABLE[code as usize];
                }
            }
            Format::E2M1(_) => {
                // Rows are whole bytes, but a block of scales may begin inside one: scales come afterwards.
                let bytes = &self.codes.bytes()[start / 2..(start + self.cols) / 2];
                for (out, &byte) in out.chunks_exact_mut(2).zip(bytes) {
                    out.copy_from_slice(&E2M1_PAIRS[byte as usize]);
                }
            }
            plain => widen(plain.dtype(), &self.codes, start..start + self.cols, out),
        }
        if let Some(scales) = &self.scales {
            scales.apply(group, row, self.rows, out);
        }
    }
}

impl Scales<'_> {
    fn apply(&self, group: usize, row: usize, rows: usize, values: &mut [f32]) {
        let layout = self.layout;
        let per_row = values.len().div_ceil(layout.cols);
        let first = (group * rows.div_ceil(layout.rows) + row / layout.rows) * per_row;
        let blocks = values.chunks_mut(layout.cols);
        match layout.scale {
            ScaleType::Ue8m0 => {
                let scales = &self.scales.bytes()[first..first + per_row];
                blocks.zip(scales).for_each(|(block, &byte)| multiply(block, scale::decode(byte)));
            }
            ScaleType::F32 => {
                let scales = &self.scales.as_slice::<f32>()[first..first + per_row];
                blocks.zip(scales).for_each(|(block, &factor)| multiply(block, factor));
            }
        }
    }
}

fn multiply(values: &mut [f32], factor: f32) {
    values.iter_mut().for_each(|x| *x *= factor);
}

/// Both values of each byte of e2m1 codes.
static E2M1_PAIRS: [[f32; 2]; 256] = {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [e2m1::TABLE[byte & 15], e2m1::TABLE[byte >> 4]];
        byte += 1;
    }
    pairs
};

/// A float tensor, held for writing: each f32 is rounded once, to nearest even.
pub(crate) struct Stores<'a> {
    elements: Write<'a>,
    dtype: DType,
}

impl<'a> Stores<'a> {
    /// Holds `tensor`, which is f32, bf16 or f16.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Stores<'a>> {
        Ok(Stores { elements: host::write(tensor)?, dtype: tensor.dtype() })
    }

    /// Computes rows `rows` of `width` elements each, on all cores where that is worth it.
    ///
    /// `f` gets scratch memory, the row's number and where to put its values, whose contents are undefined before.
    pub(crate) fn rows<S>(
        &mut self,
        rows: Range<usize>,
        width: usize,
        work: Work,
        scratch: impl Fn() -> S + Sync + Send,
        f: impl Fn(&mut S, usize, &mut [f32]) + Sync + Send,
    ) {
        let (first, range) = (rows.start, rows.start * width..rows.end * width);
        match self.dtype {
            DType::BF16 => narrow(&mut self.elements.as_mut_slice::<bf16>()[range], first, width, work, scratch, f),
            DType::F16 => narrow(&mut self.elements.as_mut_slice::<f16>()[range], first, width, work, scratch, f),
            _ => {
                let out = &mut self.elements.as_mut_slice::<f32>()[range];
                par_rows(out, width, work, scratch, |s, i, out| f(s, first + i, out));
            }
        }
    }
}

/// [`Stores::rows`] into a half type, by way of a row in f32.
fn narrow<H: Send, S>(
    out: &mut [H],
    first: usize,
    width: usize,
    work: Work,
    scratch: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, usize, &mut [f32]) + Sync + Send,
) where
    [H]: HalfFloatSliceExt,
{
    par_rows(
        out,
        width,
        work,
        || (scratch(), vec![0.0; width]),
        |(s, row), i, out| {
            f(s, first + i, row);
            out.convert_from_f32_slice(row);
        },
    );
}

/// Computes each row of `width` elements of `out`, on all cores where that is worth it; see [`Stores::rows`].
pub(crate) fn par_rows<T: Send, S>(
    out: &mut [T],
    width: usize,
    work: Work,
    scratch: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, usize, &mut [T]) + Sync + Send,
) {
    if out.is_empty() {
        return; // and `width` may be zero
    }
    let rows = out.len() / width;
    let per_task = (SERIAL_WORK / work.of_row(rows).max(1)).max(1);
    if rows <= per_task {
        let mut scratch = scratch();
        out.chunks_mut(width).enumerate().for_each(|(i, out)| f(&mut scratch, i, out));
        return;
    }
    parallel(|| {
        let tasks = out.par_chunks_mut(width * per_task).enumerate();
        tasks.for_each_init(scratch, |scratch, (task, out)| {
            out.chunks_mut(width).enumerate().for_each(|(i, out)| f(scratch, task * per_task + i, out));
        });
    });
}

/// The device's own threads. Callers may be threads of rayon's global pool, all of which may wait for the device: it must
/// not depend on any of them being free. `None` where the system gives no threads.
fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let build = || ThreadPoolBuilder::new().thread_name(|i| format!("anychip-cpu-{i}")).build().ok();
    POOL.get_or_init(build).as_ref()
}

/// Runs `f`, whose rayon loops use the device's threads.
pub(crate) fn parallel<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    match pool() {
        Some(pool) => pool.install(f),
        None => f(),
    }
}

/// Threads of the device.
pub(crate) fn threads() -> usize {
    pool().map_or(1, ThreadPool::current_num_threads)
}

/// The sum of products of two vectors of equal length, in an order that depends on the length alone.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a_blocks.remainder().iter().zip(b_blocks.remainder());
    for (a, b) in a_blocks.zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(tail) {
        *lane += a * b;
    }
    sum_lanes(lanes)
}

/// As [`dot`], in f64.
pub(crate) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a_blocks.remainder().iter().zip(b_blocks.remainder());
    for (a, b) in a_blocks.zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] += a[i] as f64 * b[i] as f64;
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(tail) {
        *lane += *a as f64 * *b as f64;
    }
    lanes.iter().sum()
}

fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, noise, noise_bytes};

    #[test]
    fn a_row_is_codes_times_the_scales_of_its_blocks() {
        let lab = Lab::new();
        // Two groups of 5 x 10, blocks of 2 x 3: the last block of a row and of a column are short, and e2m1 pairs are
        // split between blocks.
        let (groups, rows, cols) = (2, 5, 10);
        let layout = ScaleLayout { scale: ScaleType::F32, rows: 2, cols: 3 };
        let factors: Vec<f32> = (0..groups * 3 * 4).map(|i| 1.5 + i as f32).collect();
        let scales = lab.floats(DType::F32, &[groups, 3, 4], &factors);
        for (dtype, per_byte) in [(DType::E4M3, 1), (DType::E2M1, 2)] {
            let bytes: Vec<u8> = noise_bytes(1, groups * rows * cols / per_byte).iter().map(|b| b & 0xF7).collect();
            let matrix = Matrix::scaled(&lab.bytes(dtype, &[groups, rows, cols], &bytes), &scales, layout).unwrap();
            let held = Rows::of(&matrix).unwrap();
            for (group, row) in [(0, 0), (0, 4), (1, 1), (1, 4)] {
                let mut got = vec![0.0; cols];
                held.read(group, row, &mut got);
                for (col, got) in got.iter().enumerate() {
                    let place = (group * rows + row) * cols + col;
                    let code = match dtype {
                        DType::E4M3 => e4m3::decode(bytes[place]),
                        _ => e2m1::decode_pair(bytes[place / 2])[place % 2],
                    };
                    assert_eq!(
                        *got,
                        code * factors[(group * 3 + row / 2) * 4 + col / 3],
                        "{dtype} {group} {row} {col}"
                    );
                }
            }
        }
    }

    #[test]
    fn scale_bytes_are_exponents_down_to_the_subnormal_one() {
        let lab = Lab::new();
        let matrix = lab.scaled(DType::E4M3, &[1, 4], &[0x38, 0xB8, 0x38, 0x38], &[0, 254, 255, 127], 1);
        let mut row = [0.0; 4];
        Rows::of(&matrix).unwrap().read(0, 0, &mut row);
        assert_eq!(row[..2], [2f32.powi(-127), -(2f32.powi(127))]);
        assert!(row[2].is_nan() && row[3] == 1.0);
    }

    #[test]
    fn floats_are_read_exactly_and_rounded_once() {
        let lab = Lab::new();
        let values = [1.0, -2.5, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::INFINITY, f32::NAN, -0.0, 1e-40];
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let out = lab.output(dtype, &[2, 4]);
            Stores::of(&out).unwrap().rows(
                0..2,
                4,
                Work::Each(4),
                || (),
                |(), row, to| to.copy_from_slice(&values[row * 4..][..4]),
            );
            let (got, want) = (lab.values(&out), lab.values(&lab.floats(dtype, &[2, 4], &values)));
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got), bits(&want), "{dtype}");
            assert_eq!(bits(&floats(&out).unwrap()), bits(&got));
            assert_eq!(bits(Floats::of(&out).unwrap().view(2, 3, &mut Vec::new())), bits(&got[2..5]));
            if dtype == DType::BF16 {
                assert_eq!(got[2..4], [1.0, 1.015625], "midpoints go to the even neighbour");
            }
        }
    }

    #[test]
    fn a_dot_product_takes_every_element() {
        for len in [0, 1, 15, 16, 17, 31, 33, 1000] {
            let (a, b) = (noise(1, len), noise(2, len));
            let want: f64 = a.iter().zip(&b).map(|(&a, &b)| a as f64 * b as f64).sum();
            assert_close(&[dot(&a, &b)], &[want], 1e-6 * (len as f64).sqrt());
        }
        assert!(dot(&[f32::INFINITY, 1.0], &[0.0, 1.0]).is_nan());
    }

    #[test]
    fn rows_are_numbered_alike_on_one_thread_and_on_many() {
        for work in [1, SERIAL_WORK / 7, SERIAL_WORK] {
            let mut out = vec![0; 100 * 3];
            par_rows(&mut out, 3, Work::Each(work), || (), |(), row, out| out.fill(row));
            assert!(out.iter().enumerate().all(|(i, &row)| row == i / 3), "work {work}");
        }
        par_rows(&mut [0.0; 0], 0, Work::Each(1), || (), |(), _, _| panic!("no rows"));
    }
}

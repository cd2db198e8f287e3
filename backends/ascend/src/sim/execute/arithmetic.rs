//! What the vector unit does with numbers, element by element and line by line.

use crate::isa::{Axis, Bin, Cmp, Elem, Tile, Un};

/// f32 of a register.
const LANES: usize = 64;

/// An operand of one row or column in the shape of the result.
pub(super) fn spread<T: Copy>(all: Vec<T>, tile: &Tile, like: &Tile) -> Vec<T> {
    if (tile.rows, tile.cols) == (like.rows, like.cols) {
        return all;
    }
    let (rows, cols) = (like.rows as usize, like.cols as usize);
    let mut out = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        let start = if tile.rows == 1 { 0 } else { row * tile.cols as usize };
        if tile.cols == 1 {
            out.resize(out.len() + cols, all[start]);
        } else {
            out.extend_from_slice(&all[start..start + cols]);
        }
    }
    out
}

/// Rows or columns of a matrix.
pub(super) fn lines<T: Copy>(all: &[T], rows: usize, cols: usize, axis: Axis) -> Vec<Vec<T>> {
    match axis {
        Axis::Row => (0..rows).map(|row| all[row * cols..(row + 1) * cols].to_vec()).collect(),
        Axis::Col => (0..cols).map(|col| (0..rows).map(|row| all[row * cols + col]).collect()).collect(),
    }
}

pub(super) fn lane_sum(line: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    for part in line.chunks(LANES) {
        lanes.iter_mut().zip(part).for_each(|(lane, value)| *lane += value);
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

pub(super) fn arg_max(line: &[f32]) -> i32 {
    let mut best: Option<usize> = None;
    for (place, value) in line.iter().enumerate() {
        let beats = best.is_none_or(|best| *value > line[best]);
        if beats && !value.is_nan() {
            best = Some(place);
        }
    }
    best.map_or(-1, |place| place as i32)
}

/// Larger first; a NaN behind all.
pub(super) fn descending(a: f32, b: f32) -> std::cmp::Ordering {
    let key = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    match (a.is_nan(), b.is_nan()) {
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        // Zeros of either sign are equal.
        _ => key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal),
    }
}

pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

pub(super) fn smaller(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) }
}

pub(super) fn binary(op: Bin, a: &mut [f32], b: &[f32]) {
    let all = a.iter_mut().zip(b);
    match op {
        Bin::Add => all.for_each(|(a, b)| *a += b),
        Bin::Sub => all.for_each(|(a, b)| *a -= b),
        Bin::Mul => all.for_each(|(a, b)| *a *= b),
        Bin::Div => all.for_each(|(a, b)| *a /= b),
        Bin::Max => all.for_each(|(a, b)| *a = larger(*a, *b)),
        _ => all.for_each(|(a, b)| *a = smaller(*a, *b)),
    }
}

pub(super) fn integer(op: Bin, a: i32, b: i32, elem: Elem) -> i32 {
    match op {
        Bin::Add => a.wrapping_add(b),
        Bin::Sub => a.wrapping_sub(b),
        Bin::Mul => a.wrapping_mul(b),
        Bin::Max => a.max(b),
        Bin::Min => a.min(b),
        Bin::And => a & b,
        Bin::Or => a | b,
        Bin::Xor => a ^ b,
        Bin::Shl => a.checked_shl(b as u32).unwrap_or(0),
        // Of the element's own bits: a signed byte was widened.
        Bin::Shr => {
            let bits = if elem == Elem::I8 { a as u32 & 0xFF } else { a as u32 };
            bits.checked_shr(b as u32).unwrap_or(0) as i32
        }
        Bin::Div => 0,
    }
}

pub(super) fn integer_unary(op: Un, a: i32) -> i32 {
    match op {
        Un::Abs => a.wrapping_abs(),
        Un::Neg => a.wrapping_neg(),
        Un::Relu => a.max(0),
        _ => a,
    }
}

pub(super) fn unary(op: Un, a: f32) -> f32 {
    let wide = f64::from(a);
    match op {
        Un::Exp => libm::exp(wide) as f32,
        Un::Ln => libm::log(wide) as f32,
        Un::Sqrt => a.sqrt(),
        Un::Rsqrt => (1.0 / wide.sqrt()) as f32,
        Un::Rcp => 1.0 / a,
        Un::Abs => a.abs(),
        Un::Neg => -a,
        Un::Relu if a < 0.0 => 0.0,
        _ => a,
    }
}

pub(super) fn compare<T: PartialOrd>(cmp: Cmp, a: &T, b: &T) -> bool {
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
    }
}

/// Rows of 4-bit codes, two to a byte.
pub(super) fn pairs(to: &Tile, codes: impl Iterator<Item = u8>) -> Vec<u8> {
    let codes: Vec<u8> = codes.collect();
    let rows = codes.chunks(to.cols.max(1) as usize);
    rows.flat_map(|row| row.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0, |odd| odd << 4))).collect()
}

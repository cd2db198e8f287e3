//! The cube.
//!
//! A product adds to each sum along k, ascending, each product and each sum rounded to f32; the machine's own order is not
//! published. Block-scaled operands are multiplied by their scales first, which is exact within f32's range.

use super::{Executor, numbers_of, turned};
use crate::isa::{Elem, Init, MX_GROUP, Mmad, Tile, Unit};

impl Executor<'_, '_> {
    pub(super) fn mmad(&mut self, mmad: &Mmad) {
        let (m, k, n) = (mmad.a.rows as usize, mmad.a.cols as usize, mmad.b.cols as usize);
        if mmad.a.elem == Elem::I8 {
            return self.mmad_integer(mmad, m, k, n);
        }
        let mut a = self.operand(&mmad.a);
        let mut b = self.operand(&turned(&mmad.b));
        if let Some((sa, sb)) = &mmad.scales {
            self.scale(&mut a, k, sa);
            self.scale(&mut b, k, sb);
        }
        let mut sums = match &mmad.init {
            Init::Zero => vec![0.0; m * n],
            Init::Accumulate => self.operand(&mmad.to),
            Init::Bias(bias) => {
                let row = self.operand(bias);
                row.iter().copied().cycle().take(m * n).collect()
            }
        };
        // Rows of k, so that the innermost loop runs along sums.
        let mut by_k = vec![0.0; k * n];
        for (col, row) in b.chunks_exact(k).enumerate() {
            row.iter().enumerate().for_each(|(depth, value)| by_k[depth * n + col] = *value);
        }
        for (row, sums) in a.chunks_exact(k).zip(sums.chunks_exact_mut(n)) {
            for (value, weights) in row.iter().zip(by_k.chunks_exact(n)) {
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
            }
        }
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        self.scatter(Unit::Aic, &mmad.to, &bytes, false);
    }

    fn mmad_integer(&mut self, mmad: &Mmad, m: usize, k: usize, n: usize) {
        let a = self.gather(Unit::Aic, &mmad.a, false);
        let b = self.gather(Unit::Aic, &turned(&mmad.b), false);
        let before = match &mmad.init {
            Init::Zero => vec![0; 4 * m * n],
            Init::Accumulate => self.gather(Unit::Aic, &mmad.to, false),
            Init::Bias(bias) => {
                let row = self.gather(Unit::Aic, bias, false);
                row.iter().copied().cycle().take(4 * m * n).collect()
            }
        };
        let mut bytes = Vec::with_capacity(4 * m * n);
        for (row, a) in a.chunks_exact(k).enumerate() {
            for (col, b) in b.chunks_exact(k).enumerate() {
                let dot = a.iter().zip(b).map(|(a, b)| i32::from(*a as i8) * i32::from(*b as i8));
                let sum = dot.fold(Elem::I32.integer(&before, row * n + col), i32::wrapping_add);
                bytes.extend(sum.to_le_bytes());
            }
        }
        self.scatter(Unit::Aic, &mmad.to, &bytes, false);
    }

    pub(super) fn operand(&mut self, tile: &Tile) -> Vec<f32> {
        let bytes = self.gather(Unit::Aic, tile, false);
        numbers_of(tile, &bytes)
    }

    /// Multiplies rows of `k` by the scales of their groups.
    fn scale(&mut self, values: &mut [f32], k: usize, scales: &Tile) {
        let scales = self.operand(scales);
        let groups = k / MX_GROUP as usize;
        for (values, scales) in values.chunks_exact_mut(k).zip(scales.chunks_exact(groups.max(1))) {
            for (group, scale) in values.chunks_exact_mut(MX_GROUP as usize).zip(scales) {
                group.iter_mut().for_each(|value| *value *= scale);
            }
        }
    }
}

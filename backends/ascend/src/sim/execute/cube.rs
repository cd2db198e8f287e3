//! The cube, and FixPipe behind it.
//!
//! A product adds to each sum along k, ascending, each product and each sum rounded to f32; the machine's own order is not
//! published. Block-scaled operands are multiplied by their scales first, which is exact within f32's range.

use super::encode::encode;
use super::{Executor, numbers, numbers_of, turned};
use crate::isa::{Elem, Fix, FixTo, Init, MX_GROUP, Mmad, Place, Quant, Round, Tile, Unit, local};
use crate::sim::hazard::Code;

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

    fn operand(&mut self, tile: &Tile) -> Vec<f32> {
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

    pub(super) fn fix(&mut self, fix: &Fix) {
        let sums = self.gather(Unit::Aic, &fix.from, false);
        let cols = fix.from.cols as usize;
        let columns = match &fix.quant {
            Quant::None => None,
            Quant::Scale(scale) => Some(vec![*scale; cols]),
            Quant::Columns(scales) => Some(self.operand(scales)),
        };
        let (elem, place) = match &fix.to {
            FixTo::Gm(to) => (to.elem, Place::Gm(to.region)),
            FixTo::L1(to) | FixTo::Ub(to, _) => (to.elem, local(to, Unit::Aiv0)),
        };
        let bytes = if columns.is_none() && !fix.relu && elem == fix.from.elem {
            sums
        } else {
            let mut values = numbers(fix.from.elem, &sums, fix.from.count());
            for row in values.chunks_exact_mut(cols) {
                for (col, value) in row.iter_mut().enumerate() {
                    *value *= columns.as_ref().map_or(1.0, |scales| scales[col]);
                    if fix.relu {
                        // A NaN stays one.
                        *value = if *value < 0.0 { 0.0 } else { *value };
                    }
                }
            }
            let mut lost = None;
            let mut bytes = Vec::with_capacity(elem.bytes(values.len()));
            values.iter().for_each(|value| lost = lost.or(encode(elem, *value, Round::Even, &mut bytes)));
            if let Some(lost) = lost {
                self.hazard(Code::Lossy, place, fix.from.blocks(), format!("{lost} is more than {elem} has"));
            }
            bytes
        };
        match &fix.to {
            FixTo::Gm(to) => self.scatter_gm(to, bytes, fix.atomic),
            FixTo::L1(to) => self.scatter_padded(Unit::Aic, to, &bytes),
            FixTo::Ub(to, half) => {
                let width = elem.bytes(cols);
                let mut rest = &bytes[..];
                for (unit, part) in crate::isa::fix_halves(to, *half) {
                    let (mine, others) = rest.split_at(width * part.rows as usize);
                    self.scatter(unit, &part, mine, false);
                    rest = others;
                }
            }
        }
    }
}

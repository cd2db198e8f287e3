//! FixPipe: sums are multiplied, converted, and laid out.

use super::arithmetic::pairs;
use super::encode::encode;
use super::transfer::{fractals, transposed};
use super::{Executor, numbers};
use crate::isa::{Elem, Fix, FixMode, FixTo, Place, Quant, Round, Unit, local};
use crate::sim::hazard::Code;

impl Executor<'_, '_> {
    pub(super) fn fix(&mut self, fix: &Fix) {
        let (rows, cols) = (fix.from.rows as usize, fix.from.cols as usize);
        let elem = fix.elem();
        let bytes = self.converted(fix);
        match &fix.to {
            FixTo::Gm(to) => {
                let bytes = match (fix.mode, fix.mode.width(elem)) {
                    (_, Some(width)) => fractals(&bytes, rows, elem.bytes(cols), elem.bytes(width)),
                    (FixMode::Columns, _) => transposed(elem, &bytes, rows, cols),
                    _ => bytes,
                };
                self.scatter_gm(to, bytes, fix.atomic);
            }
            FixTo::L1(to) => self.scatter_padded(Unit::Aic, to, &bytes),
            FixTo::Ub(to, half) => {
                let turned = fix.mode == FixMode::Columns;
                let bytes = if turned { transposed(elem, &bytes, rows, cols) } else { bytes };
                let width = elem.bytes(to.cols as usize);
                let mut rest = &bytes[..];
                for (unit, part) in crate::isa::fix_halves(to, *half) {
                    let (mine, others) = rest.split_at(width * part.rows as usize);
                    self.scatter(unit, &part, mine, false);
                    rest = others;
                }
            }
        }
    }

    /// Sums as what they become, row by row without gaps.
    fn converted(&mut self, fix: &Fix) -> Vec<u8> {
        let sums = self.gather(Unit::Aic, &fix.from, false);
        let (cols, elem) = (fix.from.cols as usize, fix.elem());
        let columns = match &fix.quant {
            Quant::None => None,
            Quant::Scale(scale) => Some(vec![*scale; cols]),
            Quant::Columns(scales) => Some(self.operand(scales)),
        };
        if columns.is_none() && !fix.relu && elem == fix.from.elem {
            return sums;
        }
        let mut values = numbers(fix.from.elem, &sums, fix.from.count());
        for row in values.chunks_exact_mut(cols.max(1)) {
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
        if elem == Elem::I4 {
            bytes = pairs(&fix.from, bytes.into_iter());
        }
        if let Some(lost) = lost {
            let (place, blocks) = match &fix.to {
                FixTo::Gm(to) => (Place::Gm(to.region), to.blocks()),
                FixTo::L1(to) | FixTo::Ub(to, _) => (local(to, Unit::Aiv0), to.blocks()),
            };
            self.hazard(Code::Lossy, place, blocks, format!("{lost} is more than {elem} has"));
        }
        bytes
    }
}

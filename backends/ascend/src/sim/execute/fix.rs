//! FixPipe: sums are multiplied, converted, and laid out.

use super::arithmetic::pairs;
use super::transfer::{fractals, transposed};
use super::{Executor, numbers};
use crate::isa::{Elem, Fix, FixMode, FixTo, Place, Quant, Unit, e5m2, hif8, local};
use crate::sim::hazard::Code;
use anychip_core::formats::e4m3;
use half::{bf16, f16};

/// What an integer of 4 bits holds.
const NIBBLE: std::ops::RangeInclusive<f32> = -8.0..=7.0;

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
        let bytes = if elem == Elem::I4 {
            values.iter_mut().for_each(|value| *value = value.round_ties_even());
            lost = values.iter().copied().find(|value| !NIBBLE.contains(value));
            let codes = values.iter().map(|value| value.clamp(*NIBBLE.start(), *NIBBLE.end()) as i8 as u8 & 15);
            pairs(&fix.from, codes)
        } else {
            let mut bytes = Vec::with_capacity(elem.bytes(values.len()));
            values.iter().for_each(|value| lost = lost.or(encode(elem, *value, &mut bytes)));
            bytes
        };
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

/// Stores a number of a type of whole bytes, rounded to nearest even, HiF8 with ties away from zero; gives it back where it was
/// more than the type has.
pub(super) fn encode(elem: Elem, value: f32, out: &mut Vec<u8>) -> Option<f32> {
    let mut lost = false;
    match elem {
        Elem::F32 => out.extend(value.to_le_bytes()),
        Elem::F16 => out.extend(f16::from_f32(value).to_le_bytes()),
        Elem::BF16 => out.extend(bf16::from_f32(value).to_le_bytes()),
        Elem::E4M3 => {
            lost = value.abs() > e4m3::MAX;
            out.push(e4m3::encode(value));
        }
        Elem::E5M2 => {
            lost = value.abs() > e5m2::MAX;
            out.push(e5m2::encode(value));
        }
        Elem::HiF8 => {
            lost = value.abs() > hif8::MAX;
            out.push(hif8::encode(value));
        }
        Elem::I8 => {
            let rounded = value.round_ties_even();
            lost = !(-128.0..=127.0).contains(&rounded);
            out.push(rounded as i8 as u8);
        }
        Elem::U8 => {
            let rounded = value.round_ties_even();
            lost = !(0.0..=255.0).contains(&rounded);
            out.push(rounded as u8);
        }
        _ => out.extend((value.round_ties_even() as i32).to_le_bytes()),
    }
    lost.then_some(value)
}

//! From an entry's bytes to numbers that the cube takes: bf16 or f32, in which codes times powers of two are exact.

use super::Places;
use super::Scope;
use crate::isa::{Elem, Global, MX_GROUP, Round, Tile};
use crate::kernel::Context;
use crate::layout::Layout;
use crate::machine::Space;
use anychip_core::KvFormat;

/// Rows in UB begin at multiples of this.
const UNIT: u32 = 32;

/// Rows of bytes in UB, each beginning where the unit can reach it.
fn bytes(at: u32, rows: u32, cols: u32) -> Tile {
    Tile { space: Space::Ub, at, elem: Elem::U8, layout: Layout::Nd, rows, cols, pitch: cols.next_multiple_of(UNIT) }
}

/// Rows of bytes, or columns of them, as other elements.
fn view(rows: Tile, from: u32, elem: Elem, cols: u32) -> Tile {
    Tile { at: rows.at + from, elem, cols, pitch: rows.pitch * 8 / elem.bits() as u32, ..rows }
}

fn numbers(at: u32, elem: Elem, rows: u32, cols: u32) -> Tile {
    Tile { pitch: cols.next_multiple_of(elem.c0() as u32), ..Tile::dense(Space::Ub, at, elem, rows, cols) }
}

fn size(tile: &Tile) -> u32 {
    tile.rows * tile.pitch * tile.elem.bits() as u32 / 8
}

/// How the bytes of an entry come into UB.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Parts {
    /// Rows of a pool, and whether a list's second places, those of scales, name them.
    pub(in crate::ops) parts: Vec<(Places, bool)>,
    format: KvFormat,
}

impl Parts {
    pub(in crate::ops) fn of(scope: &Scope) -> Parts {
        let format = scope.format;
        let mut parts = match format {
            // Numbers that begin where the unit cannot reach them come by themselves.
            KvFormat::Fp8 { nope, rope } if !nope.is_multiple_of(UNIT as usize) => {
                [(0, nope), (nope, 2 * rope)].into_iter().filter(|(_, len)| *len > 0).collect()
            }
            _ => vec![(0, format.data_bytes())],
        }
        .into_iter()
        .map(|(from, len)| (scope.data(from, len), false))
        .collect::<Vec<_>>();
        parts.extend(scope.scales().map(|scales| (scales, true)));
        Parts { parts, format }
    }

    /// Rows of scales, and where those of so many entries lie.
    pub(in crate::ops) fn scales(&self, at: u32, rows: u32) -> Option<(Global, Tile)> {
        let (places, _) = self.parts.iter().find(|(_, of_scales)| *of_scales)?;
        Some((places.rows, bytes(at, rows, places.rows.cols)))
    }

    /// Where the parts of so many entries lie in a buffer of data and one of scales.
    pub(in crate::ops) fn tiles(&self, data: u32, scales: u32, rows: u32) -> Vec<Tile> {
        let mut next = data;
        let tile = |(places, of_scales): &(Places, bool)| {
            let tile = bytes(if *of_scales { scales } else { next }, rows, places.rows.cols);
            next += if *of_scales { 0 } else { size(&tile) };
            tile
        };
        self.parts.iter().map(tile).collect()
    }
}

/// Elements that come as codes, and those behind them that come as numbers.
fn columns(format: KvFormat) -> (u32, u32) {
    match format {
        KvFormat::F32 { dim } => (0, dim as u32),
        KvFormat::Fp8 { nope, rope } => (nope as u32, rope as u32),
        format => (format.dim() as u32, 0),
    }
}

/// Elements that share a scale.
fn block(format: KvFormat) -> u32 {
    if matches!(format, KvFormat::Fp8 { .. }) { KvFormat::FP8_BLOCK as u32 } else { KvFormat::FP4_BLOCK as u32 }
}

/// Bytes of UB that an entry takes: its data as they come, its scales, in between, and as numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ops) struct Room {
    pub(in crate::ops) data: u32,
    pub(in crate::ops) scales: u32,
    pub(in crate::ops) between: u32,
    /// Where scales are from, of each scope.
    index: u32,
    pub(in crate::ops) numbers: u32,
}

impl Room {
    /// The most that any of the formats takes; a `new` machine has an instruction for most of it.
    pub(in crate::ops) fn of(formats: impl Iterator<Item = KvFormat>, elem: Elem, new: bool) -> Room {
        formats.fold(Room::default(), |most, format| {
            let (codes, plain) = columns(format);
            let row = |elem: Elem, cols: u32| (cols * elem.bits() as u32 / 8).next_multiple_of(UNIT);
            let groups = (format.scale_bytes() as u32).next_multiple_of(8);
            let doubled = codes.div_ceil(MX_GROUP);
            let between = match codes {
                0 => 0,
                // Scales of each 32, and where they are from.
                _ if new => doubled.next_multiple_of(UNIT) + 4 * doubled.next_multiple_of(8),
                // Factors and their transpose, numbers before they are narrow.
                _ => row(Elem::F32, codes) + 8 * groups,
            };
            Room {
                data: most.data.max((format.data_bytes() as u32 + UNIT).next_multiple_of(UNIT)),
                scales: most.scales.max((format.scale_bytes() as u32).next_multiple_of(UNIT)),
                between: most.between.max(between + UNIT),
                index: most.index + if new { 4 * doubled.next_multiple_of(8) } else { 0 },
                numbers: most.numbers.max(row(elem, codes) + row(elem, plain)),
            }
        })
    }

    /// Bytes for `keys` at once, with so many buffers of data and of numbers, and without scales.
    pub(in crate::ops) fn bytes(&self, keys: u32, [data, numbers]: [usize; 2]) -> u32 {
        keys * (data as u32 * self.data + self.between + self.index + numbers as u32 * self.numbers)
    }
}

/// What unpacks the entries of a scope.
pub(in crate::ops) struct Unpacker {
    pub(in crate::ops) parts: Parts,
    elem: Elem,
    between: u32,
    /// Where the scale of each 32 codes is among those of each 64.
    doubled: Option<Tile>,
}

impl Unpacker {
    /// For `keys` at once, with a place in UB of [`Room::between`] for each.
    pub(in crate::ops) fn new(cx: &mut Context<'_>, scope: &Scope, elem: Elem, keys: u32, between: u32) -> Unpacker {
        let parts = Parts::of(scope);
        let (codes, _) = columns(scope.format);
        let doubled = (cx.is_950() && codes > 0 && block(scope.format) == 2 * MX_GROUP).then(|| {
            let groups = codes.div_ceil(MX_GROUP);
            let index = cx.ub(Elem::I32, keys, groups);
            let row = Tile::dense(Space::Ub, between, Elem::I32, 1, groups);
            let column = Tile::dense(Space::Ub, between + 4 * groups.next_multiple_of(8), Elem::I32, 1, keys);
            cx.ramp(row, 0, 1);
            cx.shr(row, row, 1);
            cx.ramp(column, 0, scope.format.scale_bytes() as i32);
            cx.add(index, row, Tile { rows: keys, cols: 1, pitch: 1, ..column });
            index
        });
        Unpacker { parts, elem, between, doubled }
    }

    /// Entries as numbers from `to` on, in parts: the column of each, and its rows.
    pub(in crate::ops) fn unpack(&self, cx: &mut Context<'_>, raw: &[Tile], to: u32) -> Vec<(u32, Tile)> {
        let (Some(first), Some(last)) = (raw.first(), raw.last()) else { return Vec::new() };
        let (elem, format) = (self.elem, self.parts.format);
        let (codes, plain) = columns(format);
        let coded = numbers(to, elem, first.rows, codes);
        let uncoded = numbers(to + size(&coded), elem, first.rows, plain);
        cx.fused(|cx| {
            if codes > 0 {
                let kind = if block(format) == MX_GROUP { Elem::E2M1 } else { Elem::E4M3 };
                self.scaled(cx, coded, view(*first, 0, kind, codes), *last);
            }
            if plain > 0 {
                let kind = if codes == 0 && raw.len() == 1 { Elem::F32 } else { Elem::BF16 };
                let from = match raw {
                    [_, second, _] => view(*second, 0, kind, plain),
                    _ => view(*first, codes, kind, plain),
                };
                if kind == elem {
                    cx.copy(uncoded, from);
                } else {
                    cx.cast(uncoded, from, Round::Even);
                }
            }
        });
        let mut out = Vec::with_capacity(2);
        out.extend((codes > 0).then_some((0, coded)));
        out.extend((plain > 0).then_some((codes, uncoded)));
        out
    }

    /// Codes times the scale of each block of a row.
    fn scaled(&self, cx: &mut Context<'_>, to: Tile, codes: Tile, scales: Tile) {
        let all = codes.cols.div_ceil(MX_GROUP);
        if let Some(index) = self.doubled {
            let doubled = bytes(self.between, codes.rows, all);
            cx.gather(doubled, scales, Tile { rows: codes.rows, ..index });
            return cx.dequant_mx(to, codes, doubled.of(Elem::E8M0));
        }
        if cx.is_950() {
            return cx.dequant_mx(to, codes, view(scales, 0, Elem::E8M0, all));
        }
        let block = block(self.parts.format);
        let groups = codes.cols.div_ceil(block);
        let factors = numbers(self.between, Elem::F32, codes.rows, groups);
        let columns = numbers(self.between + size(&factors), Elem::F32, groups, codes.rows);
        let wide = match to.elem {
            Elem::F32 => to,
            _ => numbers(columns.at + size(&columns), Elem::F32, codes.rows, codes.cols),
        };
        cx.cast(factors, view(scales, 0, Elem::E8M0, groups), Round::Even);
        cx.transpose(columns, factors);
        cx.cast(wide, codes, Round::Even);
        for group in 0..groups {
            let part = wide.col_range(group * block, block.min(codes.cols - group * block));
            // A row of the transpose, which lies as a column does that has nothing beside it.
            let at = columns.at + group * columns.pitch * 4;
            cx.mul(part, part, Tile::dense(Space::Ub, at, Elem::F32, codes.rows, 1));
        }
        if to.elem != Elem::F32 {
            cx.cast(to, wide, Round::Even);
        }
    }
}

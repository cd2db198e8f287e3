//! The vector unit.
//!
//! Numbers are computed in f32, elementary functions are rounded correctly but for the rarest cases, and results are rounded
//! to their type. The 950 takes subnormal f32 as zero and gives none. Sums of rows go as in the registers: 64 lanes, each in
//! ascending order, then lanes in pairs.

use super::arithmetic::{
    arg_max, binary, compare, descending, integer, integer_unary, lane_sum, larger, lines, pairs, smaller, spread,
    unary,
};
use super::encode::encode;
use super::{Executor, each_packed, numbers_of, packed, transfer};
use crate::isa::{Axis, Bin, Cmp, Count, Elem, MX_GROUP, Operand, Red, Round, Tile, Un, Unit, Vector, local};
use crate::sim::hazard::Code;

/// Numbers that are sorted together.
const SORTED: usize = 32;

impl Executor<'_, '_> {
    pub(super) fn vector(&mut self, unit: Unit, vector: &Vector) {
        match vector {
            Vector::Bin(op, to, a, b) => {
                let bits = matches!(op, Bin::And | Bin::Or | Bin::Xor | Bin::Shl | Bin::Shr);
                if bits || to.elem.is_integer() {
                    let (a, b) = (self.integers_of(unit, to, a), self.integers_of(unit, to, b));
                    let all: Vec<i32> = a.iter().zip(&b).map(|(a, b)| integer(*op, *a, *b, to.elem)).collect();
                    self.store_integers(unit, to, &all);
                } else {
                    let (mut a, b) = (self.numbers_of(unit, to, a), self.numbers_of(unit, to, b));
                    binary(*op, &mut a, &b);
                    self.store_numbers(unit, to, a);
                }
            }
            Vector::Un(op, to, a) => {
                let a = Operand::Tile(*a);
                if to.elem.is_integer() || *op == Un::Copy {
                    let mut all = self.integers_of(unit, to, &a);
                    all.iter_mut().for_each(|a| *a = integer_unary(*op, *a));
                    self.store_integers(unit, to, &all);
                } else {
                    let mut all = self.numbers_of(unit, to, &a);
                    all.iter_mut().for_each(|a| *a = unary(*op, *a));
                    self.store_numbers(unit, to, all);
                }
            }
            Vector::Cast(to, a, round) => self.cast(unit, to, a, *round),
            Vector::Red(red, axis, to, a) => self.reduce(unit, *red, *axis, to, a),
            Vector::Bcast(to, a) => {
                let all = self.integers_of(unit, to, a);
                self.store_integers(unit, to, &all);
            }
            Vector::Ramp(to, start, step) => {
                let row: Vec<i32> = (0..to.cols as i32).map(|j| start.wrapping_add(j.wrapping_mul(*step))).collect();
                let float = |value: &i32| if to.elem == Elem::F32 { (*value as f32).to_bits() as i32 } else { *value };
                let row: Vec<i32> = row.iter().map(float).collect();
                self.store_integers(unit, to, &row.repeat(to.rows as usize));
            }
            Vector::Select(cmp, to, [a, b, x, y]) => {
                let holds = self.compared(unit, *cmp, to, [a, b]);
                let (x, y) = (self.integers_of(unit, to, x), self.integers_of(unit, to, y));
                let all = holds.iter().zip(x.iter().zip(&y)).map(|(holds, (x, y))| if *holds { *x } else { *y });
                let all: Vec<i32> = all.collect();
                self.store_integers(unit, to, &all);
            }
            Vector::Gather(to, from, index) => {
                let from_values = self.integers_of(unit, from, &Operand::Tile(*from));
                let list = self.integers_of(unit, index, &Operand::Tile(*index));
                let mut beyond = None;
                let all = list.iter().map(|&place| {
                    let found = usize::try_from(place).ok().and_then(|place| from_values.get(place)).copied();
                    found.unwrap_or_else(|| {
                        beyond = beyond.or(Some(place));
                        0
                    })
                });
                let all: Vec<i32> = all.collect();
                self.store_integers(unit, to, &all);
                self.beyond(unit, from, beyond);
            }
            Vector::Scatter(to, from, index) => {
                let values = self.integers_of(unit, from, &Operand::Tile(*from));
                let list = self.integers_of(unit, index, &Operand::Tile(*index));
                let mut beyond = None;
                for (value, place) in values.iter().zip(&list) {
                    match usize::try_from(*place) {
                        Ok(place) if place < to.count() => {
                            let (row, col) = (place / to.cols as usize, place % to.cols as usize);
                            let at = to.at + to.elem.bytes(to.place(row, col)) as u32;
                            self.store_integers(unit, &Tile { at, rows: 1, cols: 1, ..*to }, &[*value]);
                        }
                        Ok(_) => beyond = beyond.or(Some(*place)),
                        Err(_) => {}
                    }
                }
                self.beyond(unit, to, beyond);
            }
            Vector::Trans(to, a) => {
                let bytes = self.gather(unit, a, false);
                let turned = transfer::transposed(a.elem, &bytes, a.rows as usize, a.cols as usize);
                self.scatter(unit, to, &turned, false);
            }
            Vector::Sort32(to, keys, integers) => self.sort(unit, to, keys, integers),
            Vector::Merge(to, lists) => self.merge(unit, to, lists),
            Vector::Hist(count, to, a) => {
                let bytes = self.gather(unit, a, false);
                let mut counts = vec![0; to.count()];
                for (row, bytes) in bytes.chunks_exact(a.cols.max(1) as usize).enumerate() {
                    let counts = &mut counts[row * 256..][..256];
                    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
                    if *count == Count::Accumulate {
                        (1..256).for_each(|value| counts[value] += counts[value - 1]);
                    }
                }
                self.store_integers(unit, to, &counts);
            }
            Vector::Squeeze(cmp, to, from, [a, b]) => {
                let holds = self.compared(unit, *cmp, from, [a, b]);
                let all = self.integers_of(unit, from, &Operand::Tile(*from));
                let kept = all.iter().zip(&holds).filter(|(_, holds)| **holds).map(|(value, _)| *value);
                let kept: Vec<i32> = kept.take(to.count()).collect();
                self.store_integers(unit, &Tile { cols: kept.len() as u32, ..*to }, &kept);
            }
            Vector::DequantMx(to, codes, scales) => {
                let (cols, groups) = (codes.cols as usize, scales.cols as usize);
                let bytes = self.gather(unit, codes, false);
                let scale_bytes = self.gather(unit, scales, false);
                let width = codes.elem.bytes(cols);
                let mut all = Vec::with_capacity(to.count());
                for row in 0..codes.rows as usize {
                    for col in 0..cols {
                        let code = codes.elem.number(&bytes[row * width..], col);
                        all.push(code * Elem::E8M0.number(&scale_bytes[row * groups..], col / MX_GROUP as usize));
                    }
                }
                self.store_converted(unit, to, &all, Round::Even);
            }
            Vector::Fused(all) => all.iter().for_each(|one| self.vector(unit, one)),
        }
    }

    /// Where a comparison holds, for each element of a tile like `like`; what is compared may be of another type.
    fn compared(&mut self, unit: Unit, cmp: Cmp, like: &Tile, [a, b]: [&Operand; 2]) -> Vec<bool> {
        let like = like.of(a.tile().or(b.tile()).map_or(like.elem, |tile| tile.elem));
        if like.elem.is_integer() {
            let (a, b) = (self.integers_of(unit, &like, a), self.integers_of(unit, &like, b));
            return a.iter().zip(&b).map(|(a, b)| compare(cmp, a, b)).collect();
        }
        let (a, b) = (self.numbers_of(unit, &like, a), self.numbers_of(unit, &like, b));
        a.iter().zip(&b).map(|(a, b)| compare(cmp, a, b)).collect()
    }

    fn beyond(&mut self, unit: Unit, tile: &Tile, place: Option<i32>) {
        if let Some(place) = place {
            let detail = format!("the list names element {place} of {}", tile.count());
            self.hazard(Code::OutOfBounds, local(tile, unit), tile.blocks(), detail);
        }
    }

    /// An operand in the shape of `like`, as numbers, subnormal ones flushed where the machine does.
    fn numbers_of(&mut self, unit: Unit, like: &Tile, operand: &Operand) -> Vec<f32> {
        let count = like.count();
        let tile = match operand {
            Operand::Number(number) => return vec![*number; count],
            Operand::Integer(bits) => return vec![*bits as f32; count],
            Operand::Tile(tile) => tile,
        };
        let bytes = self.gather(unit, tile, false);
        let mut all = numbers_of(tile, &bytes);
        self.flush(unit, tile, &mut all);
        spread(all, tile, like)
    }

    /// An operand in the shape of `like`, as integers, or as the bits of its numbers.
    fn integers_of(&mut self, unit: Unit, like: &Tile, operand: &Operand) -> Vec<i32> {
        let tile = match operand {
            Operand::Integer(integer) => return vec![*integer; like.count()],
            Operand::Number(number) => {
                let mut bytes = Vec::new();
                let _ = encode(like.elem, *number, Round::Even, &mut bytes);
                return vec![like.elem.integer(&bytes, 0); like.count()];
            }
            Operand::Tile(tile) => tile,
        };
        let bytes = self.gather(unit, tile, false);
        let all: Vec<i32> = match tile.elem.bits() {
            32 => bytes.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect(),
            _ if packed(tile) => each_packed(tile, &bytes, |row, col| tile.elem.integer(row, col)),
            _ => (0..tile.count()).map(|index| tile.elem.integer(&bytes, index)).collect(),
        };
        spread(all, tile, like)
    }

    fn flush(&mut self, unit: Unit, tile: &Tile, all: &mut [f32]) {
        if !self.flushes || !matches!(tile.elem, Elem::F32 | Elem::BF16) {
            return;
        }
        let mut first = None;
        for value in all.iter_mut().filter(|value| value.is_subnormal()) {
            first = first.or(Some(*value));
            *value = 0f32.copysign(*value);
        }
        if let Some(value) = first {
            let detail = format!("{value:e} is subnormal, which the unit takes as zero");
            self.hazard(Code::Lossy, local(tile, unit), tile.blocks(), detail);
        }
    }

    fn store_numbers(&mut self, unit: Unit, to: &Tile, mut all: Vec<f32>) {
        self.flush(unit, to, &mut all);
        let mut bytes = Vec::with_capacity(to.elem.bytes(all.len()));
        match to.elem {
            Elem::F32 => all.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes())),
            elem => all.iter().for_each(|value| {
                let _ = encode(elem, *value, Round::Even, &mut bytes);
            }),
        }
        self.scatter(unit, to, &bytes, false);
    }

    fn store_integers(&mut self, unit: Unit, to: &Tile, all: &[i32]) {
        let bytes: Vec<u8> = match to.elem.bits() {
            32 => all.iter().flat_map(|value| value.to_le_bytes()).collect(),
            16 => all.iter().flat_map(|value| (*value as u16).to_le_bytes()).collect(),
            8 => all.iter().map(|value| *value as u8).collect(),
            _ => pairs(to, all.iter().map(|value| *value as u8 & 15)),
        };
        self.scatter(unit, to, &bytes, false);
    }

    /// Stores numbers as another type, saturated where it is one of few bits.
    fn store_converted(&mut self, unit: Unit, to: &Tile, all: &[f32], round: Round) {
        let mut lost = None;
        let mut bytes = Vec::with_capacity(all.len() * to.elem.bits().div_ceil(8));
        all.iter().for_each(|value| lost = lost.or(encode(to.elem, *value, round, &mut bytes)));
        if to.elem.bits() == 4 {
            bytes = pairs(to, bytes.into_iter());
        }
        self.scatter(unit, to, &bytes, false);
        self.lost(unit, to, lost);
    }

    fn lost(&mut self, unit: Unit, to: &Tile, lost: Option<impl std::fmt::Display>) {
        if let Some(lost) = lost {
            let detail = format!("{lost} is more than {} has", to.elem);
            self.hazard(Code::Lossy, local(to, unit), to.blocks(), detail);
        }
    }

    fn cast(&mut self, unit: Unit, to: &Tile, a: &Tile, round: Round) {
        if a.elem.is_integer() && to.elem.is_integer() || to.elem == Elem::U8 && a.elem.bits() <= 8 {
            let mut all = self.integers_of(unit, a, &Operand::Tile(*a));
            let (least, most) = match to.elem {
                Elem::I8 => (i8::MIN.into(), i8::MAX.into()),
                Elem::U8 => (0, u8::MAX.into()),
                _ => (i32::MIN, i32::MAX),
            };
            let lost = all.iter().copied().find(|value| !(least..=most).contains(value));
            all.iter_mut().for_each(|value| *value = (*value).clamp(least, most));
            self.store_integers(unit, to, &all);
            return self.lost(unit, to, lost);
        }
        let bytes = self.gather(unit, a, false);
        let mut all = numbers_of(a, &bytes);
        self.flush(unit, a, &mut all);
        self.store_converted(unit, to, &all, round);
    }

    fn reduce(&mut self, unit: Unit, red: Red, axis: Axis, to: &Tile, a: &Tile) {
        let (rows, cols) = (a.rows as usize, a.cols as usize);
        if a.elem.is_integer() {
            let all = self.integers_of(unit, a, &Operand::Tile(*a));
            let lines = lines(&all, rows, cols, axis);
            let reduced = lines.iter().map(|line| match red {
                Red::Sum => line.iter().fold(0, |sum: i32, value| sum.wrapping_add(*value)),
                Red::Max => line.iter().copied().max().unwrap_or(0),
                Red::Min => line.iter().copied().min().unwrap_or(0),
                Red::ArgMax => {
                    let best = line.iter().enumerate().rev().max_by_key(|(_, value)| **value);
                    best.map_or(0, |(place, _)| place as i32)
                }
            });
            let reduced: Vec<i32> = reduced.collect();
            return self.store_integers(unit, to, &reduced);
        }
        let all = self.numbers_of(unit, a, &Operand::Tile(*a));
        let lines = lines(&all, rows, cols, axis);
        if red == Red::ArgMax {
            let places: Vec<i32> = lines.iter().map(|line| arg_max(line)).collect();
            return self.store_integers(unit, to, &places);
        }
        let reduced = lines.iter().map(|line| match (red, axis) {
            (Red::Max, _) => line.iter().copied().fold(f32::NEG_INFINITY, larger),
            (Red::Min, _) => line.iter().copied().fold(f32::INFINITY, smaller),
            (_, Axis::Row) => lane_sum(line),
            (_, Axis::Col) => line.iter().sum(),
        });
        let reduced = reduced.collect();
        self.store_numbers(unit, to, reduced);
    }

    fn sort(&mut self, unit: Unit, to: &Tile, keys: &Tile, integers: &Tile) {
        let numbers = self.numbers_of(unit, keys, &Operand::Tile(*keys));
        let tags = self.integers_of(unit, integers, &Operand::Tile(*integers));
        let mut out = Vec::with_capacity(2 * numbers.len());
        for (numbers, tags) in numbers.chunks(SORTED).zip(tags.chunks(SORTED)) {
            let mut pairs: Vec<(f32, i32)> = numbers.iter().copied().zip(tags.iter().copied()).collect();
            pairs.sort_by(|a, b| descending(a.0, b.0));
            out.extend(pairs.iter().flat_map(|(number, tag)| [number.to_bits() as i32, *tag]));
        }
        self.store_integers(unit, to, &out);
    }

    fn merge(&mut self, unit: Unit, to: &Tile, lists: &[Tile]) {
        let mut all: Vec<[i32; 2]> = Vec::new();
        for list in lists {
            let words = self.integers_of(unit, list, &Operand::Tile(*list));
            all.extend(words.chunks_exact(2).map(|pair| [pair[0], pair[1]]));
        }
        // Stable, so of equals the earlier list's come first.
        let key = |pair: &[i32; 2]| f32::from_bits(pair[0] as u32);
        all.sort_by(|a, b| descending(key(a), key(b)));
        let words: Vec<i32> = all.into_iter().flatten().take(to.count()).collect();
        self.store_integers(unit, to, &words);
    }
}

//! Paged pools: random entries in pages out of order, poison everywhere else.

use super::Builder;
use super::encode::{POISON, float_bytes, row_codes};
use crate::random::{Family, Random};
use anychip_core::{DType, KvFormat, KvPool, PAGE_ENTRIES, Paged, Result};
use std::collections::BTreeMap;

/// Spare pages among which the used ones lie in random order.
const FEW: usize = 16;

/// The entries that a sequence has, from `start` on. A late start stands for a long context of which an operation sees
/// the end: the pages before it are not in the pool.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// First entry.
    pub start: usize,
    /// Number of entries.
    pub len: usize,
}

impl Builder<'_> {
    /// A pool that holds each sequence's stretch of random entries, and rows of these sequences.
    ///
    /// Pages lie in random order; two belong to nobody. Places that hold no entry are poisoned. Page table places without
    /// a page are -1 or name a page outside the pool, and every table has one such place at its end.
    ///
    /// # Errors
    /// As [`tensor`](Builder::tensor).
    pub fn paged(
        &mut self,
        format: KvFormat,
        stretches: &[Stretch],
        sequence: &[i32],
        family: Family,
        size: f32,
    ) -> Result<Paged> {
        self.paged_among(2, format, stretches, sequence, family, size)
    }

    /// The same in a pool with `spare` pages that belong to nobody. Of more than a few, the used ones lie at both ends of
    /// the pool and the spare ones between them.
    pub(crate) fn paged_among(
        &mut self,
        spare: usize,
        format: KvFormat,
        stretches: &[Stretch],
        sequence: &[i32],
        family: Family,
        size: f32,
    ) -> Result<Paged> {
        let pages_of = |s: &Stretch| (s.start / PAGE_ENTRIES)..(s.start + s.len).div_ceil(PAGE_ENTRIES);
        let width = stretches.iter().map(|s| pages_of(s).end).max().unwrap_or(0) + 1;
        let count = stretches.iter().map(|s| pages_of(s).filter(|_| s.len > 0).count()).sum::<usize>() + spare;
        let mut order = self.random().permutation(count);
        if spare > FEW {
            order = (0..count).map(|i| if i % 2 == 0 { count - 1 - i / 2 } else { i / 2 }).collect();
        }
        let mut free = order.into_iter();
        let mut pages = vec![POISON; count * format.page_bytes()];
        let nowhere = [-1, count as i32, i32::MAX, i32::MIN];
        let mut table: Vec<i32> = (0..stretches.len() * width).map(|i| nowhere[i % 4]).collect();
        for (s, stretch) in stretches.iter().enumerate() {
            let mut taken = BTreeMap::new();
            let dim = format.dim();
            let values = family.fill(self.random(), stretch.len * dim, dim);
            for entry in stretch.start..stretch.start + stretch.len {
                let index = entry / PAGE_ENTRIES;
                let page = *taken.entry(index).or_insert_with(|| free.next().unwrap_or_default());
                table[s * width + index] = page as i32;
                let row = &values[(entry - stretch.start) * dim..][..dim];
                let row: Vec<f32> = row.iter().map(|x| x * size).collect();
                let page = &mut pages[page * format.page_bytes()..][..format.page_bytes()];
                store(format, page, entry % PAGE_ENTRIES, &row);
            }
        }
        let pages = self.tensor(DType::U8, &[count, format.page_bytes()], &pages)?;
        let table = self.integers(&[stretches.len(), width], &table)?;
        Ok(Paged { pool: KvPool::new(format, &pages)?, table, sequence: self.integers(&[sequence.len()], sequence)? })
    }
}

/// Writes one entry; the padding behind its scales stays as it was.
fn store(format: KvFormat, page: &mut [u8], place: usize, row: &[f32]) {
    let (data, scales) = match format {
        KvFormat::Fp8 { nope, .. } => {
            let (front, back) = row.split_at(nope);
            let (mut data, scales) = row_codes(DType::E4M3, front, KvFormat::FP8_BLOCK);
            data.extend(float_bytes(DType::BF16, back));
            (data, scales)
        }
        KvFormat::Fp4 { .. } => row_codes(DType::E2M1, row, KvFormat::FP4_BLOCK),
        _ => (float_bytes(DType::F32, row), Vec::new()),
    };
    page[format.data_offset(place)..][..data.len()].copy_from_slice(&data);
    page[format.scale_offset(place)..][..scales.len()].copy_from_slice(&scales);
}

/// Lists of `width` entries for rows whose sequences have these stretches: most places name an entry, some are -1, and
/// some lie outside every page table. A row whose sequence does not exist gets a list all the same.
pub(crate) fn lists(random: &mut Random, stretches: &[Stretch], sequence: &[i32], width: usize) -> Vec<i32> {
    let outside = [-1, i32::MAX, i32::MIN, -7];
    let mut all = Vec::with_capacity(sequence.len() * width);
    for &s in sequence {
        let stretch = usize::try_from(s).ok().and_then(|s| stretches.get(s));
        for _ in 0..width {
            all.push(match stretch {
                Some(s) if s.len > 0 && random.uniform() < 0.85 => (s.start + random.below(s.len)) as i32,
                Some(_) => outside[random.below(4)],
                None => random.below(100) as i32,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_late_stretch_takes_only_the_pages_it_needs() {
        let device = anychip_reference::open(1 << 24);
        let mut builder = Builder::new(&*device, "pages", 0).unwrap();
        let stretches =
            [Stretch { start: 100_000, len: 70 }, Stretch { start: 0, len: 0 }, Stretch { start: 0, len: 1 }];
        let format = KvFormat::Fp8 { nope: 64, rope: 16 };
        let paged = builder.paged(format, &stretches, &[0, 2], Family::Normal, 1.0).unwrap();
        assert_eq!(paged.pool.page_count(), 3 + 2);
        assert_eq!(paged.table.sizes(), [3, 100_070usize.div_ceil(64) + 1]);
    }
}

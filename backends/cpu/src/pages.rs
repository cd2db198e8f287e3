//! Entries of a paged KV pool as f32, and rows as entries: the byte layouts of [`KvFormat`].
//!
//! The pages are raw bytes at any alignment, so elements wider than a byte are assembled from little-endian bytes, as
//! the published layouts store them.

use anychip_core::formats::{e2m1, e4m3, round_bf16, scale};
use anychip_core::{KvFormat, Paged, Result, host};
use half::bf16;

/// The operands of a [`Paged`], held for reading.
pub(crate) struct PagedReader<'a> {
    kv: &'a Paged,
    pages: host::Read<'a>,
    table: host::Read<'a>,
    sequence: host::Read<'a>,
}

impl<'a> PagedReader<'a> {
    pub(crate) fn new(kv: &'a Paged) -> Result<PagedReader<'a>> {
        let (pages, table) = (host::read(kv.pool.pages())?, host::read(&kv.table)?);
        Ok(PagedReader { kv, pages, table, sequence: host::read(&kv.sequence)? })
    }

    /// The entries that one row of the operation sees.
    pub(crate) fn row(&self, row: usize) -> RowEntries<'_> {
        RowEntries {
            kv: self.kv,
            pages: self.pages.bytes(),
            table: self.table.as_slice(),
            // The operation has a number for each of its rows; -1 would be a sequence without entries.
            sequence: self.sequence.as_slice().get(row).copied().unwrap_or(-1),
        }
    }
}

/// The entries of one row's sequence.
#[derive(Clone, Copy)]
pub(crate) struct RowEntries<'a> {
    kv: &'a Paged,
    pages: &'a [u8],
    table: &'a [i32],
    sequence: i32,
}

impl<'a> RowEntries<'a> {
    /// Entry `entry`; `None` where the pool has no such entry.
    pub(crate) fn get(&self, entry: i32) -> Option<Entry<'a>> {
        let (page, place) = self.kv.locate(self.table, self.sequence, entry)?;
        let format = self.kv.pool.format();
        let page = &self.pages[page * format.page_bytes()..][..format.page_bytes()];
        let data = &page[format.data_offset(place)..][..format.data_bytes()];
        Some(Entry { format, data, scales: &page[format.scale_offset(place)..][..format.scale_bytes()] })
    }
}

/// The bytes of an entry.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    format: KvFormat,
    data: &'a [u8],
    scales: &'a [u8],
}

impl Entry<'_> {
    /// Number of its elements.
    pub(crate) fn dim(&self) -> usize {
        self.format.dim()
    }

    /// Reads its elements into `out`, which holds as many.
    pub(crate) fn read(&self, out: &mut [f32]) {
        decode(self.format, self.data, self.scales, out);
    }
}

/// The elements of an entry whose bytes are `data` and `scales`.
fn decode(format: KvFormat, data: &[u8], scales: &[u8], out: &mut [f32]) {
    match format {
        KvFormat::F32 { .. } => {
            let (words, _) = data.as_chunks();
            out.iter_mut().zip(words).for_each(|(x, word)| *x = f32::from_le_bytes(*word));
        }
        KvFormat::Fp8 { nope, .. } => {
            let (head, tail) = out.split_at_mut(nope);
            let (codes, rope) = data.split_at(nope);
            let blocks = head.chunks_mut(KvFormat::FP8_BLOCK).zip(codes.chunks(KvFormat::FP8_BLOCK));
            for ((block, codes), &byte) in blocks.zip(scales) {
                let factor = scale::decode(byte);
                block.iter_mut().zip(codes).for_each(|(x, &code)| *x = e4m3::decode(code) * factor);
            }
            let (words, _) = rope.as_chunks();
            tail.iter_mut().zip(words).for_each(|(x, word)| *x = bf16::from_le_bytes(*word).to_f32());
        }
        KvFormat::Fp4 { .. } => {
            let blocks = out.chunks_mut(KvFormat::FP4_BLOCK).zip(data.chunks(KvFormat::FP4_BLOCK / 2));
            for ((block, codes), &byte) in blocks.zip(scales) {
                let factor = scale::decode(byte);
                let (pairs, _) = block.as_chunks_mut();
                pairs
                    .iter_mut()
                    .zip(codes)
                    .for_each(|(pair, &code)| *pair = e2m1::decode_pair(code).map(|x| x * factor));
            }
        }
        // A form that the contract grows before this device does: the device's `supports` refuses it.
        _ => out.fill(f32::NAN),
    }
}

/// The bytes of an entry with the elements `row`, which the packed forms round to bf16 first. Padding becomes zero.
pub(crate) fn encode(format: KvFormat, row: &mut [f32], data: &mut [u8], scales: &mut [u8]) {
    if !matches!(format, KvFormat::F32 { .. }) {
        row.iter_mut().for_each(|x| *x = round_bf16(*x));
    }
    scales.fill(0);
    match format {
        KvFormat::Fp8 { nope, .. } => {
            let (head, tail) = row.split_at(nope);
            let (codes, rope) = data.split_at_mut(nope);
            let blocks = head.chunks(KvFormat::FP8_BLOCK).zip(codes.chunks_mut(KvFormat::FP8_BLOCK));
            for ((block, codes), byte) in blocks.zip(scales) {
                *byte = scale::for_e4m3(scale::amax(block));
                let factor = scale::decode(*byte);
                codes.iter_mut().zip(block).for_each(|(code, x)| *code = quantised(*byte, x / factor, e4m3::encode));
            }
            let (words, _) = rope.as_chunks_mut();
            words.iter_mut().zip(tail).for_each(|(word, x)| *word = bf16::from_f32(*x).to_le_bytes());
        }
        KvFormat::Fp4 { .. } => {
            let blocks = row.chunks(KvFormat::FP4_BLOCK).zip(data.chunks_mut(KvFormat::FP4_BLOCK / 2));
            for ((block, codes), byte) in blocks.zip(scales) {
                *byte = scale::for_e2m1(scale::amax(block));
                let factor = scale::decode(*byte);
                let (pairs, _) = block.as_chunks();
                for (code, [even, odd]) in codes.iter_mut().zip(pairs) {
                    let [even, odd] = [even, odd].map(|x| quantised(*byte, x / factor, e2m1::encode));
                    *code = e2m1::pack(even, odd);
                }
            }
        }
        _ => {
            let (words, _) = data.as_chunks_mut();
            words.iter_mut().zip(row).for_each(|(word, x)| *word = x.to_le_bytes());
        }
    }
}

/// A code of a block whose scale is `byte`. A poisoned block has codes 0: its scale alone says that it is NaN.
fn quantised(byte: u8, x: f32, encode: fn(f32) -> u8) -> u8 {
    if byte == scale::NAN { 0 } else { encode(x) }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, golden, golden_floats, noise};
    use anychip_core::{DType, KvPool, PAGE_ENTRIES};

    /// A pool of f32 entries that a test can look into: whose entries are `noise` scaled by `factor` and rounded.
    pub(crate) struct TestPool {
        pub(crate) kv: Paged,
        table: Vec<i32>,
        width: usize,
        values: Vec<f32>,
    }

    impl TestPool {
        /// Four pages; two sequences of up to 200 entries, the second without a third page; row `t` sees `sequence[t]`.
        pub(crate) fn new(lab: &Lab, dim: usize, sequence: &[i32], value: impl Fn(f32) -> f32) -> TestPool {
            let (table, width) = (vec![3, 0, 1, 7, 2, 1, -1, 0], 4);
            let values: Vec<f32> = noise(5, 4 * PAGE_ENTRIES * dim).into_iter().map(value).collect();
            let format = KvFormat::F32 { dim };
            let pages = lab.bytes(DType::U8, &[4, format.page_bytes()], bytemuck::cast_slice(&values));
            let pool = KvPool::new(format, &pages).unwrap();
            let kv =
                Paged { pool, table: lab.ints(&[2, width], &table), sequence: lab.ints(&[sequence.len()], sequence) };
            TestPool { kv, table, width, values }
        }

        /// What an entry of a sequence holds, `None` where the pool has none.
        pub(crate) fn entry(&self, sequence: i32, entry: i32) -> Option<&[f32]> {
            if entry < 0 || !(0..2).contains(&sequence) || entry as usize / PAGE_ENTRIES >= self.width {
                return None;
            }
            let page = self.table[sequence as usize * self.width + entry as usize / PAGE_ENTRIES];
            let page = usize::try_from(page).ok().filter(|&page| page < 4)?;
            let dim = self.kv.pool.format().dim();
            Some(&self.values[(page * PAGE_ENTRIES + entry as usize % PAGE_ENTRIES) * dim..][..dim])
        }
    }

    #[test]
    fn the_golden_page_reads_as_the_golden_values() {
        let format = KvFormat::Fp8 { nope: 448, rope: 64 };
        let (page, want) = (golden("kv.page64"), golden_floats("kv.dq"));
        for entry in 0..4 {
            let mut got = vec![0.0; 512];
            let data = &page[format.data_offset(entry)..][..format.data_bytes()];
            decode(format, data, &page[format.scale_offset(entry)..][..8], &mut got);
            assert_eq!(got, want[entry * 512..][..512], "entry {entry}");
        }
    }

    #[test]
    fn every_format_survives_the_round_trip() {
        // Short last blocks in both packed forms; values that they represent exactly.
        for format in [KvFormat::F32 { dim: 5 }, KvFormat::Fp8 { nope: 70, rope: 6 }, KvFormat::Fp4 { dim: 48 }] {
            let mut row: Vec<f32> = (0..format.dim()).map(|i| [0.5, -1.5, 3.0, 6.0, -0.0][i % 5]).collect();
            let want = row.clone();
            let (mut data, mut scales) = (vec![0xFF; format.data_bytes()], vec![0xFF; format.scale_bytes()]);
            encode(format, &mut row, &mut data, &mut scales);
            decode(format, &data, &scales, &mut row);
            assert_eq!(row, want, "{format}");
            if let KvFormat::Fp8 { nope, .. } = format {
                assert!(scales[nope.div_ceil(64)..].iter().all(|&byte| byte == 0), "padding is zero");
            }
        }
    }

    #[test]
    fn what_is_not_finite_poisons_its_block_alone() {
        let format = KvFormat::Fp8 { nope: 128, rope: 2 };
        let mut row = vec![1.0; 130];
        row[3] = f32::INFINITY;
        row[129] = f32::NAN;
        let (mut data, mut scales) = (vec![0xFF; format.data_bytes()], vec![0xFF; 8]);
        encode(format, &mut row, &mut data, &mut scales);
        assert_eq!((scales[0], &data[..64]), (scale::NAN, &[0; 64][..]));
        decode(format, &data, &scales, &mut row);
        assert!(row[..64].iter().all(|x| x.is_nan()));
        assert!(row[64..129].iter().all(|&x| x == 1.0) && row[129].is_nan());
    }
}

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
            // A row beyond the list cannot be: -1 is a sequence without entries.
            sequence: self.sequence.as_slice::<i32>().get(row).copied().unwrap_or(-1),
        }
    }
}

/// The entries of one row's sequence.
pub(crate) struct RowEntries<'a> {
    kv: &'a Paged,
    pages: &'a [u8],
    table: &'a [i32],
    sequence: i32,
}

impl RowEntries<'_> {
    /// Whether the pool has this entry.
    pub(crate) fn has(&self, entry: i32) -> bool {
        self.kv.locate(self.table, self.sequence, entry).is_some()
    }

    /// Decodes an entry into `out`, which holds its `dim` elements; `false`, and `out` as it was, where the pool has no
    /// such entry.
    pub(crate) fn decode(&self, entry: i32, out: &mut [f32]) -> bool {
        let Some((page, place)) = self.kv.locate(self.table, self.sequence, entry) else { return false };
        let format = self.kv.pool.format();
        let page = &self.pages[page * format.page_bytes()..][..format.page_bytes()];
        let data = &page[format.data_offset(place)..][..format.data_bytes()];
        let scales = &page[format.scale_offset(place)..][..format.scale_bytes()];
        decode(format, data, scales, out);
        true
    }
}

/// The elements of an entry whose bytes are `data` and `scales`.
pub(crate) fn decode(format: KvFormat, data: &[u8], scales: &[u8], out: &mut [f32]) {
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
                pairs.iter_mut().zip(codes).for_each(|(pair, &code)| *pair = e2m1::decode_pair(code).map(|x| x * factor));
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

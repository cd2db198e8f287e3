//! Paged KV pools: how an entry lies in a page, and how a sequence finds its pages.

use crate::{DType, Invalid, Tensor};
use std::fmt;

/// Entries of a page.
pub const PAGE_ENTRIES: usize = 64;

/// How a KV entry is stored.
///
/// The byte layouts of the packed forms are those of the published serving stacks (FlashMLA "MODEL1", vLLM
/// `fp8_ds_mla`, DeepGEMM's paged indexer cache): all data of a page first, then all its scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvFormat {
    /// `dim` f32 per entry, for exact arithmetic.
    F32 {
        /// Elements of an entry.
        dim: usize,
    },
    /// `nope` e4m3 codes in blocks of 64 with a ue8m0 scale each, then `rope` bf16 elements. With 448 + 64 an entry is
    /// 448 + 128 + 8 = 584 bytes and a page of 64 is 37440.
    Fp8 {
        /// Elements stored as e4m3, from the front.
        nope: usize,
        /// Elements stored as bf16, at the back.
        rope: usize,
    },
    /// `dim` e2m1 codes in blocks of 32 with a ue8m0 scale each: the indexer's keys. With 128 an entry is 68 bytes and a
    /// page of 64 is 4352.
    Fp4 {
        /// Elements of an entry.
        dim: usize,
    },
}

impl KvFormat {
    /// Elements that share a scale in the e4m3 part.
    pub const FP8_BLOCK: usize = 64;
    /// Elements that share a scale in the e2m1 form.
    pub const FP4_BLOCK: usize = 32;

    /// Elements of an entry.
    pub const fn dim(self) -> usize {
        match self {
            KvFormat::F32 { dim } | KvFormat::Fp4 { dim } => dim,
            KvFormat::Fp8 { nope, rope } => nope + rope,
        }
    }

    /// Bytes of an entry's elements.
    pub const fn data_bytes(self) -> usize {
        match self {
            KvFormat::F32 { dim } => dim * 4,
            KvFormat::Fp8 { nope, rope } => nope + 2 * rope,
            KvFormat::Fp4 { dim } => dim / 2,
        }
    }

    /// Bytes of an entry's scales; the e4m3 form pads them to a multiple of 8.
    pub const fn scale_bytes(self) -> usize {
        match self {
            KvFormat::F32 { .. } => 0,
            KvFormat::Fp8 { nope, .. } => nope.div_ceil(Self::FP8_BLOCK).next_multiple_of(8),
            KvFormat::Fp4 { dim } => dim.div_ceil(Self::FP4_BLOCK),
        }
    }

    /// Bytes of an entry, page padding left out.
    pub const fn entry_bytes(self) -> usize {
        self.data_bytes() + self.scale_bytes()
    }

    /// Bytes of a page; the e4m3 form pads it to a multiple of its data bytes.
    pub const fn page_bytes(self) -> usize {
        let bytes = PAGE_ENTRIES * self.entry_bytes();
        match self {
            KvFormat::Fp8 { .. } => bytes.next_multiple_of(self.data_bytes()),
            _ => bytes,
        }
    }

    /// First byte of an entry's elements within its page; `entry` counts within the page.
    pub const fn data_offset(self, entry: usize) -> usize {
        entry * self.data_bytes()
    }

    /// First byte of an entry's scales within its page.
    pub const fn scale_offset(self, entry: usize) -> usize {
        PAGE_ENTRIES * self.data_bytes() + entry * self.scale_bytes()
    }
}

impl fmt::Display for KvFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvFormat::F32 { dim } => write!(f, "f32x{dim}"),
            KvFormat::Fp8 { nope, rope } => write!(f, "fp8x{nope}+bf16x{rope}"),
            KvFormat::Fp4 { dim } => write!(f, "fp4x{dim}"),
        }
    }
}

/// Elements of an entry at most: sizes in bytes stay far from overflow.
const MAX_ELEMENTS: usize = 1 << 20;

fn most_elements(format: KvFormat) -> usize {
    match format {
        KvFormat::F32 { dim } | KvFormat::Fp4 { dim } => dim,
        KvFormat::Fp8 { nope, rope } => nope.max(rope),
    }
}

/// Pages of KV entries in device memory.
#[derive(Clone, Debug)]
pub struct KvPool {
    format: KvFormat,
    pub(crate) pages: Tensor,
}

impl KvPool {
    /// Bytes whose multiples a pool begins at. Its pages follow one another without gaps, so that a page begins wherever
    /// the page size says: 37440 bytes are 64 times 585.
    pub const ALIGNMENT: u64 = 64;

    /// A pool over `pages`, raw bytes of shape `[pages, format.page_bytes()]`.
    ///
    /// # Errors
    /// [`Invalid::WrongDType`] unless u8, [`Invalid::WrongShape`] for another page size, [`Invalid::Misaligned`] unless
    /// the first page begins at a multiple of 64, [`Invalid::OutOfRange`] for an empty entry, an odd number of FP4 or e4m3
    /// elements, more than 2^20 elements, or more pages than an i32 slot number can reach.
    pub fn new(format: KvFormat, pages: &Tensor) -> Result<KvPool, Invalid> {
        if pages.dtype() != DType::U8 {
            let allowed = "u8".into();
            return Err(Invalid::WrongDType { op: "kv pool", operand: "pages", allowed, got: pages.dtype() });
        }
        let out_of_range = |parameter, rule: &str, got: usize| {
            Err(Invalid::OutOfRange { op: "kv pool", parameter, rule: rule.into(), got: got.to_string() })
        };
        match format {
            KvFormat::Fp4 { dim } if !dim.is_multiple_of(2) => return out_of_range("fp4 elements", "even", dim),
            KvFormat::Fp8 { nope, .. } if !nope.is_multiple_of(2) => {
                return out_of_range("e4m3 elements", "even", nope);
            }
            _ if most_elements(format) > MAX_ELEMENTS => {
                return out_of_range("elements of an entry", &format!("at most {MAX_ELEMENTS}"), most_elements(format));
            }
            _ if format.dim() == 0 => return out_of_range("elements of an entry", "at least 1", 0),
            _ => {}
        }
        if pages.sizes().len() != 2 || pages.size(1) != format.page_bytes() {
            return Err(Invalid::WrongShape {
                op: "kv pool",
                operand: "pages",
                want: format!("[pages, {}] for {format}", format.page_bytes()),
                got: format!("{:?}", pages.sizes()),
            });
        }
        if !pages.offset().is_multiple_of(Self::ALIGNMENT) {
            return Err(Invalid::Misaligned { dtype: DType::U8, offset: pages.offset(), align: Self::ALIGNMENT });
        }
        let most = i32::MAX as usize / PAGE_ENTRIES;
        if pages.size(0) > most {
            return out_of_range("pages", &format!("at most {most}"), pages.size(0));
        }
        Ok(KvPool { format, pages: pages.clone() })
    }

    /// Entry format.
    pub fn format(&self) -> KvFormat {
        self.format
    }

    /// The pages, `[pages, page_bytes]` of u8.
    pub fn pages(&self) -> &Tensor {
        &self.pages
    }

    /// Number of pages.
    pub fn page_count(&self) -> usize {
        self.pages.size(0)
    }
}

/// A pool as the rows of an operation see it: row `t` belongs to sequence `sequence[t]`, whose entry `e` lies in page
/// `table[sequence[t], e / 64]` at place `e % 64`.
///
/// What only the device can see has defined behaviour: a negative entry, an entry past the table, a page outside the
/// pool or a sequence outside the table contributes nothing and is written nowhere.
#[derive(Clone, Debug)]
pub struct Paged {
    /// The pages.
    pub pool: KvPool,
    /// i32 `[sequences, pages of a sequence]`, page numbers, -1 for none.
    pub table: Tensor,
    /// i32 `[rows]`.
    pub sequence: Tensor,
}

impl Paged {
    pub(crate) fn check(&self, op: &'static str, rows: usize) -> Result<(), Invalid> {
        let check = crate::ops::Check(op);
        check.dtype("page table", &self.table, &[DType::I32])?;
        check.rank("page table", &self.table, 2, "[sequences, pages]")?;
        check.dtype("sequence numbers", &self.sequence, &[DType::I32])?;
        check.shape("sequence numbers", &self.sequence, &[rows], "[rows]")
    }

    /// Where entry `entry` of sequence `sequence` lies, as page and place; `None` where it contributes nothing.
    /// `table` holds this operand's page table.
    pub fn locate(&self, table: &[i32], sequence: i32, entry: i32) -> Option<(usize, usize)> {
        let (sequence, entry) = (usize::try_from(sequence).ok()?, usize::try_from(entry).ok()?);
        let (sequences, width) = (self.table.size(0), self.table.size(1));
        if sequence >= sequences || entry / PAGE_ENTRIES >= width {
            return None;
        }
        let page = usize::try_from(*table.get(sequence * width + entry / PAGE_ENTRIES)?).ok()?;
        (page < self.pool.page_count()).then_some((page, entry % PAGE_ENTRIES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_page_sizes() {
        let kv = KvFormat::Fp8 { nope: 448, rope: 64 };
        assert_eq!((kv.entry_bytes(), kv.page_bytes(), kv.scale_offset(0)), (584, 37440, 36864));
        let indexer = KvFormat::Fp4 { dim: 128 };
        assert_eq!((indexer.entry_bytes(), indexer.page_bytes(), indexer.scale_offset(1)), (68, 4352, 4100));
    }

    #[test]
    fn short_last_blocks_have_a_scale_of_their_own() {
        assert_eq!(KvFormat::Fp8 { nope: 24, rope: 8 }.scale_bytes(), 8);
        assert_eq!(KvFormat::Fp4 { dim: 16 }.scale_bytes(), 1);
        assert_eq!(KvFormat::Fp4 { dim: 48 }.entry_bytes(), 26);
    }
}

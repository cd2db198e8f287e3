//! Keys in paged pools: where the entries of a list lie, and how they become rows that the cube takes.

mod keys;
mod resolve;
mod unpack;

pub(super) use keys::{Feeding, Keys};
pub(super) use resolve::{Lists, resolve};
pub(super) use unpack::{Room, Unpacker};

use crate::isa::{Elem, Global};
use crate::sim::Gm;
use anychip_core::host::{Read, read};
use anychip_core::{KvFormat, PAGE_ENTRIES, Paged, Result, Support, Tensor};

/// Operands of a scope, as they lie in memory.
pub(super) struct Operands<'t> {
    pages: Read<'t>,
    table: Read<'t>,
    sequence: Read<'t>,
    entries: Option<Read<'t>>,
}

impl<'t> Operands<'t> {
    pub(super) fn of(kv: &'t Paged, entries: Option<&'t Tensor>) -> Result<Operands<'t>> {
        Ok(Operands {
            pages: read(kv.pool.pages())?,
            table: read(&kv.table)?,
            sequence: read(&kv.sequence)?,
            entries: entries.map(read).transpose()?,
        })
    }
}

/// A pool, and the lists into it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) format: KvFormat,
    /// The pool, its bytes and its pages.
    pub(super) pool: (u16, u64, u64),
    /// Page numbers, a row a sequence.
    pub(super) table: Global,
    /// A sequence number a row.
    pub(super) sequence: u16,
    /// Entry numbers, a list a row; without them the entries from the first on.
    pub(super) entries: Option<u16>,
    /// Places of a list.
    pub(super) places: u32,
    /// Places before them in the list that all scopes have in common.
    pub(super) start: u32,
}

/// Rows of bytes of a pool, of which each entry has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// All of them.
    pub(super) rows: Global,
    /// Rows from page to page, and from entry to entry.
    pub(super) per_page: i32,
    pub(super) per_entry: i32,
}

impl Places {
    /// Rows of adjacent entries of a page.
    pub(super) fn of_page(&self, page: u64, first: u32, count: u32) -> Global {
        let row = page * self.per_page as u64 + u64::from(first) * self.per_entry as u64;
        let pitch = self.rows.pitch * self.per_entry as u64;
        self.rows.part(row, count, 0, self.rows.cols).pitched(pitch)
    }
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Rows from page to page and entry to entry, and the bytes of one, for `bytes` of each entry.
fn distances(format: KvFormat, bytes: usize) -> (usize, usize, usize) {
    let row = divisor(format.page_bytes(), bytes).max(1);
    (format.page_bytes() / row, bytes / row, row)
}

/// Whether the pool's rows can be counted in the integers that a list has.
pub(super) fn supported(kv: &Paged) -> Support {
    let format = kv.pool.format();
    let most = [format.data_bytes(), format.scale_bytes()].into_iter().filter(|&bytes| bytes > 0);
    let rows = most.map(|bytes| distances(format, bytes).0.saturating_mul(kv.pool.page_count())).max().unwrap_or(0);
    if rows <= i32::MAX as usize {
        return Support::Native;
    }
    let limit = format!("{} pages of {format}", i32::MAX as usize / (rows / kv.pool.page_count().max(1)).max(1));
    Support::unsupported("pool", limit, kv.pool.page_count().to_string())
}

/// Whether what lies behind the codes of an entry begins with a fractal.
pub(super) fn part_fits(format: KvFormat, elem: Elem) -> bool {
    match format {
        KvFormat::Fp8 { nope, rope } => rope == 0 || nope.is_multiple_of(elem.c0()),
        _ => true,
    }
}

impl Scope {
    pub(super) fn new<'a>(gm: &mut Gm<'a>, kv: &Paged, operands: &'a Operands<'_>, places: u32, start: u32) -> Scope {
        let pages = operands.pages.bytes();
        let [sequences, width] = [kv.table.size(0), kv.table.size(1)];
        Scope {
            format: kv.pool.format(),
            pool: (gm.input("pool", pages), pages.len() as u64, kv.pool.page_count() as u64),
            table: Global::new(
                gm.input("page table", operands.table.bytes()),
                0,
                Elem::I32,
                sequences as u32,
                width as u32,
            ),
            sequence: gm.input("sequence numbers", operands.sequence.bytes()),
            entries: operands.entries.as_ref().map(|entries| gm.input("entries", entries.bytes())),
            places,
            start,
        }
    }

    /// Bytes `from..from + len` of each entry's elements.
    pub(super) fn data(&self, from: usize, len: usize) -> Places {
        self.rows(from, len, self.format.data_bytes())
    }

    /// Each entry's scales, if the format has some.
    pub(super) fn scales(&self) -> Option<Places> {
        let bytes = self.format.scale_bytes();
        (bytes > 0).then(|| self.rows(self.format.scale_offset(0), bytes, bytes))
    }

    fn rows(&self, from: usize, len: usize, entry: usize) -> Places {
        let (region, bytes, _) = self.pool;
        let (per_page, per_entry, pitch) = distances(self.format, entry);
        let room = bytes.checked_sub((from + len) as u64);
        let rows = room.map_or(0, |room| room / pitch as u64 + 1);
        let rows = Global::new(region, from as u64, Elem::U8, rows.min(u32::MAX.into()) as u32, len as u32);
        Places { rows: rows.pitched(pitch as u64), per_page: per_page as i32, per_entry: per_entry as i32 }
    }
}

/// Entries of a page, as a shift and a mask.
const PAGE_SHIFT: i32 = PAGE_ENTRIES.trailing_zeros() as i32;
const PAGE_MASK: i32 = PAGE_ENTRIES as i32 - 1;

//! Transfers: the same elements, in another place and layout.

use super::{Executor, turned};
use crate::isa::{Blocks, Body, Elem, Global, Place, Tile, Unit};
use crate::layout::Layout;
use crate::sim::hazard::Code;
use crate::sim::memory::Memory;

/// Bytes of a word of the mailbox.
const WORD: usize = 4;

impl Executor<'_, '_> {
    pub(super) fn transfer(&mut self, unit: Unit, body: &Body) {
        match body {
            Body::LoadUb(from, to) => {
                let bytes = self.gather_gm(from);
                self.scatter(unit, to, &bytes, false);
            }
            Body::LoadNd2Nz(from, to) => {
                let bytes = self.gather_gm(from);
                self.scatter_padded(unit, to, &bytes);
            }
            Body::LoadNz(from, to) => {
                let bytes = self.gather_gm(from);
                // Each column of fractals is what a row of the transpose's pieces is.
                let piece = to.elem.bytes(to.elem.c0());
                let bytes = fractals(&bytes, from.rows as usize, piece * to.rows as usize, piece);
                self.scatter(unit, to, &bytes, true);
            }
            Body::LoadL0Gm(from, to) => {
                let bytes = self.gather_gm(from);
                // Fractals lie there as they do here.
                let piece = Tile::dense(to.space, to.at, Elem::U8, 1, bytes.len() as u32);
                self.scatter(unit, &piece, &bytes, false);
            }
            Body::LoadNdDma(from, step, to) => self.load_strided(unit, from, *step, to),
            Body::GatherRows { from, index, to } | Body::SimtGather { from, index, to } => {
                self.gather_rows(unit, from, index, to);
            }
            // The tile says in which fractals they lie.
            Body::LoadScale(from, to) => {
                let bytes = self.gather_gm(from);
                self.scatter(unit, to, &bytes, false);
            }
            Body::LoadL0a(from, to, turn) | Body::LoadL0b(from, to, turn) => {
                let fractals = turned(to);
                // Fractals of a transpose lie in ZN as they do in NZ.
                if *turn == (to.layout == Layout::Zn) {
                    let bytes = self.gather(unit, from, true);
                    self.scatter(unit, &fractals, &bytes, true);
                } else {
                    let bytes = self.gather(unit, from, false);
                    let bytes = transposed(from.elem, &bytes, from.rows as usize, from.cols as usize);
                    self.scatter_padded(unit, &fractals, &bytes);
                }
            }
            Body::LoadL0aMx(from, to) | Body::LoadL0bMx(from, to) | Body::LoadBt(from, to) | Body::LoadFb(from, to) => {
                let bytes = self.gather(unit, from, false);
                self.scatter(unit, to, &bytes, false);
            }
            Body::LoadL1Ub(from, to, half) => {
                let bytes = self.gather(unit, from, false);
                self.scatter(Unit::vector(usize::from(*half)), to, &bytes, false);
            }
            Body::StoreL1(from, to) => {
                let bytes = self.gather(unit, from, false);
                self.scatter_padded(unit, to, &bytes);
            }
            Body::FillL1(to, bits) | Body::ScalarStoreUb(to, bits) | Body::MailboxStore(to, bits) => {
                let size = to.elem.bits().div_ceil(8);
                let bytes: Vec<u8> =
                    bits.to_le_bytes().iter().take(size).copied().cycle().take(size * to.count()).collect();
                self.scatter_padded(unit, to, &bytes);
            }
            Body::StoreGm(from, to, atomic) => {
                let bytes = self.gather(unit, from, false);
                self.scatter_gm(to, bytes, *atomic);
            }
            Body::StoreL1Gm(from, to) => {
                let bytes = self.gather(unit, from, false);
                self.scatter_gm(to, bytes, false);
            }
            Body::ScalarLoad(from, bits) => {
                let bytes = self.gather_gm(from);
                if bytes != bits.to_le_bytes()[..bytes.len().min(4)] {
                    self.changed(Place::Gm(from.region), from.blocks());
                }
            }
            Body::ScalarLoadUb(from, bits) => {
                let bytes = self.gather(unit, from, false);
                if !bits.is_empty() && !bytes.chunks(4).eq(bits.iter().map(|bits| bits.to_le_bytes())) {
                    self.changed(Place::Local(from.space, unit), from.blocks());
                }
            }
            Body::MailboxLoad(from, bits) => {
                let place = Place::Local(from.space, Unit::Aic);
                let held = |memory: &Memory| memory.undefined(from.at as usize, WORD).is_none();
                let defined = self.memories.get(place).is_some_and(held);
                let bytes = self.gather(unit, from, false);
                // A word that nobody wrote is an error of its own.
                if defined && bytes != bits.to_le_bytes() {
                    let there = Elem::I32.integer(&bytes, 0) as u32;
                    let detail = format!("the kernel goes by {bits:#x}; {there:#x} is there");
                    self.hazard(Code::StaleScalar, place, from.blocks(), detail);
                }
            }
            Body::ScalarStore(to, bits) => self.scatter_gm(to, bits.to_le_bytes().to_vec(), false),
            _ => {}
        }
    }

    fn changed(&mut self, place: Place, blocks: Blocks) {
        let detail = "the kernel went by what was there before the launch, which has changed it".into();
        self.hazard(Code::StaleScalar, place, blocks, detail);
    }

    /// Puts rows without gaps into fractals, with zeros in the columns that are no part of the matrix.
    pub(super) fn scatter_padded(&mut self, unit: Unit, to: &Tile, bytes: &[u8]) {
        let (width, _) = super::widths(to, false);
        let (whole, _) = super::widths(to, true);
        if width == whole {
            return self.scatter(unit, to, bytes, false);
        }
        let mut rows = vec![0; whole * to.rows as usize];
        for (row, bytes) in rows.chunks_mut(whole).zip(bytes.chunks(width)) {
            row[..width].copy_from_slice(bytes);
        }
        self.scatter(unit, to, &rows, true);
    }

    fn load_strided(&mut self, unit: Unit, from: &Global, step: u64, to: &Tile) {
        let size = from.elem.bits().div_ceil(8);
        let mut bytes = Vec::with_capacity(size * to.count());
        for row in 0..u64::from(from.rows) {
            for col in 0..u64::from(from.cols) {
                let at = from.at + row * from.pitch + col * step;
                bytes.extend(self.gather_gm(&Global { at, rows: 1, cols: 1, ..*from }));
            }
        }
        self.scatter(unit, to, &bytes, false);
    }

    fn gather_rows(&mut self, unit: Unit, from: &Global, index: &Tile, to: &Tile) {
        let list = self.gather(unit, index, false);
        let mut bytes = Vec::with_capacity(to.elem.bytes(to.cols as usize) * to.rows as usize);
        for row in 0..to.rows as usize {
            let wanted = Elem::I32.integer(&list, row);
            match u32::try_from(wanted) {
                Ok(row) if row < from.rows => bytes.extend(self.gather_gm(&from.part(row.into(), 1, 0, from.cols))),
                _ => bytes.resize(bytes.len() + from.elem.bytes(from.cols as usize), 0),
            }
        }
        self.scatter(unit, to, &bytes, false);
    }
}

/// Rows of `width` bytes as columns of pieces: the first piece of every row, then the second of every row, and so on.
pub(super) fn fractals(bytes: &[u8], rows: usize, width: usize, piece: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for done in (0..width).step_by(piece.max(1)) {
        for row in 0..rows {
            out.extend_from_slice(&bytes[row * width + done..][..piece.min(width - done)]);
        }
    }
    out
}

/// Rows to columns, of elements of whole bytes.
pub(super) fn transposed(elem: Elem, bytes: &[u8], rows: usize, cols: usize) -> Vec<u8> {
    let size = elem.bits().div_ceil(8);
    let mut out = Vec::with_capacity(bytes.len());
    for col in 0..cols {
        for row in 0..rows {
            out.extend_from_slice(&bytes[(row * cols + col) * size..][..size]);
        }
    }
    out
}

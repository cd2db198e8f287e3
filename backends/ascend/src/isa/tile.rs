//! Operands of instructions: matrices in a core's own memories, and in global memory.

use super::{Elem, MX_GROUP};
use crate::layout::{FRACTAL_ROWS, Layout};
use crate::machine::Space;

/// Columns of a fractal of MX scales.
const SCALE_COLS: u32 = 2;
/// Bytes of L0A or L0B that have a byte for scales beside them.
const MX_SHARE: u32 = 16;

/// Rows of bytes at equal distances: what an operand occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// First byte.
    pub at: u64,
    /// Bytes of a row.
    pub len: u64,
    /// Rows.
    pub count: u64,
    /// Bytes from row to row.
    pub pitch: u64,
}

impl Blocks {
    /// One piece where rows follow one another without gaps; one row where all of them are the same.
    pub(crate) fn new(at: u64, len: u64, count: u64, pitch: u64) -> Blocks {
        if count == 0 || len == 0 {
            return Blocks { at, len: 0, count: 0, pitch: 0 };
        }
        if count == 1 || pitch == 0 {
            Blocks { at, len, count: 1, pitch: 0 }
        } else if pitch == len {
            Blocks { at, len: len.saturating_mul(count), count: 1, pitch: 0 }
        } else {
            Blocks { at, len, count, pitch }
        }
    }

    /// Byte behind the last. What reaches beyond the last address ends there.
    pub fn end(&self) -> u64 {
        if self.count == 0 { self.at } else { self.start(self.count - 1).saturating_add(self.len) }
    }

    fn start(&self, row: u64) -> u64 {
        self.at.saturating_add(row.saturating_mul(self.pitch))
    }

    /// Bytes without the gaps.
    pub fn bytes(&self) -> u64 {
        self.len.saturating_mul(self.count)
    }

    /// First byte of each row.
    pub fn starts(&self) -> impl Iterator<Item = u64> + use<> {
        let all = *self;
        (0..all.count).map(move |row| all.start(row))
    }

    /// Whether both have a byte in common.
    pub fn overlaps(&self, other: &Blocks) -> bool {
        if self.count == 0 || other.count == 0 || self.end() <= other.at || other.end() <= self.at {
            return false;
        }
        match (self.count, other.count) {
            (1, 1) => true,
            (1, _) => other.meets(self.at, self.end()),
            (_, 1) => self.meets(other.at, other.end()),
            _ if self.count <= other.count => self.starts().any(|at| other.meets(at, at.saturating_add(self.len))),
            _ => other.starts().any(|at| self.meets(at, at.saturating_add(other.len))),
        }
    }

    /// Whether a row has a byte of `from..to`.
    fn meets(&self, from: u64, to: u64) -> bool {
        if self.count == 0 || to <= self.at || from >= self.end() {
            return false;
        }
        if self.count == 1 {
            return true;
        }
        // The first row that ends behind `from` begins before `to`, or none does.
        let row = from.saturating_add(1).saturating_sub(self.at.saturating_add(self.len)).div_ceil(self.pitch.max(1));
        row < self.count && self.start(row) < to
    }

    /// Whether each byte of `other` is one of these.
    pub fn covers(&self, other: &Blocks) -> bool {
        self == other || (self.count == 1 && self.at <= other.at && other.end() <= self.end())
    }
}

/// A matrix in a memory of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The memory.
    pub space: Space,
    /// First byte.
    pub at: u32,
    /// What its elements are.
    pub elem: Elem,
    /// How they lie.
    pub layout: Layout,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Elements from row to row in ND; in NZ and ZN from one column of fractals to the next, in ZZ from one row of fractals
    /// to the next, both in elements over 16 rows or one `C0`: see [`Tile::fractals`].
    pub pitch: u32,
}

/// A size with what is missing to the next multiple. One that is beyond all memories stays so.
fn whole(size: u32, unit: u32) -> u32 {
    size.checked_next_multiple_of(unit).unwrap_or(u32::MAX)
}

impl Tile {
    /// A matrix row by row, each row beginning at a multiple of 32 bytes.
    pub fn rows_of(space: Space, at: u32, elem: Elem, rows: u32, cols: u32) -> Tile {
        let pitch = if rows > 1 && cols > 1 { whole(cols, elem.c0() as u32) } else { cols };
        Tile { space, at, elem, layout: Layout::Nd, rows, cols, pitch }
    }

    /// A matrix row by row without gaps.
    pub fn dense(space: Space, at: u32, elem: Elem, rows: u32, cols: u32) -> Tile {
        Tile { space, at, elem, layout: Layout::Nd, rows, cols, pitch: cols }
    }

    /// A word of the mailbox.
    pub fn word(at: u32) -> Tile {
        Tile::dense(Space::Mailbox, at, Elem::I32, 1, 1)
    }

    /// A matrix of whole fractals.
    pub fn fractals(space: Space, at: u32, elem: Elem, layout: Layout, rows: u32, cols: u32) -> Tile {
        let (height, c0) = (FRACTAL_ROWS as u32, elem.c0() as u32);
        let pitch = match layout {
            Layout::Nd => cols,
            Layout::Nz => whole(rows, height).saturating_mul(c0),
            Layout::Zz => whole(cols, c0).saturating_mul(height),
            Layout::Zn => whole(cols, height).saturating_mul(c0),
        };
        Tile { space, at, elem, layout, rows, cols, pitch }
    }

    /// Sums of the cube, whose fractals are 16 x 16 whatever their type.
    pub fn sums(at: u32, elem: Elem, rows: u32, cols: u32) -> Tile {
        let pitch = whole(rows, FRACTAL_ROWS as u32).saturating_mul(FRACTAL_ROWS as u32);
        Tile { space: Space::L0c, at, elem, layout: Layout::Nz, rows, cols, pitch }
    }

    /// MX scales of `rows x 32 cols` elements in L1, in fractals of 16 x 2.
    pub fn scales(at: u32, rows: u32, cols: u32) -> Tile {
        let pitch = whole(cols, SCALE_COLS).saturating_mul(FRACTAL_ROWS as u32);
        Tile { space: Space::L1, at, elem: Elem::E8M0, layout: Layout::Zz, rows, cols, pitch }
    }

    /// Where the MX scales of these codes lie, which are in L0A or L0B: at a sixteenth of the place of each fractal. Of 64
    /// elements they lie beside the first fractal.
    pub fn scales_beside(&self) -> Tile {
        let (space, rows, depth) = match self.space {
            Space::L0a => (Space::L0aMx, self.rows, self.cols),
            _ => (Space::L0bMx, self.cols, self.rows),
        };
        let group = SCALE_COLS * MX_GROUP;
        let pitch =
            self.elem.bytes((group / self.c0().clamp(1, group)).saturating_mul(self.pitch) as usize) as u32 / MX_SHARE;
        Tile {
            space,
            at: self.at / MX_SHARE,
            elem: Elem::E8M0,
            layout: Layout::Nz,
            rows,
            cols: depth / MX_GROUP,
            pitch,
        }
    }

    /// Columns of a fractal (rows of one in ZN).
    pub(crate) fn c0(&self) -> u32 {
        match (self.space, self.elem) {
            (Space::L0c, _) => FRACTAL_ROWS as u32,
            (_, Elem::E8M0) => SCALE_COLS,
            _ => self.elem.c0() as u32,
        }
    }

    /// A part, which begins where fractals do.
    pub fn part(self, row: u32, rows: u32, col: u32, cols: u32) -> Tile {
        let from = self.elem.bytes(self.place(row as usize, col as usize));
        let at = self.at.saturating_add(u32::try_from(from).unwrap_or(u32::MAX));
        Tile { at, rows, cols, ..self }
    }

    /// Some of its rows.
    pub fn row_range(self, row: u32, rows: u32) -> Tile {
        self.part(row, rows, 0, self.cols)
    }

    /// Some of its columns.
    pub fn col_range(self, col: u32, cols: u32) -> Tile {
        self.part(0, self.rows, col, cols)
    }

    /// The same bytes as elements of another type and as many.
    pub fn of(self, elem: Elem) -> Tile {
        Tile { elem, ..self }
    }

    /// Elements, without gaps and padding.
    pub fn count(&self) -> usize {
        self.rows as usize * self.cols as usize
    }

    /// Where element (`row`, `col`) lies, counted in elements from the tile's first byte.
    pub fn place(&self, row: usize, col: usize) -> usize {
        let (pitch, c0) = (self.pitch as usize, self.c0() as usize);
        match self.layout {
            Layout::Nd => row * pitch + col,
            Layout::Nz => col / c0 * pitch + row * c0 + col % c0,
            Layout::Zz => {
                let fractal = row / FRACTAL_ROWS * pitch + col / c0 * FRACTAL_ROWS * c0;
                fractal + row % FRACTAL_ROWS * c0 + col % c0
            }
            Layout::Zn => row / c0 * pitch + col * c0 + row % c0,
        }
    }

    /// The bytes that it occupies. Of its last fractals that is the padding of their shorter side (columns in NZ and ZZ, rows in
    /// ZN), which instructions read and write with the rest; of the longer side, 16 rows or columns, only ZZ counts it, whose
    /// fractals follow one another in the same row.
    pub fn blocks(&self) -> Blocks {
        let bits = self.elem.bits() as u64;
        let bytes = |elements: u64| (elements * bits).div_ceil(8);
        let (rows, cols, pitch, c0) =
            (u64::from(self.rows), u64::from(self.cols), u64::from(self.pitch), u64::from(self.c0()));
        let height = FRACTAL_ROWS as u64;
        let (len, count) = match self.layout {
            Layout::Nd => (cols, rows),
            Layout::Nz => (rows * c0, cols.div_ceil(c0)),
            Layout::Zz => (cols.next_multiple_of(c0) * height, rows.div_ceil(height)),
            Layout::Zn => (cols * c0, rows.div_ceil(c0)),
        };
        Blocks::new(u64::from(self.at), bytes(len), count, bytes(pitch))
    }

    /// Byte behind its last.
    pub fn end(&self) -> u64 {
        self.blocks().end()
    }
}

/// A matrix in global memory, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Global {
    /// Which operand of the launch.
    pub region: u16,
    /// First byte.
    pub at: u64,
    /// What its elements are.
    pub elem: Elem,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Bytes from row to row.
    pub pitch: u64,
}

impl Global {
    /// A matrix without gaps.
    pub fn new(region: u16, at: u64, elem: Elem, rows: u32, cols: u32) -> Global {
        Global { region, at, elem, rows, cols, pitch: elem.bytes(cols as usize) as u64 }
    }

    /// A matrix of `rows x cols` that lies in fractals of 16 rows of 32 bytes, column by column of fractals. Each of these is a
    /// row here, of `rows` times 32 bytes: what fills up the last fractals to 16 rows is not there.
    pub fn fractals(region: u16, at: u64, elem: Elem, rows: u32, cols: u32) -> Global {
        let c0 = elem.c0() as u32;
        Global::new(region, at, elem, cols.div_ceil(c0), rows.saturating_mul(c0))
    }

    /// The same rows at another distance, in bytes.
    pub fn pitched(self, pitch: u64) -> Global {
        Global { pitch, ..self }
    }

    /// A part; packed elements are taken two at a time.
    pub fn part(self, row: u64, rows: u32, col: u32, cols: u32) -> Global {
        let at =
            self.at.saturating_add(row.saturating_mul(self.pitch)).saturating_add(self.elem.bytes(col as usize) as u64);
        Global { at, rows, cols, ..self }
    }

    /// The bytes that it occupies.
    pub fn blocks(&self) -> Blocks {
        let len = self.elem.bytes(self.cols as usize) as u64;
        Blocks::new(self.at, len, u64::from(self.rows), self.pitch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Tiled;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn overlaps_are_those_of_the_bytes(a in blocks(), b in blocks()) {
            let bytes = |blocks: &Blocks| -> std::collections::BTreeSet<u64> {
                blocks.starts().flat_map(|at| at..at + blocks.len).collect()
            };
            let common = bytes(&a).intersection(&bytes(&b)).next().is_some();
            prop_assert_eq!(a.overlaps(&b), common, "{:?} {:?}", a, b);
            prop_assert!(!a.covers(&b) || bytes(&b).is_subset(&bytes(&a)));
        }

        /// A whole tile lies as its layout says, and a part of one where the whole has it.
        #[test]
        fn tiles_lie_as_their_layouts_say(rows in 1u32..50, cols in 1u32..70, kind in 0usize..4) {
            let layout = [Layout::Nd, Layout::Nz, Layout::Zz, Layout::Zn][kind];
            let tile = Tile::fractals(Space::L1, 64, Elem::F16, layout, rows, cols);
            let tiled = Tiled { layout, rows: rows as usize, cols: cols as usize, c0: 16 };
            let (row, col) = (rows / 32 * 16, cols / 32 * 16);
            let part = tile.part(row, rows - row, col, cols - col);
            for r in 0..rows as usize {
                for c in 0..cols as usize {
                    prop_assert_eq!(tile.place(r, c), tiled.place(r, c));
                    if r >= row as usize && c >= col as usize {
                        let inside = (part.at as usize - 64) / 2 + part.place(r - row as usize, c - col as usize);
                        prop_assert_eq!(inside, tiled.place(r, c));
                        prop_assert!((inside * 2 + 64) < part.end() as usize);
                    }
                }
            }
        }
    }

    /// Rows at the same place are one; a matrix beyond all addresses ends with them.
    #[test]
    fn rows_have_a_distance_and_an_end() {
        let same = Global::new(0, 64, Elem::F32, 8, 16).pitched(0).blocks();
        assert_eq!(same, Blocks { at: 64, len: 64, count: 1, pitch: 0 });
        let tile = Tile { pitch: 0, ..Tile::dense(Space::Ub, 0, Elem::F32, 8, 16) }.blocks();
        assert!(tile.count == 1 && tile.overlaps(&Blocks::new(32, 8, 4, 64)));
        let far = Global::new(0, u64::MAX - 8, Elem::F32, u32::MAX, u32::MAX).blocks();
        assert!(far.end() == u64::MAX && far.overlaps(&Blocks::new(u64::MAX - 1, 1, 1, 0)));
        assert_eq!(Global::new(0, 64, Elem::F32, 3, 3).pitched(u64::MAX).part(2, 1, 0, 1).at, u64::MAX);
        let large = Tile::fractals(Space::L1, 0, Elem::E4M3, Layout::Nz, u32::MAX, u32::MAX);
        assert!(large.part(1 << 31, 1, 0, 1).at == u32::MAX && large.end() > 1 << 32);
    }

    fn blocks() -> impl Strategy<Value = Blocks> {
        (0u64..40, 1u64..9, 0u64..6, 0u64..9).prop_map(|(at, len, count, gap)| Blocks::new(at, len, count, len + gap))
    }
}

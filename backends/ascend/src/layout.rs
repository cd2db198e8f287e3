//! Where the elements of a matrix lie in the chip's memories.
//!
//! The cube takes fractals: 16 rows of 32 bytes, 512 bytes in one piece. Layouts differ in how fractals follow one another
//! and how elements lie in each. The same bytes mean another matrix in another layout, so a tile says which it has.

use serde::Deserialize;

/// Rows of a fractal.
pub const FRACTAL_ROWS: usize = 16;

/// How a matrix lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Layout {
    /// Row by row.
    Nd,
    /// Fractals column by column, each row by row: what L1 and L0C hold, and L0A of the 950.
    Nz,
    /// Fractals row by row, each row by row: L0A of the 910B.
    Zz,
    /// Fractals row by row, each column by column: the NZ of the transpose, what L0B holds.
    Zn,
}

/// A matrix in a layout. Whole fractals are stored: what lies past its edges is padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiled {
    /// The layout.
    pub layout: Layout,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements of 32 bytes: 8 of 32 bits, 16, 32, or 64 of 4 bits.
    pub c0: usize,
}

impl Tiled {
    /// Elements that it takes, padding and all.
    pub fn elements(&self) -> usize {
        let Tiled { layout, rows, cols, c0 } = *self;
        match layout {
            Layout::Nd => rows * cols,
            Layout::Nz | Layout::Zz => rows.next_multiple_of(FRACTAL_ROWS) * cols.next_multiple_of(c0),
            Layout::Zn => rows.next_multiple_of(c0) * cols.next_multiple_of(FRACTAL_ROWS),
        }
    }

    /// Where element (`row`, `col`) lies, counted in elements.
    pub fn place(&self, row: usize, col: usize) -> usize {
        let Tiled { layout, rows, cols, c0 } = *self;
        match layout {
            Layout::Nd => row * cols + col,
            Layout::Nz => nz(row, col, rows, c0),
            Layout::Zz => {
                let across = cols.next_multiple_of(c0);
                let (down, fractal) = (row / FRACTAL_ROWS, col / c0);
                down * across * FRACTAL_ROWS + fractal * FRACTAL_ROWS * c0 + row % FRACTAL_ROWS * c0 + col % c0
            }
            Layout::Zn => nz(col, row, cols, c0),
        }
    }
}

fn nz(row: usize, col: usize, rows: usize, c0: usize) -> usize {
    col / c0 * rows.next_multiple_of(FRACTAL_ROWS) * c0 + row * c0 + col % c0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// No two elements share a place, and none lies outside.
        #[test]
        fn every_element_has_a_place_of_its_own(rows in 1usize..70, cols in 1usize..70, kind in 0usize..4, wide in 0u32..4) {
            let layout = [Layout::Nd, Layout::Nz, Layout::Zz, Layout::Zn][kind];
            let tiled = Tiled { layout, rows, cols, c0: 8 << wide };
            let all = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
            let places: BTreeSet<usize> = all.map(|(row, col)| tiled.place(row, col)).collect();
            prop_assert_eq!(places.len(), rows * cols);
            prop_assert!(places.last().is_some_and(|&last| last < tiled.elements()));
        }
    }

    /// The first elements of the second fractal in each direction, of 40 x 40 halves.
    #[test]
    fn fractals_follow_one_another_as_the_layout_says() {
        let tiled = |layout| Tiled { layout, rows: 40, cols: 40, c0: 16 };
        let places = |layout| [(0, 1), (1, 0), (16, 0), (0, 16)].map(|(row, col)| tiled(layout).place(row, col));
        assert_eq!(places(Layout::Nd), [1, 40, 640, 16]);
        assert_eq!(places(Layout::Nz), [1, 16, 256, 48 * 16]);
        assert_eq!(places(Layout::Zz), [1, 16, 48 * 16, 256]);
        assert_eq!(places(Layout::Zn), [16, 1, 48 * 16, 256]);
        assert_eq!(tiled(Layout::Zn).elements(), 48 * 48);
    }
}

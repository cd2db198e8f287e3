//! A matrix cut into pieces that a vector half takes one after another.

use crate::device::Npu;

/// Elements of a piece at least, where cores would otherwise have nothing to do: below this a transfer is mostly its start.
const LEAST: usize = 1024;

/// Some rows and columns of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) row: u64,
    pub(super) rows: u32,
    pub(super) col: u32,
    pub(super) cols: u32,
}

/// Pieces of equal size, but for those at the lower and right edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    rows: u64,
    cols: u32,
    /// Rows of a piece.
    pub(super) each: u32,
    /// Columns of a piece.
    pub(super) wide: u32,
}

impl Grid {
    /// Pieces of at most `most` elements in UB, where rows lie at multiples of `pad` elements. Their columns begin at
    /// multiples of `unit`, of which `most` has one at least. Both sizes are at least 1.
    pub(super) fn new(npu: &Npu, [rows, cols]: [usize; 2], unit: usize, pad: usize, most: usize) -> Grid {
        let halves = 2 * npu.profile().figures.cube_cores as usize;
        let want = (rows.saturating_mul(cols) / (2 * halves)).clamp(LEAST.min(most), most);
        let wide = (want / unit * unit).max(unit).min(cols);
        let padded = if wide == 1 { 1 } else { wide.next_multiple_of(pad) };
        let each = if wide < cols { 1 } else { (want / padded).clamp(1, rows.max(1)) };
        Grid { rows: rows as u64, cols: cols as u32, each: each as u32, wide: wide as u32 }
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> u64 {
        self.rows.div_ceil(self.each.into()) * u64::from(self.across())
    }

    fn across(&self) -> u32 {
        self.cols.div_ceil(self.wide)
    }

    /// A piece by its number; those of the same rows follow one another.
    pub(super) fn piece(&self, number: u64) -> Piece {
        let across = u64::from(self.across());
        let row = number / across * u64::from(self.each);
        let col = (number % across) as u32 * self.wide;
        Piece { row, rows: u64::from(self.each).min(self.rows - row) as u32, col, cols: self.wide.min(self.cols - col) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_matrix_once() {
        for (rows, cols, each, wide) in [(5, 7, 2, 7), (3, 10, 1, 4), (1, 1, 1, 1), (4, 8, 4, 8)] {
            let grid = Grid { rows, cols, each, wide };
            let mut seen = vec![0; (rows * u64::from(cols)) as usize];
            for number in 0..grid.pieces() {
                let Piece { row, rows, col, cols: across } = grid.piece(number);
                for r in row..row + u64::from(rows) {
                    (col..col + across).for_each(|c| seen[(r * u64::from(cols)) as usize + c as usize] += 1);
                }
            }
            assert!(seen.iter().all(|count| *count == 1), "{grid:?}");
        }
    }
}

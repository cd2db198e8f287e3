//! Residual streams: `n` rows to a token, and the numbers that they are weighed with.

use crate::isa::Tile;

/// Stream `which` of each token, of rows that are tokens' `n` streams one behind the other.
pub(super) fn stream(tile: Tile, n: u32, which: u32) -> Tile {
    Tile { rows: tile.rows / n, pitch: tile.pitch * n, ..tile.row_range(which, 1) }
}

/// A row as a column: a number for each row of what it is multiplied with.
pub(super) fn column(tile: Tile, row: u32) -> Tile {
    Tile { rows: tile.cols, cols: 1, pitch: 1, ..tile.row_range(row, 1) }
}

/// Columns as parts of equal width, of at most `most`, at least `want` of them where each keeps `least`: how many, and their
/// width. Parts begin at multiples of 64, where bursts do.
pub(super) fn parts(cols: u32, most: u32, want: u32, least: u32) -> (u32, u32) {
    let parts = want.min(cols / least.max(1)).max(cols.div_ceil(most)).max(1);
    let width = cols.div_ceil(parts).next_multiple_of(64).min(most).min(cols);
    (cols.div_ceil(width.max(1)), width)
}

//! Products of rows and columns: which of their variants a plan uses, and how its tiles lie.

use crate::plan::{Building, Limits};

/// How a workgroup shares a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    variant: &'static str,
    /// Invocations of a workgroup.
    size: u32,
    /// The constant `ROWS` of the variant.
    rows_constant: u32,
    /// Rows and columns of a tile.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

/// Rows up to which a product is a matter of reading the columns.
const FEW_ROWS: usize = 8;

impl Tiling {
    /// For `rows` rows.
    pub(crate) fn of(limits: &Limits, rows: usize) -> Tiling {
        if limits.is_cpu && limits.subgroup > 0 {
            // A CPU's lanes cost what they cost, also for rows that are not there.
            let lanes = limits.subgroup;
            let rows = if rows > lanes as usize { 2 * lanes } else { lanes };
            let (size, cols) = (lanes, lanes as usize * 4);
            return Tiling { variant: "product_lanes", size, rows_constant: rows, rows: rows as usize, cols };
        }
        if rows <= FEW_ROWS {
            let rows_constant = rows.next_power_of_two() as u32;
            let size = if limits.is_cpu { 32 } else { 128 };
            return Tiling { variant: "product_rows", size, rows_constant, rows: rows_constant as usize, cols: 4 };
        }
        let rows_constant = if rows > 64 && !limits.is_cpu { 2 } else { 1 };
        Tiling { variant: "product_tiles", size: 256, rows_constant, rows: 64 * rows_constant as usize, cols: 64 }
    }
}

impl Building<'_> {
    /// Builds the kernel on a tiling, with room for the sums of `passes` products.
    pub(crate) fn tiled(self, tiling: Tiling, passes: u32) -> Self {
        let kernel = self.variant(tiling.variant).number("ROWS", tiling.rows_constant).number("PASSES", passes);
        // Only where it is a number of the adapter's.
        if tiling.variant == "product_lanes" { kernel.number("LANES", tiling.size) } else { kernel }
    }

    /// Runs `tiles` workgroups of it.
    pub(crate) fn run_tiles(self, tiling: Tiling, tiles: usize) {
        self.run(tiling.size, tiles);
    }
}

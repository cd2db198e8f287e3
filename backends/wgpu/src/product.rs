//! Products of rows and columns: which of their variants a plan uses, and how its tiles lie.

use crate::limits::{Limits, halvings, nested, turns};
use crate::plan::{Bounded, Building};
use anychip_core::{DType, Matrix};

/// How a workgroup shares a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    variant: &'static str,
    /// Invocations of a workgroup.
    pub(crate) size: u32,
    /// Rows and columns of a tile.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Constants of the variant's text.
    constants: Vec<(&'static str, u32)>,
}

/// Rows up to which a product is a matter of reading the columns.
const FEW_ROWS: usize = 8;
/// Columns that the cooperative variant takes at a time.
const STEP: usize = 32;

impl Tiling {
    /// For `rows` rows.
    pub(crate) fn of(limits: &Limits, rows: usize) -> Tiling {
        if limits.is_cpu && limits.subgroup > 0 {
            // A CPU's lanes cost what they cost, also for rows that are not there.
            let lanes = limits.subgroup;
            let rows = if rows > lanes as usize { 2 * lanes } else { lanes };
            let constants = vec![("ROWS", rows), ("LANES", lanes)];
            return Tiling::new("product_lanes", lanes, [rows, lanes * 4], constants);
        }
        if rows <= FEW_ROWS {
            return Tiling::shared(limits, rows);
        }
        let parts = if rows > 64 && !limits.is_cpu { 2 } else { 1 };
        Tiling::new("product_tiles", 256, [64 * parts, 64], vec![("ROWS", parts)])
    }

    /// Few rows, whose sums the invocations of a workgroup share.
    fn shared(limits: &Limits, rows: usize) -> Tiling {
        let rows = rows.next_power_of_two() as u32;
        let size = if limits.is_cpu { 32 } else { 128 };
        Tiling::new("product_rows", size, [rows, 4], vec![("ROWS", rows)])
    }

    /// For kernels that go on with what lies in a tile: never the variant for few rows.
    pub(crate) fn of_tiles(limits: &Limits, rows: usize) -> Tiling {
        // One tile's height at most: such kernels hold a tile in workgroup memory.
        Tiling::of(limits, rows.clamp(FEW_ROWS + 1, 64))
    }

    /// For `rows` rows of a matrix that is multiplied with others: by cooperative matrices where all have codes that binary16
    /// has exactly, and scales that change seldom enough.
    pub(crate) fn of_codes(limits: &Limits, rows: usize, depth: usize, x: &Matrix, others: &[&Matrix]) -> Tiling {
        let (side, lanes) = (limits.cooperative, limits.subgroup);
        let all = || others.iter().copied().chain([x]);
        let exact = |m: &Matrix| matches!(m.codes().dtype(), DType::F16 | DType::E4M3 | DType::E2M1);
        let whole = |n: usize| n.is_multiple_of(STEP);
        let seldom = |m: &Matrix| m.format().layout().is_none_or(|layout| whole(layout.cols));
        let fits = side > 0 && lanes > 0 && (rows > FEW_ROWS || limits.is_cpu) && depth.is_multiple_of(4);
        if !fits || !all().all(|m| exact(m) && seldom(m) && m.cols().is_multiple_of(4)) {
            return Tiling::of(limits, rows);
        }
        // Runs that have one scale in each matrix.
        let blocks = all().filter_map(|m| m.format().layout()).map(|layout| layout.cols);
        let step = blocks.reduce(greatest_common_divisor).unwrap_or(0);
        let (tile, size) = (4 * side, 4 * lanes);
        let step = u32::try_from(step).unwrap_or(0);
        let quads = tile * tile / 4 / size;
        let constants = vec![("SIDE", side), ("LANES", lanes), ("SCALE_STEP", step), ("QUADS", quads)];
        Tiling::new(anychip_shaders::COOPERATIVE, size, [tile; 2], constants)
    }

    /// Tiles that `rows` rows and `cols` columns take, down and across.
    pub(crate) fn tiles(&self, rows: usize, cols: usize) -> [usize; 2] {
        [rows.div_ceil(self.rows), cols.div_ceil(self.cols)]
    }

    /// Turns of `multiply` over `depth` columns.
    pub(crate) fn turns(&self, depth: usize) -> usize {
        let size = self.size as usize;
        match self.variant {
            // A loop over loads of rows may be too long for drivers to unroll.
            "product_lanes" if self.rows > size => nested(depth.div_ceil(4), turns(self.rows, size)),
            "product_lanes" => turns(depth, 4),
            "product_rows" => turns(depth, 4 * size) + nested(self.rows, halvings(self.size)),
            "product_tiles" => turns(depth, 16),
            // No loop of it is known to be unrolled; each step may be a block of its own scale.
            _ => {
                let loaded = nested((self.rows * STEP / 4).div_ceil(size), turns(4, 1)) + turns(STEP / 8, 1);
                nested(depth.div_ceil(STEP), 2 + loaded + nested(self.sum_rows(), turns(4, 1)))
            }
        }
    }

    /// Rows of sums that `store_tile` goes over.
    pub(crate) fn sum_rows(&self) -> usize {
        self.rows * self.cols / 4 / self.size as usize
    }

    /// Turns of `store_tile`, whose rows may be stored element by element.
    pub(crate) fn stored(&self) -> usize {
        nested(self.sum_rows(), 5)
    }

    /// Turns of a tile of `rows` rows that is made once for each expert that any of them has, in `product` turns.
    pub(crate) fn by_expert(&self, rows: usize, experts: usize, product: usize) -> usize {
        let next = turns(self.rows, self.size as usize);
        next + nested(self.rows.min(rows.max(1)).min(experts.max(1)), product + self.stored() + next)
    }

    /// This one, unless it takes more turns than an invocation may make: then the one that takes fewest.
    pub(crate) fn within(self, limits: &Limits, rows: usize, turns: impl Fn(&Tiling) -> usize) -> Tiling {
        if limits.allow(turns(&self)) {
            return self;
        }
        let plain = [rows, rows.min(FEW_ROWS)].map(|rows| Tiling::of(limits, rows));
        let first = plain.into_iter().find(|tiling| limits.allow(turns(tiling)));
        first.unwrap_or_else(|| Tiling::shared(limits, rows.min(FEW_ROWS)))
    }

    fn new(variant: &'static str, size: u32, [rows, cols]: [u32; 2], constants: Vec<(&'static str, u32)>) -> Tiling {
        Tiling { variant, size, rows: rows as usize, cols: cols as usize, constants }
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

impl Building<'_> {
    /// Builds the kernel on a tiling, with room for the sums of `passes` products.
    pub(crate) fn tiled(self, tiling: &Tiling, passes: u32) -> Self {
        let kernel = self.variant(tiling.variant).number("PASSES", passes);
        tiling.constants.iter().fold(kernel, |kernel, &(name, value)| kernel.number(name, value))
    }
}

impl Bounded<'_> {
    /// Runs `tiles` workgroups of a tiling.
    pub(crate) fn run_tiles(self, tiling: &Tiling, tiles: usize) {
        self.run(tiling.size, tiles);
    }
}

use crate::limits::{halvings, turns};
use crate::plan::{Plan, Scratch};
use crate::product::Tiling;
use anychip_core::Reason;
use anychip_core::ops::NewtonSchulz;
use anychip_shaders::{Access, Storage};

/// Workgroups that look for the norm.
const PARTS: u32 = 64;

/// `M = g / |g|_F`, then for each step `A = M M^T`, `B = b A + c A A`, `M <- a M + B M`, on the transpose where that is wider.
pub(crate) fn plan(op: &NewtonSchulz, plan: &mut Plan) -> Result<(), Reason> {
    let (height, width) = (op.g.size(0), op.g.size(1));
    if op.out.count() == 0 {
        return Ok(());
    }
    let (rows, cols) = (height.min(width), height.max(width));
    let transposed = height > width;
    let [mut m, mut next] = [(); 2].map(|()| plan.scratch(rows * cols));
    let [a, b] = [(); 2].map(|()| plan.scratch(rows * rows));
    start(op, plan, transposed, m);
    for (i, &[alpha, beta, gamma]) in op.steps.iter().enumerate() {
        let last = i + 1 == op.steps.len();
        Product { left: m, right: m, by_rows: true, addend: None, to: Some(a), sizes: [rows, rows, cols] }
            .add(op, plan, [0.0, 1.0], false);
        Product { left: a, right: a, by_rows: true, addend: Some(a), to: Some(b), sizes: [rows, rows, rows] }
            .add(op, plan, [beta, gamma], false);
        let to = if last { None } else { Some(next) };
        Product { left: b, right: m, by_rows: false, addend: Some(m), to, sizes: [rows, cols, rows] }
            .add(op, plan, [alpha, 1.0], last && transposed);
        std::mem::swap(&mut m, &mut next);
    }
    Ok(())
}

/// Queues `m = g / |g|_F`.
fn start(op: &NewtonSchulz, plan: &mut Plan, transposed: bool, m: Scratch) {
    let count = op.g.count();
    let [largest, sums] = [(); 2].map(|()| plan.scratch(PARTS as usize));
    let group = plan.limits.group();
    let parts = turns(PARTS as usize, group as usize) + halvings(group);
    for (of_squares, part) in [(false, largest), (true, sums)] {
        let kernel = plan.kernel("newton_schulz_norm").number("PARTS", PARTS).flag("SUMS", of_squares).read("g", &op.g);
        let kernel = match of_squares {
            true => kernel.scratch("largest", Storage::F32, Access::Read, largest),
            false => kernel.read_or("largest", None, 0.0),
        };
        kernel
            .scratch("part", Storage::F32, Access::Write, part)
            .sizes(&[count])
            .turns(turns(count, (PARTS * group) as usize) + 2 * parts)
            .run(group, PARTS as usize);
    }
    plan.kernel("newton_schulz_scale")
        .number("PARTS", PARTS)
        .flag("TRANSPOSED", transposed)
        .read("g", &op.g)
        .scratch("largest", Storage::F32, Access::Read, largest)
        .scratch("sums", Storage::F32, Access::Read, sums)
        .scratch("m", Storage::F32, Access::Write, m)
        .sizes(&[count, op.g.size(0), op.g.size(1)])
        .turns(2 * parts)
        .run_each(count);
}

/// `alpha * addend + beta * left * right`
struct Product {
    left: Scratch,
    right: Scratch,
    /// Whether the columns of the right matrix are its rows.
    by_rows: bool,
    addend: Option<Scratch>,
    /// Where it goes; `None` for the operation's result.
    to: Option<Scratch>,
    sizes: [usize; 3],
}

impl Product {
    fn add(self, op: &NewtonSchulz, plan: &mut Plan, factors: [f32; 2], transposed: bool) {
        let [rows, cols, depth] = self.sizes;
        let most = |tiling: &Tiling| tiling.turns(depth) + tiling.stored();
        let tiling = Tiling::of(&plan.limits, rows).within(&plan.limits, rows, most);
        let [row_tiles, col_tiles] = tiling.tiles(rows, cols);
        let kernel = plan
            .kernel("newton_schulz")
            .tiled(&tiling, 1)
            .flag("Q_ROWS", self.by_rows)
            .flag("HAS_ADDEND", self.addend.is_some())
            .flag("TRANSPOSED", transposed)
            .scratch("l", Storage::F32, Access::Read, self.left)
            .scratch("q", Storage::F32, Access::Read, self.right);
        let kernel = match self.addend {
            Some(addend) => kernel.scratch("c", Storage::F32, Access::Read, addend),
            None => kernel.read_or("c", None, 0.0),
        };
        let kernel = match self.to {
            Some(to) => kernel.scratch("r", Storage::F32, Access::Write, to),
            None => kernel.write("r", &op.out),
        };
        kernel
            .sizes(&[rows, cols, depth, row_tiles, col_tiles])
            .floats(&factors)
            .turns(most(&tiling))
            .run_tiles(&tiling, row_tiles * col_tiles);
    }
}

use crate::limits::{nested, turns};
use crate::plan::{Building, Plan};
use crate::product::Tiling;
use anychip_core::ops::{KeyScope, Rounding, SparseAttention};
use anychip_core::Reason;
use anychip_shaders::{Access, Storage};

/// `out[t,h] = sum_j exp(z_j - m) K_j / (sum_j exp(z_j - m) + exp(sink[h] - m))`: the scores of all places, then their softmax
/// and the weighted sum.
pub(crate) fn plan(op: &SparseAttention, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, heads, depth) = (op.q.size(0), op.q.size(1), op.q.size(2));
    if op.out.count() == 0 {
        return Ok(());
    }
    let [first, second] = [0, 1].map(|i| op.scopes.get(i));
    let places = op.scopes.iter().map(|scope| scope.entries.size(1)).sum::<usize>();
    let first_places = first.map_or(0, |scope| scope.entries.size(1));
    let tables = [first, second].map(|scope| {
        scope.map_or([0; 3], |scope| {
            [scope.kv.table.size(0), scope.kv.table.size(1), scope.kv.pool.page_count()]
        })
    });
    let tiling = Tiling::of_tiles(&plan.limits, heads);
    let [head_tiles, place_tiles] = tiling.tiles(heads, places);
    let [_, col_tiles] = tiling.tiles(heads, depth);
    // Scores lie between the two kernels, as many rows of them as a binding holds.
    let most = plan.limits.binding_bytes.min(1 << 28) as usize / 4;
    let chunk = (most / (heads * places).max(1)).clamp(1, rows);
    let z = plan.scratch(chunk * heads * places);
    let size = tiling.size as usize;
    let scored = turns(tiling.cols, size) + tiling.turns(depth) + tiling.stored();
    let added = tiling.held(64) + turns(tiling.sum_rows(), 1);
    let block = turns(64, size) + turns(tiling.rows * 64, size) + tiling.weighed(64) + added;
    let summed = turns(tiling.rows, size) + nested(places.div_ceil(64), block) + tiling.stored();
    for start in (0..rows).step_by(chunk) {
        let rows = chunk.min(rows - start);
        let sizes = [start, rows, heads, depth, places, first_places, head_tiles];
        plan.kernel("sparse_attention_scores")
            .tiled(&tiling, 1)
            .rows("q", &op.q, depth)
            .scopes([first, second])
            .scratch("z", Storage::F32, Access::Write, z)
            .sizes(&sizes)
            .sizes(&[place_tiles])
            .sizes(&tables.concat())
            .floats(&[op.scale])
            .turns(scored)
            .run_tiles(&tiling, rows * head_tiles * place_tiles);
        plan.kernel("sparse_attention")
            .tiled(&tiling, 1)
            .flag("BF16", op.rounding == Rounding::Bf16)
            .scopes([first, second])
            .scratch("z", Storage::F32, Access::Read, z)
            .read("sink", &op.sink)
            .write("out", &op.out)
            .sizes(&sizes)
            .sizes(&[col_tiles])
            .sizes(&tables.concat())
            .turns(summed)
            .run_tiles(&tiling, rows * head_tiles * col_tiles);
    }
    Ok(())
}

impl Building<'_> {
    /// The pools and lists of both scopes.
    fn scopes(mut self, scopes: [Option<&KeyScope>; 2]) -> Self {
        let names =
            [("pool", "pool_table", "sequence", "entries"), ("second", "second_table", "second_sequence", "second_entries")];
        for (scope, (pool, table, sequence, entries)) in scopes.into_iter().zip(names) {
            self = match scope {
                Some(KeyScope { kv, entries: list }) => {
                    self.pool(pool, table, Access::Read, kv).read(sequence, &kv.sequence).read(entries, list)
                }
                None => self.no_pool(pool, table).none(sequence).none(entries),
            };
        }
        self
    }
}


// out[t, e] = sum_h (scale * weights[t, h]) * max(0, q[t, h] . k_e) for e below visible[t], -inf elsewhere and where the pool
// has no entry. In STEPS the scaled weight, the product, its weighting and the sum are rounded to bf16.
//
// A workgroup makes a tile of one row's entries: products of all heads with its entries, TILE_ROWS heads at a time, of which
// each invocation adds up those that it has; the invocations that share an entry add up theirs at the end.

struct Params {
    rows: u32, heads: u32, depth: u32, width: u32, tiles: u32, sequences: u32, table_pages: u32, pages: u32, scale: f32,
}
var<immediate> p: Params;

var<private> own_row: u32;
var<private> first_entry: u32;
var<private> total: vec4<f32>;
var<workgroup> slots: array<i32, TILE_COLS>;
var<workgroup> totals: array<vec4<f32>, WG>;

fn q_rows() -> u32 { return p.rows * p.heads; }
fn q_cols() -> u32 { return p.depth; }
fn pool_sequences() -> u32 { return p.sequences; }
fn pool_table_pages() -> u32 { return p.table_pages; }
fn pool_pages() -> u32 { return p.pages; }

fn a_quad(head: u32, k: u32) -> vec4<f32> { return q_quad(0u, own_row * p.heads + head, k); }
fn b_quad(entry: u32, k: u32) -> vec4<f32> {
    let slot = slots[entry - first_entry];
    if (slot < 0) { return vec4<f32>(); }
    return pool_entries(u32(slot), k);
}
fn rounded(x: f32) -> f32 { if (STEPS) { return round_bf16(x); } return x; }

// One head's products with four entries.
fn store_sums(head: u32, entry: u32, i: u32, n: u32) {
    let weight = rounded(p.scale * weights_load(own_row * p.heads + head));
    for (var j = 0u; j < 4u; j++) {
        let product = rounded(sums[0][i][j]);
        total[j] += rounded(weight * select(product, 0.0, product < 0.0));
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group_number(group);
    if (tile >= p.rows * p.tiles) { return; }
    own_row = tile / p.tiles;
    first_entry = tile % p.tiles * TILE_COLS;
    for (var i = lane; i < TILE_COLS; i += WG) {
        let entry = i32(first_entry + i);
        slots[i] = -1;
        if (entry < visible_load(own_row)) { slots[i] = pool_locate(sequence_load(own_row), entry); }
    }
    workgroupBarrier();
    for (var head = 0u; head < p.heads; head += TILE_ROWS) {
        multiply(0u, head, p.heads, first_entry, p.width, p.depth, lane);
        store_tile(head, p.heads, first_entry, p.width, lane);
    }
    totals[lane] = total;
    workgroupBarrier();
    if (lane >= COL_LANES) { return; }
    var sum = vec4<f32>();
    for (var i = 0u; i < ROW_LANES; i++) { sum += totals[i * COL_LANES + lane]; }
    for (var j = 0u; j < 4u; j++) {
        let i = lane * 4u + j;
        if (first_entry + i >= p.width) { return; }
        out_store(own_row * p.width + first_entry + i, select(rounded(sum[j]), -infinity(), slots[i] < 0));
    }
}


// out[t] = the sum of W2 h over the row's experts, ascending, the shared expert last: the second half of `expert_ffn` for few
// rows, where each of an expert's weights is read for one row. As SERVED, each product is rounded to bf16.
//
// A workgroup makes one tile of the columns of one row, over all of its experts.

struct Params { rows: u32, chosen: u32, experts: u32, inner: u32, shared_inner: u32, cols: u32, col_tiles: u32 }
var<immediate> p: Params;

var<private> is_shared: bool;
var<private> own_expert: u32;
// Where the row of h begins that is multiplied, and its width.
var<private> h_start: u32;
var<private> h_width: u32;
var<private> total: vec4<f32>;

fn down_rows() -> u32 { return p.cols; }
fn down_cols() -> u32 { return p.inner; }
fn shared_down_rows() -> u32 { return p.cols; }
fn shared_down_cols() -> u32 { return p.shared_inner; }

fn a_quad(row: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>(h_load(h_start + k), 0.0, 0.0, 0.0);
    for (var j = 1u; j < 4u; j++) { if (k + j < h_width) { v[j] = h_load(h_start + k + j); } }
    return v;
}
fn b_quad(col: u32, k: u32) -> vec4<f32> {
    if (HAS_SHARED && is_shared) { return shared_down_quad(0u, col, k); }
    return down_quad(own_expert, col, k);
}

fn add() {
    var y = sums[0][0];
    if (SERVED) { for (var j = 0u; j < 4u; j++) { y[j] = round_bf16(y[j]); } }
    total += y;
}

fn store_sums(row: u32, col: u32, i: u32, n: u32) { out_store4(row * p.cols + col, total, n); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group_number(group);
    if (tile >= p.rows * p.col_tiles) { return; }
    let row = tile / p.col_tiles;
    let col = tile % p.col_tiles * TILE_COLS;
    h_width = p.inner;
    var next = next_chosen(row, Chosen(-1, 0u), p.chosen, p.experts);
    while (next.slot < p.chosen) {
        own_expert = u32(next.expert);
        h_start = (row * p.chosen + next.slot) * p.inner;
        multiply(0u, row, row + 1u, col, p.cols, p.inner, lane);
        add();
        next = next_chosen(row, next, p.chosen, p.experts);
    }
    if (HAS_SHARED) {
        is_shared = true;
        h_start = p.rows * p.chosen * p.inner + row * p.shared_inner;
        h_width = p.shared_inner;
        multiply(0u, row, row + 1u, col, p.cols, p.shared_inner, lane);
        add();
    }
    store_tile(row, row + 1u, col, p.cols, lane);
}


// h = w silu(min(W1 x, limit)) clamp(W3 x, -limit, limit) of each pair of a row and an expert, the first half of `expert_ffn`:
// rows of h are those of the pairs, then those of the shared expert, whose weight is 1.
//
// A workgroup makes one tile of pairs and inner columns, W1's and W3's products one after the other, once for each expert
// that any of its pairs has. As SERVED, both products and h are rounded to bf16.

struct Params {
    first_row: u32, rows: u32, all_rows: u32, depth: u32, chosen: u32, experts: u32, inner: u32, shared_inner: u32,
    row_tiles: u32, col_tiles: u32, shared_row_tiles: u32, shared_col_tiles: u32, limit: f32,
}
var<immediate> p: Params;

var<private> is_up: bool;

fn x_rows() -> u32 { return p.all_rows; }
fn x_cols() -> u32 { return p.depth; }
fn gate_rows() -> u32 { return p.inner; }
fn gate_cols() -> u32 { return p.depth; }
fn up_rows() -> u32 { return p.inner; }
fn up_cols() -> u32 { return p.depth; }
fn shared_gate_rows() -> u32 { return p.shared_inner; }
fn shared_gate_cols() -> u32 { return p.depth; }
fn shared_up_rows() -> u32 { return p.shared_inner; }
fn shared_up_cols() -> u32 { return p.depth; }

fn a_quad(place: u32, k: u32) -> vec4<f32> { return x_quad(0u, row_of(place), k); }
fn b_quad(col: u32, k: u32) -> vec4<f32> {
    if (HAS_SHARED && is_shared) {
        if (is_up) { return shared_up_quad(0u, col, k); }
        return shared_gate_quad(0u, col, k);
    }
    if (is_up) { return up_quad(own_expert, col, k); }
    return gate_quad(own_expert, col, k);
}
fn a_codes(place: u32, k: u32) -> vec4<f32> { return x_codes(0u, row_of(place), k); }
fn b_codes(col: u32, k: u32) -> vec4<f32> {
    if (HAS_SHARED && is_shared) {
        if (is_up) { return shared_up_codes(0u, col, k); }
        return shared_gate_codes(0u, col, k);
    }
    if (is_up) { return up_codes(own_expert, col, k); }
    return gate_codes(own_expert, col, k);
}
fn a_factor(place: u32, k: u32) -> Power { return x_factor(0u, row_of(place), k); }
fn b_factor(col: u32, k: u32) -> Power {
    if (HAS_SHARED && is_shared) {
        if (is_up) { return shared_up_factor(0u, col, k); }
        return shared_gate_factor(0u, col, k);
    }
    if (is_up) { return up_factor(own_expert, col, k); }
    return gate_factor(own_expert, col, k);
}

fn rounded(x: f32) -> f32 { if (SERVED) { return round_bf16(x); } return x; }

fn store_sums(place: u32, col: u32, i: u32, n: u32) {
    var at = place * p.inner + col;
    var weight = 1.0;
    if (is_shared) {
        at = p.rows * p.chosen * p.inner + place * p.shared_inner + col;
    } else {
        if (owner_of(place) != i32(own_expert)) { return; }
        weight = weights_load(pair_of(place));
    }
    var h = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
        h[j] = rounded(swiglu(rounded(sums[0][i][j]), rounded(sums[1][i][j]), weight, p.limit));
    }
    h_store4(at, h, n);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var tile = group_number(group);
    let routed = p.row_tiles * p.col_tiles;
    if (tile >= routed + p.shared_row_tiles * p.shared_col_tiles) { return; }
    is_shared = tile >= routed;
    var row_tiles = p.row_tiles;
    var rows = p.rows * p.chosen;
    var cols = p.inner;
    if (is_shared) {
        tile -= routed;
        row_tiles = p.shared_row_tiles;
        rows = p.rows;
        cols = p.shared_inner;
    }
    let row = tile % row_tiles * TILE_ROWS;
    let col = tile / row_tiles * TILE_COLS;
    var expert = next_expert(-1, row, rows, lane);
    while (expert != NO_EXPERT) {
        own_expert = u32(expert);
        is_up = false;
        multiply(0u, row, rows, col, cols, p.depth, lane);
        is_up = true;
        multiply(1u, row, rows, col, cols, p.depth, lane);
        store_tile(row, rows, col, cols, lane);
        expert = next_expert(expert, row, rows, lane);
    }
}

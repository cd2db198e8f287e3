
// y = W2 h of each pair of a row and an expert, and of each row for the shared expert: the second half of `expert_ffn` for
// many rows, whose sum over the experts `expert_ffn_sum` makes. Tiles are those of `expert_ffn_in`.

struct Params {
    first_row: u32, rows: u32, chosen: u32, experts: u32, inner: u32, shared_inner: u32, cols: u32,
    row_tiles: u32, col_tiles: u32, shared_row_tiles: u32,
}
var<immediate> p: Params;

fn h_rows() -> u32 { return 0u; }
fn down_rows() -> u32 { return p.cols; }
fn down_cols() -> u32 { return p.inner; }
fn shared_down_rows() -> u32 { return p.cols; }
fn shared_down_cols() -> u32 { return p.shared_inner; }

fn a_quad(place: u32, k: u32) -> vec4<f32> {
    var at = place * p.inner + k;
    var left = p.inner - k;
    if (is_shared) {
        at = p.rows * p.chosen * p.inner + place * p.shared_inner + k;
        left = p.shared_inner - k;
    }
    var v = vec4<f32>(h_load(at), 0.0, 0.0, 0.0);
    for (var j = 1u; j < 4u; j++) { if (j < left) { v[j] = h_load(at + j); } }
    return v;
}
fn b_quad(col: u32, k: u32) -> vec4<f32> {
    if (HAS_SHARED && is_shared) { return shared_down_quad(0u, col, k); }
    return down_quad(own_expert, col, k);
}

fn store_sums(place: u32, col: u32, i: u32, n: u32) {
    var at = place;
    if (is_shared) {
        at = p.rows * p.chosen + place;
    } else if (owner_of(place) != i32(own_expert)) {
        return;
    }
    y_store4(at * p.cols + col, sums[0][i], n);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var tile = group_number(group);
    let routed = p.row_tiles * p.col_tiles;
    if (tile >= routed + p.shared_row_tiles * p.col_tiles) { return; }
    is_shared = tile >= routed;
    var row_tiles = p.row_tiles;
    var rows = p.rows * p.chosen;
    var depth = p.inner;
    if (is_shared) {
        tile -= routed;
        row_tiles = p.shared_row_tiles;
        rows = p.rows;
        depth = p.shared_inner;
    }
    let row = tile % row_tiles * TILE_ROWS;
    let col = tile / row_tiles * TILE_COLS;
    var expert = next_expert(-1, row, rows, lane);
    while (expert != NO_EXPERT) {
        own_expert = u32(expert);
        multiply(0u, row, rows, col, p.cols, depth, lane);
        store_tile(row, rows, col, p.cols, lane);
        expert = next_expert(expert, row, rows, lane);
    }
}

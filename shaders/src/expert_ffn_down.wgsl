
// y = W2 h of each pair of a row and an expert, and of each row for the shared expert: the second half of `expert_ffn` for
// many rows, whose sum over the experts `expert_ffn_sum` makes. Tiles are those of `expert_ffn_in`.

struct Params {
    first_row: u32, rows: u32, chosen: u32, experts: u32, inner: u32, shared_inner: u32, cols: u32,
    row_tiles: u32, col_tiles: u32, shared_row_tiles: u32,
}
var<immediate> p: Params;

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
    return h_load4(at, left);
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
    let number = group_number(group);
    if (number >= (p.row_tiles + p.shared_row_tiles) * p.col_tiles) { return; }
    let tile = pair_tile(number);
    let depth = select(p.inner, p.shared_inner, is_shared);
    var expert = next_expert(-1, tile.row, tile.rows, lane);
    while (expert != NO_EXPERT) {
        own_expert = u32(expert);
        multiply(0u, tile.row, tile.rows, tile.col, p.cols, depth, lane);
        store_tile(tile.row, tile.rows, tile.col, p.cols, lane);
        expert = next_expert(expert, tile.row, tile.rows, lane);
    }
}

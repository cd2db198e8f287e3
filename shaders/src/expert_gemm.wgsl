
// out[r] = w[e] x[r], e the row's expert (see expert_owners.wgsl).
//
// A workgroup makes one tile of rows and columns, once for each expert that any of its rows belongs to, and stores of each
// product the rows that are the expert's. Rows are sorted by expert, so that few tiles have more than one.

struct Params { rows: u32, cols: u32, depth: u32, row_tiles: u32, col_tiles: u32 }
var<immediate> p: Params;

fn x_rows() -> u32 { return p.rows; }
fn x_cols() -> u32 { return p.depth; }
fn w_rows() -> u32 { return p.cols; }
fn w_cols() -> u32 { return p.depth; }
fn a_quad(row: u32, k: u32) -> vec4<f32> { return x_quad(0u, row, k); }
fn b_quad(col: u32, k: u32) -> vec4<f32> { return w_quad(own_expert, col, k); }
fn a_codes(row: u32, k: u32) -> vec4<f32> { return x_codes(0u, row, k); }
fn b_codes(col: u32, k: u32) -> vec4<f32> { return w_codes(own_expert, col, k); }
fn a_factor(row: u32, k: u32) -> Power { return x_factor(0u, row, k); }
fn b_factor(col: u32, k: u32) -> Power { return w_factor(own_expert, col, k); }
fn owner_of(row: u32) -> i32 { return owner_load(row); }

fn store_sums(row: u32, col: u32, i: u32, n: u32) {
    if (owner_load(row) == i32(own_expert)) { out_store4(row * p.cols + col, sums[0][i], n); }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group_number(group);
    if (tile >= p.row_tiles * p.col_tiles) { return; }
    let row = tile % p.row_tiles * TILE_ROWS;
    let col = tile / p.row_tiles * TILE_COLS;
    var expert = next_expert(-1, row, p.rows, lane);
    while (expert != NO_EXPERT) {
        own_expert = u32(expert);
        multiply(0u, row, p.rows, col, p.cols, p.depth, lane);
        store_tile(row, p.rows, col, p.cols, lane);
        expert = next_expert(expert, row, p.rows, lane);
    }
}

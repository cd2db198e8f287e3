
// out[t, g*N + n] = sum_k x[t, g*K + k] * w[g, n, k], values being codes times their scales.
//
// A workgroup makes one tile of rows and columns of one group; how it shares the work is said where `multiply` is.

struct Params { rows: u32, cols: u32, depth: u32, groups: u32, row_tiles: u32, col_tiles: u32 }
var<immediate> p: Params;

var<private> own_group: u32;

fn x_rows() -> u32 { return p.rows; }
fn x_cols() -> u32 { return p.groups * p.depth; }
fn w_rows() -> u32 { return p.cols; }
fn w_cols() -> u32 { return p.depth; }

// Where groups are not whole quads, a quad may reach into the next one.
fn a_quad(row: u32, k: u32) -> vec4<f32> { return until(x_quad(0u, row, own_group * p.depth + k), p.depth - k); }
fn b_quad(col: u32, k: u32) -> vec4<f32> { return w_quad(own_group, col, k); }
fn a_codes(row: u32, k: u32) -> vec4<f32> { return x_codes(0u, row, own_group * p.depth + k); }
fn b_codes(col: u32, k: u32) -> vec4<f32> { return w_codes(own_group, col, k); }
fn a_factor(row: u32, k: u32) -> Power { return x_factor(0u, row, own_group * p.depth + k); }
fn b_factor(col: u32, k: u32) -> Power { return w_factor(own_group, col, k); }

fn store_sums(row: u32, col: u32, i: u32, n: u32) {
    out_store4(row * p.groups * p.cols + own_group * p.cols + col, sums[0][i], n);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group_number(group);
    if (tile >= p.row_tiles * p.col_tiles * p.groups) { return; }
    // Neighbours in the queue share their columns: weights are read from memory once.
    let row = tile % p.row_tiles * TILE_ROWS;
    let col = tile / p.row_tiles % p.col_tiles * TILE_COLS;
    own_group = tile / p.row_tiles / p.col_tiles;
    multiply(0u, row, p.rows, col, p.cols, p.depth, lane);
    store_tile(row, p.rows, col, p.cols, lane);
}

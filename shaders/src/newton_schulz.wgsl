
// r = alpha c + beta l q, the products of a step of Newton and Schulz: A = M M^T, B = b A + c A A, M' = a M + B M. The columns
// of q are its rows where they are those of a transpose or of a symmetric matrix (Q_ROWS), else columns of q.
//
// A workgroup makes one tile of r. The last product is stored as the operation's result, transposed back (TRANSPOSED).

struct Params { rows: u32, cols: u32, depth: u32, row_tiles: u32, col_tiles: u32, alpha: f32, beta: f32 }
var<immediate> p: Params;

fn a_quad(row: u32, k: u32) -> vec4<f32> {
    let at = row * p.depth + k;
    var v = vec4<f32>(l_load(at), 0.0, 0.0, 0.0);
    for (var j = 1u; j < 4u; j++) { if (k + j < p.depth) { v[j] = l_load(at + j); } }
    return v;
}
fn b_quad(col: u32, k: u32) -> vec4<f32> {
    var at = col * p.depth + k;
    var stride = 1u;
    if (!Q_ROWS) {
        at = k * p.cols + col;
        stride = p.cols;
    }
    var v = vec4<f32>(q_load(at), 0.0, 0.0, 0.0);
    for (var j = 1u; j < 4u; j++) { if (k + j < p.depth) { v[j] = q_load(at + j * stride); } }
    return v;
}

fn store_sums(row: u32, col: u32, i: u32, n: u32) {
    for (var j = 0u; j < n; j++) {
        let at = row * p.cols + col + j;
        var r = p.beta * sums[0][i][j];
        if (HAS_ADDEND) { r += p.alpha * c_load(at); }
        if (TRANSPOSED) { r_store((col + j) * p.rows + row, r); } else { r_store(at, r); }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group_number(group);
    if (tile >= p.row_tiles * p.col_tiles) { return; }
    let row = tile % p.row_tiles * TILE_ROWS;
    let col = tile / p.row_tiles * TILE_COLS;
    multiply(0u, row, p.rows, col, p.cols, p.depth, lane);
    store_tile(row, p.rows, col, p.cols, lane);
}

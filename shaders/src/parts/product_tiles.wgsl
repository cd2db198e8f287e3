
// A product of rows and columns in tiles of workgroup memory: a workgroup of 16 x 16 invocations makes
// (16 * 4 * ROWS) rows x 64 columns, 16 steps of the sum at a time.
//
// Every invocation owns 4 * ROWS rows, in quads that lie 64 rows apart, and four neighbouring columns.
//
// The kernel defines a_quad(row, k) and b_quad(col, k), four elements from `k`, zero past the end (`k` itself
// is before it), and gets its sums in
// `store_sums(row, col, i, n)`: columns `col` to `col + n` of the tile's row that `sums` holds at `i`.

const TILE_ROWS: u32 = 64u * ROWS;
const TILE_COLS: u32 = 64u;
// Rows whose sums an invocation has, invocations side by side, and invocations that share columns.
const SUM_ROWS: u32 = 4u * ROWS;
const COL_LANES: u32 = 16u;
const ROW_LANES: u32 = 16u;
const STEP: u32 = 16u;

// [step][row or column], four neighbours in a vector: what an invocation multiplies in one step is ROWS + 1 vectors.
var<workgroup> a_tile: array<vec4<f32>, STEP * TILE_ROWS / 4u>;
var<workgroup> b_tile: array<vec4<f32>, STEP * TILE_COLS / 4u>;

var<private> sums: array<array<vec4<f32>, 4u * ROWS>, PASSES>;

// Adds to the sums of `pass_` the products of the tile that begins at `row` and `col`; both end before `rows` and `cols`.
fn multiply(pass_: u32, row: u32, rows: u32, col: u32, cols: u32, depth: u32, lane: u32) {
    var acc: array<vec4<f32>, 4u * ROWS>;
    let own_row = lane / 16u;
    let own_col = lane % 16u;
    for (var start = 0u; start < depth; start += STEP) {
        workgroupBarrier();
        // Four neighbouring invocations read the sixteen steps of one row.
        let k = (lane % 4u) * 4u;
        let inside = start + k < depth;
        for (var part = 0u; part < ROWS; part++) {
            let r = part * 64u + lane / 4u;
            var v = vec4<f32>();
            if (inside) { v = a_quad(min(row + r, rows - 1u), start + k); }
            for (var j = 0u; j < 4u; j++) { a_tile[(k + j) * (TILE_ROWS / 4u) + r / 4u][r % 4u] = v[j]; }
        }
        let c = lane / 4u;
        var w = vec4<f32>();
        if (inside) { w = b_quad(min(col + c, cols - 1u), start + k); }
        for (var j = 0u; j < 4u; j++) { b_tile[(k + j) * (TILE_COLS / 4u) + c / 4u][c % 4u] = w[j]; }
        workgroupBarrier();
        for (var s = 0u; s < STEP; s++) {
            let b = b_tile[s * (TILE_COLS / 4u) + own_col];
            for (var part = 0u; part < ROWS; part++) {
                let a = a_tile[s * (TILE_ROWS / 4u) + part * 16u + own_row];
                acc[part * 4u] += a.x * b;
                acc[part * 4u + 1u] += a.y * b;
                acc[part * 4u + 2u] += a.z * b;
                acc[part * 4u + 3u] += a.w * b;
            }
        }
    }
    sums[pass_] = acc;
}

fn store_tile(row: u32, rows: u32, col: u32, cols: u32, lane: u32) {
    let c = col + (lane % 16u) * 4u;
    if (c >= cols) { return; }
    for (var i = 0u; i < 4u * ROWS; i++) {
        let r = row + (i / 4u) * 64u + (lane / 16u) * 4u + i % 4u;
        if (r < rows) { store_sums(r, c, i, min(4u, cols - c)); }
    }
}

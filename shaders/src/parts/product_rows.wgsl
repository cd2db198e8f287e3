
// A product of few rows with many columns: a workgroup makes ROWS rows x 4 columns, its invocations share the sum. Each
// column's operands are read once, neighbours by neighbouring invocations: what it costs is reading them.
//
// The kernel defines a_quad(row, k) and b_quad(col, k), four elements from `k`, zero past the end (`k` itself
// is before it), and gets its sums in
// `store_sums(row, col, i, n)`: columns `col` to `col + n` of the tile's row that `sums` holds at `i`.

const TILE_ROWS: u32 = ROWS;
const TILE_COLS: u32 = 4u;

var<private> sums: array<array<vec4<f32>, ROWS>, PASSES>;
var<workgroup> partial: array<vec4<f32>, WG>;

// Adds to the sums of `pass_` the products of the tile that begins at `row` and `col`; both end before `rows` and `cols`.
fn multiply(pass_: u32, row: u32, rows: u32, col: u32, cols: u32, depth: u32, lane: u32) {
    var acc: array<vec4<f32>, ROWS>;
    for (var k = lane * 4u; k < depth; k += WG * 4u) {
        let b0 = b_quad(col, k);
        let b1 = b_quad(min(col + 1u, cols - 1u), k);
        let b2 = b_quad(min(col + 2u, cols - 1u), k);
        let b3 = b_quad(min(col + 3u, cols - 1u), k);
        for (var i = 0u; i < ROWS; i++) {
            let a = a_quad(min(row + i, rows - 1u), k);
            acc[i] += vec4<f32>(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        workgroupBarrier();
        partial[lane] = acc[i];
        workgroupBarrier();
        for (var half = WG / 2u; half > 0u; half = half / 2u) {
            if (lane < half) { partial[lane] += partial[lane + half]; }
            workgroupBarrier();
        }
        sums[pass_][i] = partial[0];
    }
}

fn store_tile(row: u32, rows: u32, col: u32, cols: u32, lane: u32) {
    if (lane < ROWS && row + lane < rows) { store_sums(row + lane, col, lane, min(4u, cols - col)); }
}

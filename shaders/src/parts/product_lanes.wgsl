
// A product of rows and columns over subgroups of LANES invocations, for adapters where each invocation's load costs a load
// and workgroup memory is no faster: CPUs. A workgroup is one subgroup and makes ROWS rows x (LANES * 4) columns.
//
// Every lane owns four neighbouring columns. A load gives each lane another row; shuffles hand it around, so that ROWS rows
// and four columns of operands make ROWS * 4 sums in registers.
//
// The kernel defines a_quad(row, k) and b_quad(col, k), four elements from `k`, zero past the end (`k` itself
// is before it), and gets its sums in
// `store_sums(row, col, i, n)`: columns `col` to `col + n` of the tile's row that `sums` holds at `i`.

const TILE_ROWS: u32 = ROWS;
const TILE_COLS: u32 = LANES * 4u;
// Rows whose sums an invocation has, invocations side by side, and invocations that share columns.
const SUM_ROWS: u32 = ROWS;
const COL_LANES: u32 = LANES;
const ROW_LANES: u32 = 1u;

var<private> sums: array<array<vec4<f32>, ROWS>, PASSES>;

// Adds to the sums of `pass` the products of the tile that begins at `row` and `col`; both end before `rows` and `cols`.
fn multiply(pass_: u32, row: u32, rows: u32, col: u32, cols: u32, depth: u32, lane: u32) {
    var acc: array<vec4<f32>, ROWS>;
    let mine = col + lane * 4u;
    for (var k = 0u; k < depth; k += 4u) {
        let b0 = b_quad(min(mine, cols - 1u), k);
        let b1 = b_quad(min(mine + 1u, cols - 1u), k);
        let b2 = b_quad(min(mine + 2u, cols - 1u), k);
        let b3 = b_quad(min(mine + 3u, cols - 1u), k);
        for (var first = 0u; first < ROWS; first += LANES) {
            let held = a_quad(min(row + first + lane, rows - 1u), k);
            for (var i = 0u; i < LANES; i++) {
                let a = subgroupShuffle(held, i);
                acc[first + i] += vec4<f32>(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
            }
        }
    }
    sums[pass_] = acc;
}

fn store_tile(row: u32, rows: u32, col: u32, cols: u32, lane: u32) {
    let mine = col + lane * 4u;
    if (mine >= cols) { return; }
    for (var i = 0u; i < ROWS; i++) {
        if (row + i < rows) { store_sums(row + i, mine, i, min(4u, cols - mine)); }
    }
}


// A product of rows and columns by cooperative matrices: a workgroup of four subgroups makes (4 * SIDE) rows x (4 * SIDE)
// columns, SIDE being the adapter's tile. Subgroup i makes rows i * SIDE and on, four tiles of SIDE x SIDE.
//
// What is multiplied are codes, which binary16 has exactly; a tile's sum over the columns that share a scale goes through
// workgroup memory, for only there can it be multiplied with the scales of its rows and columns. Every invocation owns
// QUADS quads of neighbouring columns there.
//
// Besides a_quad and b_quad the kernel defines a_codes(row, k) and b_codes(col, k), four codes from `k`, and their scales,
// a_factor(row, k) and b_factor(col, k).

const TILE_ROWS: u32 = 4u * SIDE;
const TILE_COLS: u32 = 4u * SIDE;
// Columns of a step; scales change at multiples of it.
const STEP: u32 = 32u;

var<workgroup> a_half: array<f16, TILE_ROWS * STEP>;
var<workgroup> b_half: array<f16, TILE_COLS * STEP>;
var<workgroup> c_tile: array<f32, TILE_ROWS * TILE_COLS>;

var<private> sums: array<array<vec4<f32>, QUADS>, PASSES>;

// Codes of a step, the padding as zeros.
fn load_step(row: u32, rows: u32, col: u32, cols: u32, depth: u32, start: u32, lane: u32) {
    for (var q = lane; q < TILE_ROWS * STEP / 4u; q += WG) {
        let r = q / (STEP / 4u);
        let k = q % (STEP / 4u) * 4u;
        var a = vec4<f32>();
        var b = vec4<f32>();
        if (start + k < depth) {
            a = a_codes(min(row + r, rows - 1u), start + k);
            b = b_codes(min(col + r, cols - 1u), start + k);
        }
        for (var j = 0u; j < 4u; j++) {
            a_half[r * STEP + k + j] = f16(a[j]);
            b_half[r * STEP + k + j] = f16(b[j]);
        }
    }
}

// Adds to the sums of `pass_` the products of the tile that begins at `row` and `col`; both end before `rows` and `cols`.
fn multiply(pass_: u32, row: u32, rows: u32, col: u32, cols: u32, depth: u32, lane: u32) {
    var acc: array<vec4<f32>, QUADS>;
    let strip = lane / LANES * SIDE;
    let shared_scale = select(SCALE_STEP, depth, SCALE_STEP == 0u);
    for (var block = 0u; block < depth; block += shared_scale) {
        var tile0 = Sum();
        var tile1 = Sum();
        var tile2 = Sum();
        var tile3 = Sum();
        for (var start = block; start < min(block + shared_scale, depth); start += STEP) {
            workgroupBarrier();
            load_step(row, rows, col, cols, depth, start, lane);
            workgroupBarrier();
            for (var k = 0u; k < STEP; k += SIDE) {
                let a = coopLoadT<Left>(&a_half[strip * STEP + k], STEP);
                tile0 = coopMultiplyAdd(a, coopLoad<Right>(&b_half[k], STEP), tile0);
                tile1 = coopMultiplyAdd(a, coopLoad<Right>(&b_half[SIDE * STEP + k], STEP), tile1);
                tile2 = coopMultiplyAdd(a, coopLoad<Right>(&b_half[2u * SIDE * STEP + k], STEP), tile2);
                tile3 = coopMultiplyAdd(a, coopLoad<Right>(&b_half[3u * SIDE * STEP + k], STEP), tile3);
            }
        }
        coopStoreT(tile0, &c_tile[strip * TILE_COLS], TILE_COLS);
        coopStoreT(tile1, &c_tile[strip * TILE_COLS + SIDE], TILE_COLS);
        coopStoreT(tile2, &c_tile[strip * TILE_COLS + 2u * SIDE], TILE_COLS);
        coopStoreT(tile3, &c_tile[strip * TILE_COLS + 3u * SIDE], TILE_COLS);
        workgroupBarrier();
        for (var i = 0u; i < QUADS; i++) {
            let r = (lane + i * WG) / (TILE_COLS / 4u);
            let c = (lane + i * WG) % (TILE_COLS / 4u) * 4u;
            let a = a_factor(min(row + r, rows - 1u), block);
            for (var j = 0u; j < 4u; j++) {
                let b = b_factor(min(col + c + j, cols - 1u), block);
                acc[i][j] += times_power(c_tile[r * TILE_COLS + c + j] * a.m * b.m, a.n + b.n);
            }
        }
    }
    sums[pass_] = acc;
}

fn store_tile(row: u32, rows: u32, col: u32, cols: u32, lane: u32) {
    for (var i = 0u; i < QUADS; i++) {
        let r = row + (lane + i * WG) / (TILE_COLS / 4u);
        let c = col + (lane + i * WG) % (TILE_COLS / 4u) * 4u;
        if (r < rows && c < cols) { store_sums(r, c, i, min(4u, cols - c)); }
    }
}


// Sums over the columns of a row f of the streams: of its squares, and of its products with the rows of the mixer.
//
// Invocations stand in LINES lines of COLUMNS. A line has EACH rows of the mixer in each block of LINES * EACH, and ROWS
// rows f at a time, for which the mixer is read once; invocations of a line have every COLUMNS-th four columns. The kernel
// defines `take_sum`, which one invocation calls with each sum; number `p.mixes` is that of the squares.

const COLUMNS: u32 = WG / LINES;
// Sums of an invocation and a row.
const OWN: u32 = EACH + 1u;

fn streams_rows() -> u32 { return p.rows; }
fn streams_cols() -> u32 { return p.width; }
fn mixer_rows() -> u32 { return p.mixes; }
fn mixer_cols() -> u32 { return p.width; }

var<workgroup> shares: array<f32, WG * OWN>;

fn own_sums(lane: u32, block: u32, row: u32, from_column: u32, to_column: u32) -> array<f32, ROWS * OWN> {
    var sums: array<f32, ROWS * OWN>;
    for (var c = from_column + 4u * (lane % COLUMNS); c < to_column; c += 4u * COLUMNS) {
        var weights: array<vec4<f32>, EACH>;
        for (var e = 0u; e < EACH; e++) {
            let i = block + e * LINES + lane / COLUMNS;
            if (i < p.mixes) { weights[e] = mixer_quad(0u, i, c); }
        }
        for (var r = 0u; r < ROWS; r++) {
            if (row + r < p.rows) {
                let f = streams_quad(0u, row + r, c);
                for (var e = 0u; e < EACH; e++) { sums[r * OWN + e] += dot(weights[e], f); }
                sums[r * OWN + EACH] += dot(f, f);
            }
        }
    }
    return sums;
}

fn sum_up(lane: u32, row: u32, slice: u32, from_column: u32, to_column: u32) {
    for (var block = 0u; block < p.mixes; block += LINES * EACH) {
        var sums = own_sums(lane, block, row, from_column, to_column);
        for (var r = 0u; r < ROWS; r++) {
            workgroupBarrier();
            for (var e = 0u; e < OWN; e++) { shares[e * WG + lane] = sums[r * OWN + e]; }
            workgroupBarrier();
            for (var half = COLUMNS / 2u; half > 0u; half = half / 2u) {
                if (lane % COLUMNS < half) {
                    for (var e = 0u; e < OWN; e++) { shares[e * WG + lane] += shares[e * WG + lane + half]; }
                }
                workgroupBarrier();
            }
            if (lane % COLUMNS == 0u && row + r < p.rows) {
                for (var e = 0u; e < EACH; e++) {
                    let i = block + e * LINES + lane / COLUMNS;
                    if (i < p.mixes) { take_sum(row + r, slice, i, shares[e * WG + lane]); }
                }
                if (block + lane == 0u) { take_sum(row + r, slice, p.mixes, shares[EACH * WG]); }
            }
        }
    }
}

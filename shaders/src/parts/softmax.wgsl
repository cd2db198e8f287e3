
// Softmax over keys that arrive in blocks, for each row of a tile: what is carried from block to block, and the weights of the
// block at hand. KEYS of them, -inf where there is no key.

var<workgroup> weights: array<f32, TILE_ROWS * KEYS>;
var<workgroup> row_max: array<f32, TILE_ROWS>;
var<workgroup> row_sum: array<f32, TILE_ROWS>;
var<workgroup> row_factor: array<f32, TILE_ROWS>;
var<private> totals: array<vec4<f32>, SUM_ROWS>;

fn start_softmax(lane: u32) {
    for (var r = lane; r < TILE_ROWS; r += WG) {
        row_max[r] = -infinity();
        row_sum[r] = 0.0;
    }
}

// What is subtracted from scores whose largest is `x`: any number does, but -inf less -inf is none.
fn finite_base(x: f32) -> f32 { return select(x, 0.0, x == -infinity()); }

// Turns the scores of a block, in `weights`, into weights below e^0, and what is carried along.
fn weigh(is_bf16: bool, lane: u32) {
    workgroupBarrier();
    for (var r = lane; r < TILE_ROWS; r += WG) {
        var largest = row_max[r];
        for (var j = 0u; j < KEYS; j++) {
            let z = weights[r * KEYS + j];
            if (z > largest) { largest = z; }
        }
        let base = finite_base(largest);
        let factor = exp_of(row_max[r] - base);
        var sum = 0.0;
        for (var j = 0u; j < KEYS; j++) {
            let z = weights[r * KEYS + j];
            let w = exp_of(z - base);
            sum += w;
            weights[r * KEYS + j] = select(w, round_bf16(w), is_bf16);
        }
        row_sum[r] = row_sum[r] * factor + sum;
        row_max[r] = largest;
        row_factor[r] = factor;
    }
    workgroupBarrier();
}

// What the weighted sum of a row is multiplied with at the end; the sink joins the denominator. Without keys it is zero.
fn last_factor(r: u32, sink: f32) -> f32 {
    if (row_max[r] == -infinity() && row_sum[r] == 0.0) { return 0.0; }
    var largest = row_max[r];
    if (sink > largest) { largest = sink; }
    let base = finite_base(largest);
    let factor = exp_of(row_max[r] - base);
    return factor / (row_sum[r] * factor + exp_of(sink - base));
}


// out[t, 0] = the place of the largest score of row t, of equal ones the lowest; -1 where all are -inf or NaN.
//
// One workgroup per row. An invocation looks at every WG-th score, in the order of their places, so that of equal ones it
// keeps the first; then the invocations' best meet pairwise.

struct Params { rows: u32, width: u32 }
var<immediate> p: Params;

// Loads that are on their way at a time.
const AHEAD: u32 = 8u;

struct Best { order: u32, place: u32 }
var<workgroup> best: array<Best, WG>;

fn beats(a: Best, b: Best) -> bool { return a.order > b.order || (a.order == b.order && a.place < b.place); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group_number(group);
    if (row >= p.rows) { return; }
    var own = Best(LEAST_SCORE, 0xffffffffu);
    for (var first = lane; first < p.width; first += AHEAD * WG) {
        for (var j = 0u; j < AHEAD; j++) {
            let place = first + j * WG;
            if (place < p.width) {
                let order = order_of(scores_load(row * p.width + place));
                if (order > own.order) { own = Best(order, place); }
            }
        }
    }
    best[lane] = own;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if (lane < half) {
            let other = best[lane + half];
            if (beats(other, own)) { own = other; best[lane] = own; }
        }
        workgroupBarrier();
    }
    // No place at all is all ones, which is -1.
    if (lane == 0u) { out_store(row, bitcast<i32>(own.place)); }
}

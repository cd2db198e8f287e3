
// out[t] = the sum of y over the row's experts, ascending, the shared expert last. As SERVED, each y is rounded to bf16.
//
// One invocation per two neighbouring elements of `out`.

struct Params { first_row: u32, rows: u32, chosen: u32, experts: u32, cols: u32 }
var<immediate> p: Params;

fn rounded(x: f32) -> f32 { if (SERVED) { return round_bf16(x); } return x; }

fn element(i: u32) -> f32 {
    let row = i / p.cols;
    let col = i % p.cols;
    var sum = 0.0;
    var next = next_chosen(p.first_row + row, Chosen(-1, 0u), p.chosen, p.experts);
    while (next.slot < p.chosen) {
        sum += rounded(y_load(u32(place_load(row * p.chosen + next.slot)) * p.cols + col));
        next = next_chosen(p.first_row + row, next, p.chosen, p.experts);
    }
    if (HAS_SHARED) { sum += rounded(y_load((p.rows * p.chosen + row) * p.cols + col)); }
    return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group_number(group) * WG + lane) * 2u;
    let count = p.rows * p.cols;
    if (i >= count) { return; }
    let at = p.first_row * p.cols + i;
    let first = element(i);
    // Chunks begin at even rows: pairs of elements share words as in the whole.
    if (i + 1u < count) { out_store2(at, first, element(i + 1u)); } else { out_store(at, first); }
}

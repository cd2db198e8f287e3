
// Windows of m tokens pooled into one entry each, by a softmax per channel, with state carried from call to call: one step per
// row, in row order, as the operation defines it.
//
// One invocation per sequence and element d of an entry: it owns the channels d and, where windows overlap, D + d, and walks
// the rows. Entries that no row closes are zeros; one more sequence's worth of invocations sees to them.
//
// For few rows; `kv_compress_entries` and `kv_compress_state` take many at once.

struct Params { rows: u32, ratio: u32, channels: u32, sequences: u32, entries: u32, width: u32 }
var<immediate> p: Params;

fn is_closing(row: i32) -> bool {
    if (row < 0 || u32(row) >= p.rows) { return false; }
    let s = sequence_load(u32(row));
    let at = position_load(u32(row));
    return s >= 0 && u32(s) < p.sequences && at >= 0 && (u32(at) + 1u) % p.ratio == 0u;
}

// Of overlapping windows the one before gives its first D channels, the current one its last D.
fn channel(slot: u32, d: u32) -> u32 { return d + select(0u, p.width, OVERLAP && slot >= p.ratio); }

fn pooled(s: u32, d: u32) -> f32 {
    var largest = -infinity();
    for (var j = 0u; j < slots(); j++) {
        let g = state_load(place(s, j, channel(j, d)) + scores());
        if (g > largest) { largest = g; }
    }
    var weights = 0.0;
    var sum = 0.0;
    for (var j = 0u; j < slots(); j++) {
        let at = place(s, j, channel(j, d));
        // All scores -inf: -inf less -inf is NaN, as 0 / 0 is.
        let w = exp_of(state_load(at + scores()) - largest);
        weights += w;
        sum += w * state_load(at);
    }
    if (largest == -infinity()) { return not_a_number(); }
    return sum / weights;
}

fn step(s: u32, d: u32, row: u32, at: u32) {
    let own = at % p.ratio;
    let slot = own + select(0u, p.ratio, OVERLAP);
    for (var half = 0u; half < select(1u, 2u, OVERLAP); half++) {
        let c = d + half * p.width;
        state_store(place(s, slot, c), kv_load(row * p.channels + c));
        state_store(place(s, slot, c) + scores(), gate_load(row * p.channels + c) + ape_load(own * p.channels + c));
    }
    if ((at + 1u) % p.ratio != 0u) { return; }
    var is_wanted = false;
    for (var e = 0u; e < p.entries; e++) { is_wanted = is_wanted || closing_load(e) == i32(row); }
    if (is_wanted) {
        let x = pooled(s, d);
        for (var e = 0u; e < p.entries; e++) {
            if (closing_load(e) == i32(row)) { out_store(e * p.width + d, x); }
        }
    }
    if (!OVERLAP) { return; }
    for (var j = 0u; j < p.ratio; j++) {
        for (var half = 0u; half < 2u; half++) {
            let c = d + half * p.width;
            state_store(place(s, j, c), state_load(place(s, p.ratio + j, c)));
            state_store(place(s, j, c) + scores(), state_load(place(s, p.ratio + j, c) + scores()));
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group_number(group) * WG + lane;
    if (i >= (p.sequences + 1u) * p.width) { return; }
    let s = i / p.width;
    let d = i % p.width;
    if (s == p.sequences) {
        for (var e = 0u; e < p.entries; e++) {
            if (!is_closing(closing_load(e))) { out_store(e * p.width + d, 0.0); }
        }
        return;
    }
    for (var row = 0u; row < p.rows; row++) {
        if (sequence_load(row) == i32(s) && position_load(row) >= 0) { step(s, d, row, u32(position_load(row))); }
    }
}

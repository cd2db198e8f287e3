
// Where the slots of a compressor's state come from after the rows below `end`: a row of the call, the last one that its
// sequence has for the slot, or the state as it was before the call. A search instead of a walk over the rows: windows do not
// wait for one another, in whatever order their rows come.
//
// PIECE slots of a window at a time, from `first`; what one workgroup finds is shared by its invocations.

// The row of each slot plus one, 0 for none: of the current window, then of the one before it.
var<workgroup> found: array<atomic<u32>, 2u * PIECE>;
// The last row that closed a window, plus one.
var<workgroup> closed: atomic<u32>;
var<workgroup> is_missing: atomic<u32>;

// Rows below `end`, from the last one, WG at a time, until each slot of the piece has its own in `found` from `base` on and, if
// any row below `close_end` closes a window, the last of these is known.
fn find(base: u32, s: u32, first: u32, end: u32, close_end: u32, lane: u32) {
    let count = min(PIECE, p.ratio - first);
    for (var left = end; left > 0u; left = max(left, WG) - WG) {
        if (lane < left) {
            let row = left - 1u - lane;
            let at = position_load(row);
            if (sequence_load(row) == i32(s) && at >= 0) {
                let j = u32(at) % p.ratio;
                if (j >= first && j - first < count) { atomicMax(&found[base + j - first], row + 1u); }
                if (j + 1u == p.ratio && row < close_end) { atomicMax(&closed, row + 1u); }
            }
        }
        if (lane == 0u) { atomicStore(&is_missing, 0u); }
        workgroupBarrier();
        for (var j = lane; j < count; j += WG) {
            if (atomicLoad(&found[base + j]) == 0u) { atomicStore(&is_missing, 1u); }
        }
        if (close_end > 0u && atomicLoad(&closed) == 0u) { atomicStore(&is_missing, 1u); }
        workgroupBarrier();
        let is_done = atomicLoad(&is_missing) == 0u;
        workgroupBarrier();
        if (is_done) { break; }
    }
}

fn search(s: u32, first: u32, end: u32, close_end: u32, lane: u32) {
    workgroupBarrier();
    for (var j = lane; j < 2u * PIECE; j += WG) { atomicStore(&found[j], 0u); }
    if (lane == 0u) { atomicStore(&closed, 0u); }
    workgroupBarrier();
    find(0u, s, first, end, select(0u, close_end, OVERLAP), lane);
    // What the window before held when it closed.
    if (OVERLAP) { find(PIECE, s, first, atomicLoad(&closed), 0u, lane); }
    workgroupBarrier();
}

// A row, plus one, and where it has none a slot of the state before the call: if a row closed a window, what the window before
// holds now was the current one's then.
struct Source { slot: u32, row: u32 }
fn source_of(slot: u32, first: u32) -> Source {
    if (!OVERLAP) { return Source(slot, atomicLoad(&found[slot - first])); }
    if (slot >= p.ratio) { return Source(slot, atomicLoad(&found[slot - p.ratio - first])); }
    let carried = select(slot, p.ratio + slot, atomicLoad(&closed) != 0u);
    return Source(carried, atomicLoad(&found[PIECE + slot - first]));
}

fn value_of(own: Source, s: u32, c: u32) -> f32 {
    if (own.row == 0u) { return state_load(place(s, own.slot, c)); }
    return kv_load((own.row - 1u) * p.channels + c);
}
fn score_of(own: Source, s: u32, c: u32) -> f32 {
    if (own.row == 0u) { return state_load(place(s, own.slot, c) + scores()); }
    return gate_load((own.row - 1u) * p.channels + c) + ape_load(own.slot % p.ratio * p.channels + c);
}

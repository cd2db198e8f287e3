
// The state that all rows of `kv_compress` leave behind: every slot takes the last row that it was given.
//
// A workgroup sees to COLS channels, at most WG, of one piece of a sequence's slots. An invocation owns a channel of a slot in
// both windows: the window before may take what the current one held before the call.

struct Params { rows: u32, ratio: u32, channels: u32, pieces: u32, tiles: u32, groups: u32 }
var<immediate> p: Params;

fn settle(s: u32, slot: u32, own: Source, c: u32) {
    if (own.row == 0u && own.slot == slot) { return; }
    let score = score_of(own, s, c);
    state_store(place(s, slot, c), value_of(own, s, c));
    state_store(place(s, slot, c) + scores(), score);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    if (number >= p.groups) { return; }
    let s = number / p.tiles / p.pieces;
    let first = number / p.tiles % p.pieces * PIECE;
    search(s, first, p.rows, p.rows, lane);
    let c = number % p.tiles * COLS + lane % COLS;
    if (c >= p.channels) { return; }
    for (var j = lane / COLS; j < min(PIECE, p.ratio - first); j += WG / COLS) {
        if (OVERLAP) { settle(s, first + j, source_of(first + j, first), c); }
        let slot = first + j + select(0u, p.ratio, OVERLAP);
        settle(s, slot, source_of(slot, first), c);
    }
}

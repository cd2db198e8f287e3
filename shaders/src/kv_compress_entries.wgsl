
// out[e] = sum_j softmax_j(g_j) c_j, channel by channel, over the slots that the window of row closing[e] had: the entries of
// `kv_compress`, all at once, from the state as it was before the call.
//
// A workgroup makes 2 * PAIRS channels of one entry. An invocation owns two neighbouring channels and every PARTS-th slot;
// those that share channels add up at the end.

struct Params { rows: u32, ratio: u32, channels: u32, sequences: u32, width: u32, tiles: u32, groups: u32 }
var<immediate> p: Params;

// PAIRS, at most WG, is the plan's: CPUs gain nothing from sharing the slots of a channel.
const PARTS: u32 = WG / PAIRS;

var<workgroup> shares: array<vec4<f32>, WG>;

// Of overlapping windows the one before gives its first D channels, the current one its last D.
fn channel(slot: u32, d: u32) -> u32 { return d + select(0u, p.width, OVERLAP && slot >= p.ratio); }

// Slots of a piece: those of the window before, where there is one, lie in front.
fn slot_at(i: u32, first: u32, count: u32) -> u32 { return first + select(i, p.ratio + i - count, i >= count); }

fn larger(a: f32, b: f32) -> f32 { return select(a, b, b > a); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    if (number >= p.groups) { return; }
    let e = number / p.tiles;
    let part = lane / PAIRS;
    let d = (number % p.tiles * PAIRS + lane % PAIRS) * 2u;
    let has_first = d < p.width;
    let has_second = d + 1u < p.width;

    let row = closing_load(e);
    var s = -1;
    if (row >= 0 && u32(row) < p.rows) {
        let at = position_load(u32(row));
        if (at >= 0 && u32(at) % p.ratio + 1u == p.ratio) { s = sequence_load(u32(row)); }
    }
    let is_open = s < 0 || u32(s) >= p.sequences;

    // First the largest scores, then the weights below e^0. Slots of one piece are searched once.
    var largest = vec2<f32>(-infinity());
    var sum = vec4<f32>(); // of weights, and of weighted values
    for (var turn = 0u; turn < 2u && !is_open; turn++) {
        for (var first = 0u; first < p.ratio; first += PIECE) {
            if (turn == 0u || p.ratio > PIECE) { search(u32(s), first, u32(row) + 1u, u32(row), lane); }
            let count = min(PIECE, p.ratio - first);
            for (var i = part; has_first && i < select(count, 2u * count, OVERLAP); i += PARTS) {
                let slot = slot_at(i, first, count);
                let own = source_of(slot, first);
                let c = channel(slot, d);
                let g = vec2<f32>(score_of(own, u32(s), c), score_of(own, u32(s), select(c, c + 1u, has_second)));
                if (turn == 0u) {
                    largest = vec2<f32>(larger(largest.x, g.x), larger(largest.y, g.y));
                    continue;
                }
                let v = vec2<f32>(value_of(own, u32(s), c), value_of(own, u32(s), select(c, c + 1u, has_second)));
                let w = vec2<f32>(exp_of(g.x - largest.x), exp_of(g.y - largest.y));
                sum += vec4<f32>(w, w * v);
            }
        }
        workgroupBarrier();
        shares[lane] = select(vec4<f32>(largest, 0.0, 0.0), sum, turn == 1u);
        workgroupBarrier();
        if (turn == 0u) {
            for (var i = lane % PAIRS; i < WG; i += PAIRS) {
                largest = vec2<f32>(larger(largest.x, shares[i].x), larger(largest.y, shares[i].y));
            }
        }
    }
    if (part != 0u || !has_first) { return; }
    let at = e * p.width + d;
    var result = vec2<f32>();
    if (!is_open) {
        var total = vec4<f32>();
        for (var i = lane; i < WG; i += PAIRS) { total += shares[i]; }
        // All scores -inf: 0 / 0.
        let is_none = largest == vec2<f32>(-infinity());
        result = select(total.zw / total.xy, vec2<f32>(not_a_number()), is_none);
    }
    if (has_second && at % 2u == 0u) { out_store2(at, result.x, result.y); return; }
    out_store(at, result.x);
    if (has_second) { out_store(at + 1u, result.y); }
}

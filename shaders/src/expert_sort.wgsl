// Pairs of a row and one of its experts, sorted by expert: `order[i]` is the pair at place `i`, `owner[i]` its expert, -1 for
// those behind the others that name none, and `place[pair]` where it went.
//
// One workgroup: it counts, for CHUNK experts at a time, the pairs of each, turns counts into first places, and hands places
// out. Which of an expert's pairs comes first does not matter: each is computed by itself.

struct Params { pairs: u32, experts: u32, first_pair: u32 }
var<immediate> p: Params;

const CHUNK: u32 = 2048u;

var<workgroup> counts: array<atomic<u32>, CHUNK>;
var<workgroup> totals: array<u32, WG>;
var<workgroup> strangers: atomic<u32>;

fn put(pair: u32, at: u32, owner: i32) {
    order_store(at, i32(p.first_pair + pair));
    owner_store(at, owner);
    place_store(pair, i32(at));
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
    let share = CHUNK / WG;
    var done = 0u;
    for (var first = 0u; first < p.experts; first += CHUNK) {
        for (var i = lane; i < CHUNK; i += WG) { atomicStore(&counts[i], 0u); }
        workgroupBarrier();
        for (var i = lane; i < p.pairs; i += WG) {
            let e = experts_load(p.first_pair + i);
            if (e >= i32(first) && e < i32(min(first + CHUNK, p.experts))) { atomicAdd(&counts[u32(e) - first], 1u); }
        }
        workgroupBarrier();
        var own = 0u;
        for (var i = lane * share; i < (lane + 1u) * share; i++) { own += atomicLoad(&counts[i]); }
        totals[lane] = own;
        workgroupBarrier();
        var next = done;
        for (var i = 0u; i < WG; i++) {
            if (i < lane) { next += totals[i]; }
            done += totals[i];
        }
        for (var i = lane * share; i < (lane + 1u) * share; i++) {
            let count = atomicLoad(&counts[i]);
            atomicStore(&counts[i], next);
            next += count;
        }
        workgroupBarrier();
        for (var i = lane; i < p.pairs; i += WG) {
            let e = experts_load(p.first_pair + i);
            if (e >= i32(first) && e < i32(min(first + CHUNK, p.experts))) {
                put(i, atomicAdd(&counts[u32(e) - first], 1u), e);
            }
        }
        workgroupBarrier();
    }
    if (lane == 0u) { atomicStore(&strangers, done); }
    workgroupBarrier();
    for (var i = lane; i < p.pairs; i += WG) {
        let e = experts_load(p.first_pair + i);
        if (e < 0 || e >= i32(p.experts)) { put(i, atomicAdd(&strangers, 1u), -1); }
    }
}

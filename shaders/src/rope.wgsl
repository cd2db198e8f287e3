
// The last 2 R elements of each head turned in neighbouring pairs, (a c - b s, b c + a s) with (c, s) = angles[t, i]; the
// others are copied.
//
// One invocation per two neighbouring elements of `out` in memory, which are a pair where rows are even.

struct Params { heads: u32, width: u32, pairs: u32, count: u32 }
var<immediate> p: Params;

fn element(i: u32) -> f32 {
    let d = i % p.width;
    let first = p.width - 2u * p.pairs;
    if (d < first) { return x_load(i); }
    let pair = (d - first) / 2u;
    let at = (i / p.width / p.heads * p.pairs + pair) * 2u;
    let c = angles_load(at);
    var s = angles_load(at + 1u);
    if (INVERSE) { s = -s; }
    if ((d - first) % 2u == 0u) { return x_load(i) * c - x_load(i + 1u) * s; }
    return x_load(i) * c + x_load(i - 1u) * s;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group_number(group) * WG + lane) * 2u;
    if (i >= p.count) { return; }
    let first = element(i);
    if (i + 1u < p.count) { out_store2(i, first, element(i + 1u)); } else { out_store(i, first); }
}


// Copies `p.bytes` bytes from byte `p.from_start` of `src` to byte `p.to_start` of `dst`: what lies at addresses that a copy
// in words cannot reach.
//
// One invocation per word of `dst`; bytes beside the range stay.

struct Params { from_start: u32, to_start: u32, bytes: u32 }
var<immediate> p: Params;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let word = p.to_start / 4u + group_number(group) * WG + lane;
    if (word * 4u >= p.to_start + p.bytes) { return; }
    var mask = 0u;
    var bits = 0u;
    for (var k = 0u; k < 4u; k++) {
        let to = word * 4u + k;
        if (to >= p.to_start && to < p.to_start + p.bytes) {
            mask |= 255u << (k * 8u);
            bits |= src_load(p.from_start + (to - p.to_start)) << (k * 8u);
        }
    }
    if (mask == 0xffffffffu) { dst_put(word, bits); } else { dst_merge(word, mask, bits); }
}


// Rows rounded to e4m3 or e2m1 (FP4) with one ue8m0 scale per block: the smallest power of two that brings the block's
// largest magnitude within the format. Bit for bit.
//
// SHARE neighbouring invocations share a block; each owns every SHARE-th quad of its codes.

struct Params { width: u32, block: u32, blocks: u32, count: u32 }
var<immediate> p: Params;

var<workgroup> largest: array<f32, WG>;

fn code(x: f32, byte: u32) -> u32 { if (FP4) { return e2m1_of(x, byte); } return e4m3_of(x, byte); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group) * (WG / SHARE) + lane / SHARE;
    let own = lane % SHARE;
    let row = number / p.blocks;
    let first = number % p.blocks * p.block;
    let start = row * p.width + first;
    var len = 0u;
    if (number < p.count) { len = min(p.block, p.width - first); }
    var amax = 0.0;
    for (var i = own; i < len; i += SHARE) { amax = amax_of(amax, x_load(start + i)); }
    largest[lane] = amax;
    workgroupBarrier();
    for (var i = 0u; i < SHARE; i++) { amax = amax_of(amax, largest[lane - own + i]); }
    if (len == 0u) { return; }
    var byte = 0u;
    if (FP4) { byte = e2m1_scale(amax); } else { byte = e4m3_scale(amax); }
    if (own == 0u) { out_scale_store(number, byte); }
    if (WORDS) {
        // Blocks begin and end at whole words: 4 codes of e4m3, 8 of e2m1.
        let each = select(4u, 8u, FP4);
        for (var i = own * each; i < len; i += SHARE * each) {
            var word = 0u;
            for (var j = 0u; j < each; j++) { word |= code(x_load(start + i + j), byte) << (j * 32u / each); }
            out_put((start + i) / each, word);
        }
        return;
    }
    for (var i = own; i < len; i += SHARE) { out_store(start + i, code(x_load(start + i), byte)); }
}


// h as served: each block of a row rounded to e4m3 under a scale of its own, and read back. In place.
//
// One workgroup per block. Rows of the shared expert lie behind those of the pairs and have their own width.

struct Params { pairs: u32, inner: u32, rows: u32, shared_inner: u32, block: u32, blocks: u32, shared_blocks: u32 }
var<immediate> p: Params;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var number = group_number(group);
    let routed = p.pairs * p.blocks;
    if (number >= routed + p.rows * p.shared_blocks) { return; }
    var start = 0u;
    var blocks = p.blocks;
    var width = p.inner;
    if (number >= routed) {
        number -= routed;
        start = p.pairs * p.inner;
        blocks = p.shared_blocks;
        width = p.shared_inner;
    }
    let first = number % blocks * p.block;
    start += number / blocks * width;
    let end = min(first + p.block, width);
    var own = 0.0;
    for (var i = first + lane; i < end; i += WG) { own = amax_of(own, h_load(start + i)); }
    let byte = e4m3_scale(group_amax(lane, own));
    let factor = scale_value(byte);
    for (var i = first + lane; i < end; i += WG) {
        h_store(start + i, e4m3_value(e4m3_of(h_load(start + i), byte)) * factor);
    }
}

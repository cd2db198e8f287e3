
// out[t, k] = post[t, k] y[t] + sum over j of comb[t, j, k] X[t, j]
//
// One workgroup per row and CHUNK pairs of channels, so that it reads its part of X from memory once. An invocation owns a
// pair of neighbouring channels, in every stream of `out` or in every few.

struct Params { groups: u32, chunks: u32, streams: u32, width: u32 }
var<immediate> p: Params;

const CHUNK: u32 = 64u;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    let n = p.streams;
    let t = number / p.chunks;
    let c = 2u * (number % p.chunks * CHUNK + lane % CHUNK);
    if (number >= p.groups || c >= p.width) { return; }
    // The last channel of an odd number stands for the one that is not there.
    let next = min(c + 1u, p.width - 1u);
    let result = vec2<f32>(y_load(t * p.width + c), y_load(t * p.width + next));
    for (var k = lane / CHUNK; k < n; k += WG / CHUNK) {
        var sum = post_load(t * n + k) * result;
        for (var j = 0u; j < n; j++) {
            let row = (t * n + j) * p.width;
            sum += comb_load((t * n + j) * n + k) * vec2<f32>(streams_load(row + c), streams_load(row + next));
        }
        out_pair((t * n + k) * p.width + c, sum.x, sum.y, next > c);
    }
}

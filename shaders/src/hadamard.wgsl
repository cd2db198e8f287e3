
// out[r] = H x[r] / sqrt(n), by log2 n stages of sums and differences.
//
// One workgroup per row, which is held in workgroup memory (FIRST and LAST); longer rows take several dispatches over scratch
// memory: CHUNK elements of a row at a time by themselves (FIRST), then one stage across chunks after the other.

struct Params { rows: u32, width: u32, factor: f32, stride: u32 }
var<immediate> p: Params;

var<workgroup> held: array<f32, CHUNK>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    if (ACROSS) {
        // One invocation per pair that is p.stride apart.
        let pair = number * WG + lane;
        if (pair >= p.rows * p.width / 2u) { return; }
        let i = pair / p.stride * p.stride * 2u + pair % p.stride;
        let a = x_load(i);
        let b = x_load(i + p.stride);
        out_store(i, (a + b) * p.factor);
        out_store(i + p.stride, (a - b) * p.factor);
        return;
    }
    let start = number * CHUNK;
    if (start >= p.rows * p.width) { return; }
    for (var i = lane; i < CHUNK; i += WG) { held[i] = x_load(start + i); }
    workgroupBarrier();
    for (var stride = 1u; stride < CHUNK; stride = stride * 2u) {
        for (var pair = lane; pair < CHUNK / 2u; pair += WG) {
            let i = pair / stride * stride * 2u + pair % stride;
            let a = held[i];
            let b = held[i + stride];
            held[i] = a + b;
            held[i + stride] = a - b;
        }
        workgroupBarrier();
    }
    for (var i = lane * 2u; i < CHUNK; i += WG * 2u) {
        if (CHUNK == 1u) { out_store(start, held[0] * p.factor); } else { out_store2(start + i, held[i] * p.factor, held[i + 1u] * p.factor); }
    }
}

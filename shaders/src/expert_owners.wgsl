
// Which expert each row of an `expert_gemm` belongs to: the last one in whose range it lies, -1 for none. The result of a row
// that belongs to none becomes zero.
//
// One workgroup per row, whose invocations share the experts and then the row.

struct Params { rows: u32, cols: u32, experts: u32 }
var<immediate> p: Params;

var<workgroup> last: atomic<i32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group_number(group);
    if (row >= p.rows) { return; }
    if (lane == 0u) { atomicStore(&last, -1); }
    workgroupBarrier();
    // Offsets before 0 or beyond the rows are clamped: the row is compared with them all the same.
    for (var e = lane; e < p.experts; e += WG) {
        if (offsets_load(e) <= i32(row) && i32(row) < offsets_load(e + 1u)) { atomicMax(&last, i32(e)); }
    }
    workgroupBarrier();
    let owner = atomicLoad(&last);
    if (lane == 0u) { owner_store(row, owner); }
    if (owner >= 0) { return; }
    for (var c = lane * 4u; c < p.cols; c += WG * 4u) {
        out_store4(row * p.cols + c, vec4<f32>(), min(4u, p.cols - c));
    }
}

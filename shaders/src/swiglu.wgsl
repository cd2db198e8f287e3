
// out = w * silu(min(gate, limit)) * clamp(up, -limit, limit), w one factor per row.
//
// One invocation per two neighbouring elements.

struct Params { width: u32, count: u32, limit: f32 }
var<immediate> p: Params;

fn element(i: u32) -> f32 { return swiglu(gate_load(i), up_load(i), weights_load(i / p.width), p.limit); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group_number(group) * WG + lane) * 2u;
    if (i >= p.count) { return; }
    let first = element(i);
    if (i + 1u < p.count) { out_store2(i, first, element(i + 1u)); } else { out_store(i, first); }
}


// out[t, i] = table[ids[t]], zeros for a number outside the table.
//
// One invocation per two neighbouring elements of `out`, which share a word where elements are 16 bits.

struct Params { known: u32, width: u32, copies: u32, count: u32 }
var<immediate> p: Params;

fn element(i: u32) -> f32 {
    let id = ids_load(i / p.width / p.copies);
    if (id < 0 || u32(id) >= p.known) { return 0.0; }
    return table_load(u32(id) * p.width + i % p.width);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group_number(group) * WG + lane) * 2u;
    if (i >= p.count) { return; }
    let first = element(i);
    if (i + 1u < p.count) { out_store2(i, first, element(i + 1u)); } else { out_store(i, first); }
}

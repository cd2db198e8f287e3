
// The whole of a kernel that computes one element of `out` at a time: element(i) of p.count of them. An invocation has two
// neighbours, which share a word where elements are 16 bits.

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group_number(group) * WG + lane) * 2u;
    if (i >= p.count) { return; }
    let both = i + 1u < p.count;
    out_pair(i, element(i), element(select(i, i + 1u, both)), both);
}


// mix = (fn f) / sqrt(mean(f^2) + norm_eps)
// pre = sigmoid(mix * scale + base) + eps
// out = sum over i of pre_i X_i
//
// One workgroup per row and chunk of channels.

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    if (number >= p.groups) { return; }
    let row = p.first_row + number / p.chunks;
    let inverse = find_mix(lane, row);
    if (lane < p.streams) {
        pre[lane] = sigmoid(mix[lane] * inverse * scale_load(0u) + base_load(lane)) + p.eps;
    }
    workgroupBarrier();
    collapse(lane, row, number % p.chunks);
}

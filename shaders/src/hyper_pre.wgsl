
// mix    = (fn f) / sqrt(mean(f^2) + norm_eps)
// pre_i  = sigmoid(mix_i * scale[0] + base_i) + eps                 out = sum over i of pre_i X_i
// post_i = 2 sigmoid(mix_{n+i} * scale[1] + base_{n+i})
// C      = softmax of each row of (mix_{2n..} * scale[2] + base_{2n..}) + eps
// C_jk  /= sum_j C_jk + eps,   then iterations - 1 times:   C_jk /= sum_k C_jk + eps,   C_jk /= sum_j C_jk + eps
//
// One workgroup per row and chunk of channels; that of the first chunk also finds post and C, of which an invocation has
// every WG-th entry.

// C before a pass and after it, in turn.
var<workgroup> comb_of: array<f32, 512>;

fn line_sum(first: u32, step: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < p.streams; i++) { sum += comb_of[first + i * step]; }
    return sum;
}

fn sinkhorn(lane: u32, row: u32, inverse: f32) {
    let n = p.streams;
    let count = n * n;
    for (var i = lane; i < count; i += WG) {
        comb_of[i] = mix[2u * n + i] * inverse * scale_load(2u) + base_load(2u * n + i);
    }
    workgroupBarrier();
    for (var i = lane; i < count; i += WG) {
        let first = i / n * n;
        var largest = comb_of[first];
        for (var k = 1u; k < n; k++) {
            let z = comb_of[first + k];
            largest = select(largest, z, z > largest);
        }
        comb_of[256u + i] = exp_of(comb_of[i] - largest);
    }
    workgroupBarrier();
    for (var i = lane; i < count; i += WG) {
        comb_of[i] = comb_of[256u + i] / line_sum(256u + i / n * n, 1u) + p.eps;
    }
    var before = 0u;
    for (var step = 1u; step < 2u * p.iterations; step++) {
        let after = 256u - before;
        workgroupBarrier();
        for (var i = lane; i < count; i += WG) {
            let columns = (step & 1u) == 1u;
            let first = before + select(i / n * n, i % n, columns);
            comb_of[after + i] = comb_of[before + i] / (line_sum(first, select(1u, n, columns)) + p.eps);
        }
        before = after;
    }
    for (var i = lane; i < count; i += WG) { comb_store(row * count + i, comb_of[before + i]); }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    if (number >= p.groups) { return; }
    let row = p.first_row + number / p.chunks;
    let chunk = number % p.chunks;
    let n = p.streams;
    let inverse = find_mix(lane, row);
    if (lane < n) {
        pre[lane] = sigmoid(mix[lane] * inverse * scale_load(0u) + base_load(lane)) + p.eps;
        if (chunk == 0u) {
            let z = mix[n + lane] * inverse * scale_load(1u) + base_load(n + lane);
            post_store(row * n + lane, 2.0 * sigmoid(z));
        }
    }
    workgroupBarrier();
    collapse(lane, row, chunk);
    if (chunk == 0u) { sinkhorn(lane, row, inverse); }
}

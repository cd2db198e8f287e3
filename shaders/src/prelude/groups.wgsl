
// Workgroups: their numbers, and sums and maxima over their WG invocations.

// Workgroups of a dispatch that needs more than the 65535 of one dimension lie in rows of that many.
fn group_number(id: vec3<u32>) -> u32 { return id.y * 65535u + id.x; }

var<workgroup> group_values: array<f32, WG>;

// The sum of every invocation's `x`, the same in all of them.
fn group_sum(lane: u32, x: f32) -> f32 {
    workgroupBarrier();
    group_values[lane] = x;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if (lane < half) { group_values[lane] += group_values[lane + half]; }
        workgroupBarrier();
    }
    return group_values[0];
}

// The largest magnitude of every invocation's `x`, NaN where one is NaN.
fn group_amax(lane: u32, x: f32) -> f32 {
    workgroupBarrier();
    group_values[lane] = amax_of(0.0, x);
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if (lane < half) { group_values[lane] = amax_of(group_values[lane], group_values[lane + half]); }
        workgroupBarrier();
    }
    return group_values[0];
}

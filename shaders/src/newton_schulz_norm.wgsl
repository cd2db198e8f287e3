// Parts of the Frobenius norm of g, one for each of PARTS workgroups: its largest magnitude, or, once these are known (SUMS),
// the sum of the squares of g / (the largest of all), which f32 has also where those of g are not to be had.

struct Params { count: u32 }
var<immediate> p: Params;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let part = group_number(group);
    if (SUMS) {
        let amax = largest(lane);
        var sum = 0.0;
        for (var i = part * WG + lane; i < p.count; i += PARTS * WG) {
            let x = g_load(i) / amax;
            sum += x * x;
        }
        sum = group_sum(lane, sum);
        if (lane == 0u) { part_store(part, sum); }
        return;
    }
    var amax = 0.0;
    for (var i = part * WG + lane; i < p.count; i += PARTS * WG) { amax = amax_of(amax, g_load(i)); }
    amax = group_amax(lane, amax);
    if (lane == 0u) { part_store(part, amax); }
}


// Rows of `dense_attention` and `sparse_attention` whose keys several workgroups shared: sums of weighted values, each part's
// under its own maximum, become sums under the largest, and then the result.
//
// One invocation per four neighbouring elements of a row.

struct Params { first_row: u32, rows: u32, width: u32, heads: u32, parts: u32 }
var<immediate> p: Params;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = (p.width + 3u) / 4u;
    let i = group_number(group) * WG + lane;
    if (i >= p.rows * quads) { return; }
    let row = i / quads;
    let col = i % quads * 4u;
    let n = min(4u, p.width - col);
    var largest = -infinity();
    for (var part = 0u; part < p.parts; part++) {
        let x = part_max_load(part * p.rows + row);
        if (x > largest) { largest = x; }
    }
    let base = finite_base(largest);
    var sum = 0.0;
    var values = vec4<f32>();
    for (var part = 0u; part < p.parts; part++) {
        let at = part * p.rows + row;
        let factor = exp_of(part_max_load(at) - base);
        sum += factor * part_sum_load(at);
        values += factor * part_load4(at * p.width + col, n);
    }
    let last = last_factor(largest, sum, sink_load((p.first_row + row) % p.heads));
    out_store4((p.first_row + row) * p.width + col, values * last, n);
}

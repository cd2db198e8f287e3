// m = g / |g|_F, transposed where g has more rows than columns. A zero matrix stays zero.
//
// A workgroup scales WG elements; each puts the parts of the norm together for itself.

struct Params { count: u32, rows: u32, cols: u32 }
var<immediate> p: Params;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let amax = largest(lane);
    var part = 0.0;
    for (var i = lane; i < PARTS; i += WG) { part += sums_load(i); }
    let norm = sqrt(group_sum(lane, part));
    let i = group_number(group) * WG + lane;
    if (i >= p.count) { return; }
    var at = i;
    if (TRANSPOSED) { at = (i % p.cols) * p.rows + i / p.cols; }
    m_store(at, select(g_load(i) / amax / norm, 0.0, amax == 0.0));
}

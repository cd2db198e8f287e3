
// out = codes times their scales.
//
// One invocation per two neighbouring elements of `out`.

struct Params { rows: u32, cols: u32, count: u32 }
var<immediate> p: Params;

fn x_rows() -> u32 { return p.rows; }
fn x_cols() -> u32 { return p.cols; }
fn element(i: u32) -> f32 { return x_at(i / p.cols / p.rows, i / p.cols % p.rows, i % p.cols); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group_number(group) * WG + lane) * 2u;
    if (i >= p.count) { return; }
    let first = element(i);
    if (i + 1u < p.count) { out_store2(i, first, element(i + 1u)); } else { out_store(i, first); }
}

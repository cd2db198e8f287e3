
// sums[t, s, i] = sum of mixer[i] f over the columns of slice s, f row t of the streams; last, the sum of f^2
//
// The first step of hyper_pre and hyper_head where rows are long. One workgroup per ROWS rows and slice.

struct Params { first_row: u32, rows: u32, groups: u32, slices: u32, length: u32, width: u32, mixes: u32 }
var<immediate> p: Params;

fn take_sum(row: u32, slice: u32, i: u32, sum: f32) {
    sums_store(((row - p.first_row) * p.slices + slice) * (p.mixes + 1u) + i, sum);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    if (number >= p.groups) { return; }
    let slice = number % p.slices;
    let from_column = slice * p.length;
    let to_column = min(from_column + p.length, p.width);
    sum_up(lane, p.first_row + number / p.slices * ROWS, slice, from_column, to_column);
}

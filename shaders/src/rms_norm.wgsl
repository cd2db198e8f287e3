
// out[r] = w * x[r] / sqrt(mean(x[r]^2) + eps). In STEPS each is rounded to bf16: the squares, their mean, its sum with eps, and
// the reciprocal square root.
//
// One workgroup per row; an invocation owns pairs of neighbouring elements.

struct Params { rows: u32, width: u32, eps: f32 }
var<immediate> p: Params;

fn square(x: f32) -> f32 { if (STEPS) { return round_bf16(x * x); } return x * x; }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group_number(group);
    if (row >= p.rows) { return; }
    let start = row * p.width;
    var own = 0.0;
    for (var i = lane; i < p.width; i += WG) { own += square(x_load(start + i)); }
    var mean = group_sum(lane, own) / f32(p.width);
    var factor = 0.0;
    if (STEPS) {
        factor = round_bf16(1.0 / sqrt(round_bf16(round_bf16(mean) + p.eps)));
    } else {
        factor = 1.0 / sqrt(mean + p.eps);
    }
    // Elements i and i + 1 share a word of a 16-bit result where start + i is even.
    for (var i = lane * 2u + (start & 1u); i < p.width; i += WG * 2u) {
        let first = weight_load(i) * (x_load(start + i) * factor);
        if (i + 1u < p.width) {
            out_store2(start + i, first, weight_load(i + 1u) * (x_load(start + i + 1u) * factor));
        } else {
            out_store(start + i, first);
        }
    }
    if (lane == 0u && (start & 1u) == 1u) { out_store(start, weight_load(0u) * (x_load(start) * factor)); }
}

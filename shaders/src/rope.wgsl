
// The last 2 R elements of each head turned in neighbouring pairs, (a c - b s, b c + a s) with (c, s) = angles[t, i]; the
// others are copied.

struct Params { heads: u32, width: u32, pairs: u32, count: u32 }
var<immediate> p: Params;

fn element(i: u32) -> f32 {
    let d = i % p.width;
    let first = p.width - 2u * p.pairs;
    if (d < first) { return x_load(i); }
    let pair = (d - first) / 2u;
    let at = (i / p.width / p.heads * p.pairs + pair) * 2u;
    let c = angles_load(at);
    var s = angles_load(at + 1u);
    if (INVERSE) { s = -s; }
    if ((d - first) % 2u == 0u) { return x_load(i) * c - x_load(i + 1u) * s; }
    return x_load(i) * c + x_load(i - 1u) * s;
}

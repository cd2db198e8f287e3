
// The second step of hyper_pre and hyper_head: the mix of a row, and the streams collapsed by its first n entries. Where
// WHOLE, a workgroup also does the first.

struct Params {
    first_row: u32,
    rows: u32,
    groups: u32,
    slices: u32, // of the first step
    width: u32, // n d
    mixes: u32,
    streams: u32, // n
    channels: u32, // d
    chunk: u32, // channels of a workgroup, even
    chunks: u32, // workgroups of a row
    iterations: u32,
    norm_eps: f32,
    eps: f32,
}
var<immediate> p: Params;

// Slices that are added up by an invocation of their own.
const SHARE: u32 = 8u;

// For as many as 16 streams need, and the squares.
var<workgroup> mix: array<f32, 289>;
var<workgroup> pre: array<f32, 16>;

fn take_sum(row: u32, slice: u32, i: u32, sum: f32) { mix[i] = sum; }

fn add_slices(lane: u32, row: u32) {
    for (var first = 0u; first <= p.mixes; first += WG / SHARE) {
        let i = first + lane / SHARE;
        var own = 0.0;
        if (i <= p.mixes) {
            for (var slice = lane % SHARE; slice < p.slices; slice += SHARE) {
                own += sums_load(((row - p.first_row) * p.slices + slice) * (p.mixes + 1u) + i);
            }
        }
        workgroupBarrier();
        shares[lane] = own;
        workgroupBarrier();
        for (var half = SHARE / 2u; half > 0u; half = half / 2u) {
            if (lane % SHARE < half) { shares[lane] += shares[lane + half]; }
            workgroupBarrier();
        }
        if (lane % SHARE == 0u && i <= p.mixes) { mix[i] = shares[lane]; }
    }
}

// Leaves in `mix` the products with the mixer; by the result they become those with f / sqrt(mean(f^2) + norm_eps).
fn find_mix(lane: u32, row: u32) -> f32 {
    if (WHOLE) { sum_up(lane, row, 0u, 0u, p.width); } else { add_slices(lane, row); }
    workgroupBarrier();
    return 1.0 / sqrt(mix[p.mixes] / f32(p.width) + p.norm_eps);
}

// out = sum over i of pre_i X_i, an invocation's channels two by two.
fn collapse(lane: u32, row: u32, chunk: u32) {
    let end = min((chunk + 1u) * p.chunk, p.channels);
    for (var c = chunk * p.chunk + 2u * lane; c < end; c += 2u * WG) {
        // The last channel of an odd number stands for the one that is not there.
        let next = min(c + 1u, p.channels - 1u);
        var sum = vec2<f32>();
        for (var i = 0u; i < p.streams; i++) {
            let first = row * p.width + i * p.channels;
            sum += pre[i] * vec2<f32>(streams_load(first + c), streams_load(first + next));
        }
        out_pair(row * p.channels + c, sum.x, sum.y, next > c);
    }
}

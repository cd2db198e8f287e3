
// How the invocations of a workgroup share blocks of listed entries in workgroup memory: GPUs.
//
// Scores: an invocation has four entries and, of HEADS heads, every DEPTH_LANES-th quad of elements; parts of a score are
// added up in workgroup memory. Sums: an invocation has four columns of all HEADS heads, of every KEY_LANES-th four entries.
// Either way a quad of an entry is read and decoded once, into registers, and neighbours read neighbouring words.

const BLOCK: u32 = 64u;
const DEPTH_LANES: u32 = WG / 16u;
// Quads of the queries in workgroup memory at a time.
const SLICE: u32 = 64u;
// Heads whose parts of scores lie in workgroup memory at a time, and vectors from one invocation's part to the next one's,
// which an odd number spreads over banks.
const ROUND: u32 = HEADS / 2u;
const STRIDE: u32 = ROUND * 16u + 1u;

var<workgroup> stage: array<vec4<f32>, HEADS * SLICE + 16u>;
// By entry and four heads.
var<workgroup> weights: array<vec4<f32>, BLOCK * HEADS / 4u>;
var<private> totals: array<vec4<f32>, HEADS>;

fn weight(h: u32, j: u32) -> f32 { return weights[j * (HEADS / 4u) + h / 4u][h % 4u]; }
fn set_weight(h: u32, j: u32, w: f32) { weights[j * (HEADS / 4u) + h / 4u][h % 4u] = w; }

fn score_block(scope: u32, lane: u32) {
    var acc: array<vec4<f32>, HEADS>; // by head, the four entries
    let quads = (p.depth + 3u) / 4u;
    let mine = lane / DEPTH_LANES * 4u;
    for (var first = 0u; first < quads; first += SLICE) {
        workgroupBarrier();
        for (var u = lane; u < HEADS * SLICE; u += WG) {
            let quad = first + u % SLICE;
            if (quad < quads) { stage[u] = query(u / SLICE, quad * 4u); }
        }
        workgroupBarrier();
        for (var quad = first + lane % DEPTH_LANES; quad < min(first + SLICE, quads); quad += DEPTH_LANES) {
            let k0 = entry(scope, mine, quad * 4u);
            let k1 = entry(scope, mine + 1u, quad * 4u);
            let k2 = entry(scope, mine + 2u, quad * 4u);
            let k3 = entry(scope, mine + 3u, quad * 4u);
            for (var h = 0u; h < HEADS; h++) {
                let q = stage[h * SLICE + quad - first];
                acc[h] += vec4<f32>(dot(q, k0), dot(q, k1), dot(q, k2), dot(q, k3));
            }
        }
    }
    for (var first = 0u; first < HEADS; first += ROUND) {
        workgroupBarrier();
        for (var h = 0u; h < ROUND; h++) { stage[lane % DEPTH_LANES * STRIDE + h * 16u + mine / 4u] = acc[first + h]; }
        workgroupBarrier();
        for (var u = lane; u < ROUND * 16u; u += WG) {
            var z = vec4<f32>();
            for (var s = 0u; s < DEPTH_LANES; s++) { z += stage[s * STRIDE + u]; }
            z *= p.scale;
            for (var c = 0u; c < 4u; c++) {
                let j = u % 16u * 4u + c;
                set_weight(first + u / 16u, j, select(z[c], -infinity(), slots[j] < 0));
            }
        }
    }
}

fn own_col(lane: u32) -> u32 { return (own_chunk * COL_LANES + lane % COL_LANES) * 4u; }

fn add_block(scope: u32, lane: u32) {
    let col = own_col(lane);
    for (var h = 0u; h < HEADS; h++) { totals[h] *= factors[h]; }
    if (col >= p.depth) { return; }
    for (var j = lane / COL_LANES * 4u; j < min(BLOCK, p.places - first_place); j += KEY_LANES * 4u) {
        // Four loads under way at a time.
        var values: array<vec4<f32>, 4>;
        for (var c = 0u; c < 4u; c++) { values[c] = entry(scope, j + c, col); }
        for (var c = 0u; c < 4u; c++) {
            for (var h = 0u; h < HEADS; h += 4u) {
                let w = weights[(j + c) * (HEADS / 4u) + h / 4u];
                totals[h] += w.x * values[c];
                totals[h + 1u] += w.y * values[c];
                totals[h + 2u] += w.z * values[c];
                totals[h + 3u] += w.w * values[c];
            }
        }
    }
}

fn store_totals(lane: u32) {
    for (var h = 0u; h < HEADS; h++) {
        if (KEY_LANES == 1u) {
            store(h, own_col(lane), totals[h]);
            continue;
        }
        workgroupBarrier();
        stage[lane] = totals[h];
        workgroupBarrier();
        if (lane < COL_LANES) {
            var sum = vec4<f32>();
            for (var s = 0u; s < KEY_LANES; s++) { sum += stage[s * COL_LANES + lane]; }
            store(h, own_col(lane), sum);
        }
    }
}

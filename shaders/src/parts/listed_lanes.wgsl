
// How a subgroup of LANES invocations, which is the workgroup, goes over blocks of listed entries on CPUs, where each
// invocation's load costs a load and workgroup memory is no faster.
//
// Scores: an invocation has four neighbouring entries and all HEADS heads. Sums: it has QUADS quads of columns, LANES quads
// apart, of all heads. A load gives each lane another head; shuffles hand it around.

const BLOCK: u32 = 64u;

// By head and four entries.
var<workgroup> weights: array<vec4<f32>, HEADS * BLOCK / 4u>;
var<private> totals: array<vec4<f32>, HEADS * QUADS>;

fn weight(h: u32, j: u32) -> f32 { return weights[h * (BLOCK / 4u) + j / 4u][j % 4u]; }
fn set_weight(h: u32, j: u32, w: f32) { weights[h * (BLOCK / 4u) + j / 4u][j % 4u] = w; }

fn score_block(scope: u32, lane: u32) {
    for (var mine = lane * 4u; mine < BLOCK; mine += LANES * 4u) {
        var acc: array<vec4<f32>, HEADS>;
        for (var d = 0u; d < p.depth; d += 4u) {
            let k0 = entry(scope, mine, d);
            let k1 = entry(scope, mine + 1u, d);
            let k2 = entry(scope, mine + 2u, d);
            let k3 = entry(scope, mine + 3u, d);
            for (var first = 0u; first < HEADS; first += LANES) {
                let held = query(first + lane, d);
                for (var i = 0u; i < LANES; i++) {
                    let q = subgroupShuffle(held, i);
                    acc[first + i] += vec4<f32>(dot(q, k0), dot(q, k1), dot(q, k2), dot(q, k3));
                }
            }
        }
        let none = vec4<bool>(slots[mine] < 0, slots[mine + 1u] < 0, slots[mine + 2u] < 0, slots[mine + 3u] < 0);
        for (var h = 0u; h < HEADS; h++) {
            weights[h * (BLOCK / 4u) + mine / 4u] = select(p.scale * acc[h], vec4<f32>(-infinity()), none);
        }
    }
}

fn own_col(quad: u32, lane: u32) -> u32 { return ((own_chunk * QUADS + quad) * LANES + lane) * 4u; }

fn add_block(scope: u32, lane: u32) {
    for (var quad = 0u; quad < QUADS; quad++) {
        // Lanes past the last column read it once more: all of them take part in shuffles.
        let col = min(own_col(quad, lane), (p.depth - 1u) / 4u * 4u);
        var acc: array<vec4<f32>, HEADS>;
        for (var h = 0u; h < HEADS; h++) { acc[h] = totals[quad * HEADS + h] * factors[h]; }
        for (var j = 0u; j < min(BLOCK, p.places - first_place); j += 4u) {
            let v0 = entry(scope, j, col);
            let v1 = entry(scope, j + 1u, col);
            let v2 = entry(scope, j + 2u, col);
            let v3 = entry(scope, j + 3u, col);
            for (var first = 0u; first < HEADS; first += LANES) {
                let held = weights[(first + lane) * (BLOCK / 4u) + j / 4u];
                for (var i = 0u; i < LANES; i++) {
                    let w = subgroupShuffle(held, i);
                    acc[first + i] += w.x * v0 + w.y * v1 + w.z * v2 + w.w * v3;
                }
            }
        }
        for (var h = 0u; h < HEADS; h++) { totals[quad * HEADS + h] = acc[h]; }
    }
}

fn store_totals(lane: u32) {
    for (var quad = 0u; quad < QUADS; quad++) {
        for (var h = 0u; h < HEADS; h++) { store(h, own_col(quad, lane), totals[quad * HEADS + h]); }
    }
}


// out[b,t,h] = sum_j softmax_j(scale q[b,t,h] . k[b,j,g]) v[b,j,g], for many queries of a key-value head.
//
// A workgroup of SIDE x SIDE invocations goes over its keys in tiles: 4 SIDE queries by 4 SIDE keys. Invocation (y, x) has
// the scores of queries 4y.. by keys x, x + SIDE, .., and the weighted sums of these queries in columns 4x.. and, where WIDE,
// 4 (x + SIDE)... Operands come through workgroup memory, for scores DEPTH elements of queries and keys at a time, for sums
// DEPTH values. The maximum of a query and its sum are kept as in Milakov and Gimelshein 2018.

const DEPTH: u32 = 16u;
const TILE: u32 = 4u * SIDE;
const STRIDE: u32 = SIDE + 1u; // odd, so that columns of workgroup memory lie in different banks
const QUADS: u32 = select(SIDE, 2u * SIDE, WIDE);

var<workgroup> stage: array<vec4<f32>, 2u * DEPTH * STRIDE>;
// By key and four queries. Negative where the query does not see the key.
var<workgroup> weights: array<vec4<f32>, TILE * STRIDE>;

// Queries 4y.. at element d in stage[d STRIDE + y], keys x, x + SIDE, .. behind them.
fn stage_scores(work: Task, lane: u32, start: u32, end: u32, begin: u32) {
    for (var u = lane; u < TILE * DEPTH / 4u; u += WG) {
        let i = u / (DEPTH / 4u);
        let d = u % (DEPTH / 4u) * 4u;
        var query = vec4<f32>();
        var key = vec4<f32>();
        if (begin + d < p.dim) {
            query = q_quad(0u, row_of(work, min(work.tile * TILE + i, queries() - 1u)), begin + d);
            key = k_quad(0u, key_of(work, min(start + i % 4u * SIDE + i / 4u, end - 1u)), begin + d);
        }
        for (var j = 0u; j < 4u; j++) {
            let at = (d + j) * STRIDE + i / 4u;
            stage[at][i % 4u] = query[j];
            stage[DEPTH * STRIDE + at][i % 4u] = key[j];
        }
    }
}

// Values of DEPTH keys, by key and four columns.
fn stage_values(work: Task, lane: u32, start: u32, end: u32) {
    for (var u = lane; u < DEPTH * QUADS; u += WG) {
        let j = start + u / QUADS;
        let col = (work.chunk * QUADS + u % QUADS) * 4u;
        var value = vec4<f32>();
        if (j < end && col < p.width) { value = v_quad(0u, key_of(work, j), col); }
        stage[u] = value;
    }
}

// e^z of what is no larger than the maximum.
fn weights_of(z: vec4<f32>) -> vec4<f32> { return vec4<f32>(exp_of(z.x), exp_of(z.y), exp_of(z.z), exp_of(z.w)); }

// A weighted value; nothing, whatever the value, where the weight is of a key that is not seen.
fn seen_only(weight: vec4<f32>, value: f32) -> vec4<f32> {
    return select(weight * value, vec4<f32>(), weight < vec4<f32>());
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    if (number >= tasks()) { return; }
    let work = task(number);
    let y = lane / SIDE;
    let x = lane % SIDE;
    let first = work.tile * TILE;
    let start = work.split * p.split_keys;
    let end = min(start + p.split_keys, seen(min(first + TILE, queries()) - 1u));
    var limit: vec4<u32>;
    for (var r = 0u; r < 4u; r++) { limit[r] = min(end, seen(min(first + 4u * y + r, queries() - 1u))); }

    var largest = vec4<f32>(LOWEST);
    var sum = vec4<f32>(); // of this invocation's own keys
    var low: mat4x4<f32>; // by column, the four queries
    var high: mat4x4<f32>;
    for (var at = start; at < end; at += TILE) {
        var score: mat4x4<f32>; // by key, the four queries
        for (var begin = 0u; begin < p.dim; begin += DEPTH) {
            workgroupBarrier();
            stage_scores(work, lane, at, end, begin);
            workgroupBarrier();
            for (var d = 0u; d < DEPTH; d++) {
                let query = stage[d * STRIDE + y];
                let key = stage[(DEPTH + d) * STRIDE + x];
                score[0] += key.x * query;
                score[1] += key.y * query;
                score[2] += key.z * query;
                score[3] += key.w * query;
            }
        }

        var top = largest;
        for (var c = 0u; c < 4u; c++) {
            score[c] *= p.scale;
            top = max(top, select(vec4<f32>(LOWEST), score[c], vec4<u32>(at + c * SIDE + x) < limit));
        }
        workgroupBarrier();
        stage[x * SIDE + y] = top;
        workgroupBarrier();
        for (var other = 0u; other < SIDE; other++) { top = max(top, stage[other * SIDE + y]); }
        let factor = weights_of(largest - top);
        largest = top;
        sum *= factor;
        for (var c = 0u; c < 4u; c++) {
            let sees = vec4<u32>(at + c * SIDE + x) < limit;
            let weight = weights_of(score[c] - largest);
            sum += select(vec4<f32>(), weight, sees);
            weights[(c * SIDE + x) * STRIDE + y] = select(vec4<f32>(-1.0), weight, sees);
            low[c] *= factor;
            high[c] *= factor;
        }

        let all_seen = at + TILE <= min(end, seen(first));
        for (var part = 0u; part < min(TILE, end - at); part += DEPTH) {
            workgroupBarrier();
            stage_values(work, lane, at + part, end);
            workgroupBarrier();
            for (var j = 0u; j < DEPTH; j++) {
                let weight = weights[(part + j) * STRIDE + y];
                let value = stage[j * QUADS + x];
                if (all_seen) {
                    low[0] += value.x * weight;
                    low[1] += value.y * weight;
                    low[2] += value.z * weight;
                    low[3] += value.w * weight;
                } else {
                    for (var c = 0u; c < 4u; c++) { low[c] += seen_only(weight, value[c]); }
                }
                if (WIDE) {
                    let value = stage[j * QUADS + SIDE + x];
                    if (all_seen) {
                        high[0] += value.x * weight;
                        high[1] += value.y * weight;
                        high[2] += value.z * weight;
                        high[3] += value.w * weight;
                    } else {
                        for (var c = 0u; c < 4u; c++) { high[c] += seen_only(weight, value[c]); }
                    }
                }
            }
        }
    }

    workgroupBarrier();
    stage[x * SIDE + y] = sum;
    workgroupBarrier();
    sum = vec4<f32>();
    for (var other = 0u; other < SIDE; other++) { sum += stage[other * SIDE + y]; }
    let columns = transpose(low);
    let more = transpose(high);
    for (var r = 0u; r < 4u; r++) {
        let m = first + 4u * y + r;
        if (m < queries()) {
            let row = row_of(work, m);
            let col = (work.chunk * QUADS + x) * 4u;
            store(work, row, col, columns[r], largest[r], sum[r]);
            if (WIDE) { store(work, row, col + 4u * SIDE, more[r], largest[r], sum[r]); }
        }
    }
}

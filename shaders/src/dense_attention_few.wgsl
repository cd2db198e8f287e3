
// out[b,t,h] = sum_j softmax_j(scale q[b,t,h] . k[b,j,g]) v[b,j,g], for few queries of a key-value head: decoding.
//
// A workgroup has QUERIES of them and goes over its keys WG at a time. For scores four invocations share four keys, each
// with every fourth quad of elements; then invocation j has the scores of key j. For sums an invocation has four columns and
// every (WG / quads)-th key. Keys and values are read once, and not through workgroup memory.

const DEEP: u32 = 64u; // quads of a query in workgroup memory at a time
const QUARTER: u32 = WG / 4u;

var<workgroup> query: array<vec4<f32>, QUERIES * DEEP>;
// By query and key: maxima, weights, sums. A weight is negative where the query does not see the key.
var<workgroup> shared_values: array<f32, QUERIES * WG>;
// Parts of the scores of a key, and of the sums of four columns.
var<workgroup> shared_parts: array<vec4<f32>, WG>;

fn stage_queries(work: Task, lane: u32, begin: u32) {
    for (var u = lane; u < QUERIES * DEEP; u += WG) {
        let m = min(work.tile * QUERIES + u / DEEP, queries() - 1u);
        let d = begin + u % DEEP * 4u;
        query[u] = vec4<f32>();
        if (d < p.dim) { query[u] = q_quad(0u, row_of(work, m), d); }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group_number(group);
    if (number >= tasks()) { return; }
    let work = task(number);
    let first = work.tile * QUERIES;
    let start = work.split * p.split_keys;
    let end = min(start + p.split_keys, seen(min(first + QUERIES, queries()) - 1u));
    let quarter = lane % 4u;
    let col = (work.chunk * p.quads + lane % p.quads) * 4u;

    var largest: array<f32, QUERIES>;
    var sum: array<f32, QUERIES>; // of this invocation's own keys
    var sums: array<vec4<f32>, QUERIES>; // of its keys and columns
    for (var r = 0u; r < QUERIES; r++) { largest[r] = LOWEST; }
    for (var at = start; at < end; at += WG) {
        var score: array<vec4<f32>, QUERIES>;
        var keys: array<u32, 4>;
        for (var c = 0u; c < 4u; c++) { keys[c] = key_of(work, min(at + c * QUARTER + lane / 4u, end - 1u)); }
        for (var begin = 0u; begin < p.dim; begin += 4u * DEEP) {
            if (at == start || p.dim > 4u * DEEP) {
                workgroupBarrier();
                stage_queries(work, lane, begin);
                workgroupBarrier();
            }
            for (var d = begin + 4u * quarter; d < min(begin + 4u * DEEP, p.dim); d += 16u) {
                let a = k_quad(0u, keys[0], d);
                let b = k_quad(0u, keys[1], d);
                let c = k_quad(0u, keys[2], d);
                let e = k_quad(0u, keys[3], d);
                for (var r = 0u; r < QUERIES; r++) {
                    let q = query[r * DEEP + (d - begin) / 4u];
                    score[r] += vec4<f32>(dot(q, a), dot(q, b), dot(q, c), dot(q, e));
                }
            }
        }
        var own: array<f32, QUERIES>; // the scores of key at + lane
        for (var r = 0u; r < QUERIES; r++) {
            workgroupBarrier();
            for (var c = 0u; c < 4u; c++) { shared_parts[c * QUARTER + lane / 4u][quarter] = score[r][c]; }
            workgroupBarrier();
            let parts = shared_parts[lane];
            own[r] = p.scale * ((parts.x + parts.y) + (parts.z + parts.w));
        }

        for (var r = 0u; r < QUERIES; r++) {
            let sees = at + lane < min(end, seen(min(first + r, queries() - 1u)));
            shared_values[r * WG + lane] = select(LOWEST, own[r], sees);
        }
        workgroupBarrier();
        for (var half = WG / 2u; half > 0u; half = half / 2u) {
            if (lane < half) {
                for (var i = lane; i < QUERIES * WG; i += WG) {
                    shared_values[i] = max(shared_values[i], shared_values[i + half]);
                }
            }
            workgroupBarrier();
        }
        var top: array<f32, QUERIES>;
        for (var r = 0u; r < QUERIES; r++) { top[r] = max(largest[r], shared_values[r * WG]); }
        workgroupBarrier();
        for (var r = 0u; r < QUERIES; r++) {
            let sees = at + lane < min(end, seen(min(first + r, queries() - 1u)));
            let factor = exp_of(largest[r] - top[r]);
            let weight = exp_of(own[r] - top[r]);
            largest[r] = top[r];
            sum[r] = sum[r] * factor + select(0.0, weight, sees);
            sums[r] *= factor;
            shared_values[r * WG + lane] = select(-1.0, weight, sees);
        }
        workgroupBarrier();
        if (col < p.width) {
            for (var j = lane / p.quads; j < min(WG, end - at); j += WG / p.quads) {
                let value = v_quad(0u, key_of(work, at + j), col);
                for (var r = 0u; r < QUERIES; r++) {
                    let weight = shared_values[r * WG + j];
                    // Of what a query does not see it takes nothing, not even a NaN.
                    sums[r] += select(weight * value, vec4<f32>(), weight < 0.0);
                }
            }
        }
    }

    workgroupBarrier();
    for (var r = 0u; r < QUERIES; r++) { shared_values[r * WG + lane] = sum[r]; }
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if (lane < half) {
            for (var i = lane; i < QUERIES * WG; i += WG) { shared_values[i] += shared_values[i + half]; }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < QUERIES; r++) {
        shared_parts[lane] = sums[r];
        workgroupBarrier();
        for (var half = WG / 2u; half >= p.quads; half = half / 2u) {
            if (lane < half) { shared_parts[lane] += shared_parts[lane + half]; }
            workgroupBarrier();
        }
        if (lane < p.quads && first + r < queries()) {
            store(work, row_of(work, first + r), col, shared_parts[lane], largest[r], shared_values[r * WG]);
        }
        workgroupBarrier();
    }
}


// score_e = sqrt(softplus(logit_e))
// weight  = scale * score / (sum of the chosen scores + 1e-20)
//
// The chosen: the k largest of score + bias, best first, of equal ones the lower expert, NaN last; with HASH a row of the
// table. What is no expert is -1 with weight 0.
//
// One workgroup per row. An invocation has every WG-th expert and counts those that are chosen before it: their number is
// its own place. Then it has every WG-th place.

struct Params { rows: u32, count: u32, k: u32, known: u32, scale: f32 }
var<immediate> p: Params;

// Experts of a tile: all of a model's. A multiple of WG.
const TILE: u32 = 1024u;
var<workgroup> orders: array<u32, TILE>;

fn score(z: f32) -> f32 {
    if (is_nan(z)) { return z; }
    // There softplus is e^z, which ends before its square root does.
    if (z < -17.0) { return exp_of(0.5 * z); }
    return sqrt(max(z, 0.0) + log1p_of(exp_of(-abs(z))));
}

fn score_of(row: u32, expert: u32) -> f32 { return score(logits_load(row * p.count + expert)); }

fn choose(lane: u32, row: u32) {
    let tiles = (p.count + TILE - 1u) / TILE;
    for (var base = 0u; base < p.count; base += WG) {
        let own = base + lane;
        var order = 0u;
        var before = 0u;
        for (var t = 0u; t < tiles; t++) {
            // The own tile first. An order that was computed elsewhere might not be the same in the last bit.
            let first = (base / TILE + t) % tiles * TILE;
            let held = min(p.count - first, TILE);
            if (base == 0u || tiles > 1u) {
                workgroupBarrier();
                for (var i = lane; i < held; i += WG) {
                    orders[i] = order_of(score_of(row, first + i) + bias_load(first + i));
                }
                workgroupBarrier();
            }
            if (t == 0u && own < p.count) { order = orders[own - first]; }
            for (var i = 0u; i < held; i++) {
                let other = orders[i];
                before += select(0u, 1u, other > order || (other == order && first + i < own));
            }
        }
        if (own < p.count && before < p.k) { experts_store(row * p.k + before, i32(own)); }
    }
}

fn look_up(lane: u32, row: u32) {
    let token = i32(tokens_load(row));
    for (var j = lane; j < p.k; j += WG) {
        var expert = -1;
        if (token >= 0 && u32(token) < p.known) { expert = i32(table_load(u32(token) * p.k + j)); }
        if (expert < 0 || u32(expert) >= p.count) { expert = -1; }
        experts_store(row * p.k + j, expert);
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group_number(group);
    if (row >= p.rows) { return; }
    if (HASH) { look_up(lane, row); } else { choose(lane, row); }
    storageBarrier();
    workgroupBarrier();
    var own = 0.0;
    for (var j = lane; j < p.k; j += WG) {
        let expert = experts_load(row * p.k + j);
        if (expert >= 0) { own += score_of(row, u32(expert)); }
    }
    let sum = group_sum(lane, own) + 1e-20;
    for (var j = lane; j < p.k; j += WG) {
        let expert = experts_load(row * p.k + j);
        var weight = 0.0;
        if (expert >= 0) { weight = p.scale * (score_of(row, u32(expert)) / sum); }
        weights_store(row * p.k + j, weight);
    }
}

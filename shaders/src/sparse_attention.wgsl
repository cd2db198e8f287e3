
// out[t, h] = sum_j w_j K_j / (sum_j w_j + exp(sink[h] - m)) with w_j = exp(z_j - m) and z_j = scale * (q[t, h] . K_j) of the
// places j of row t's lists. m is the running maximum over blocks of 64 places; as BF16 the weights of the sum, and only of the
// sum, are rounded to bf16 under the maximum of their block.
//
// A workgroup has a row, HEADS of its heads, a part of its blocks and a chunk of its columns. Block by block it makes the
// scores, turns them into weights and adds the weighted entries: how its invocations share that is the variant's matter, which
// defines score_block, add_block, store_totals, weight and set_weight.
//
// Where few rows have many places, several workgroups share a row's blocks, and `attention_join` adds up what they leave. A
// weight that is rounded must know the maximum of all blocks before its own: then scores and each block's maximum come first
// (MAKES_SCORES), in a dispatch of their own, and the sums read them (HAS_SCORES). Otherwise no score is stored.

struct Params {
    first_row: u32, rows: u32, heads: u32, depth: u32, places: u32, first_places: u32,
    head_tiles: u32, parts: u32, part_blocks: u32, chunks: u32,
    sequences: u32, table_pages: u32, pages: u32, second_sequences: u32, second_table_pages: u32, second_pages: u32,
    scale: f32,
}
var<immediate> p: Params;

// Invocations that have different heads in softmax, and those that share a head.
const HEAD_LANES: u32 = min(WG, HEADS);
const SHARES: u32 = WG / HEAD_LANES;
const OWN_HEADS: u32 = HEADS / HEAD_LANES;

var<private> own_row: u32;
var<private> first_head: u32;
var<private> own_part: u32;
var<private> own_chunk: u32;
// Of the block at hand.
var<private> first_place: u32;
var<workgroup> slots: array<i32, BLOCK>;
var<workgroup> has_entries: atomic<u32>;
var<workgroup> factors: array<f32, HEADS>;
// By share and head.
var<workgroup> shared_values: array<f32, SHARES * HEADS>;
// Of the heads that an invocation has: the same maximum in all that share a head, and the sum of its own places' weights.
var<private> own_max: array<f32, OWN_HEADS>;
var<private> own_sum: array<f32, OWN_HEADS>;

fn q_rows() -> u32 { return 0u; }
fn q_cols() -> u32 { return p.depth; }
fn blocks() -> u32 { return (p.places + BLOCK - 1u) / BLOCK; }

// Four elements of the queries of the tile's head `h`. Heads that do not exist are the last one once more.
fn query(h: u32, d: u32) -> vec4<f32> {
    return q_quad(0u, (p.first_row + own_row) * p.heads + min(first_head + h, p.heads - 1u), d);
}
// Four elements of the block's entry `j`, zeros where there is none.
fn entry(scope: u32, j: u32, d: u32) -> vec4<f32> {
    let slot = slots[j];
    if (slot < 0) { return vec4<f32>(); }
    return listed(scope, first_place + j, u32(slot), d);
}

// Row of the tile's head `h` among those that lie between the dispatches.
fn scratch_row(h: u32) -> u32 { return own_row * p.heads + first_head + h; }

fn start(first_block: u32, lane: u32) {
    let share = lane / HEAD_LANES;
    for (var i = 0u; i < OWN_HEADS; i++) {
        let h = lane % HEAD_LANES + i * HEAD_LANES;
        own_max[i] = -infinity();
        own_sum[i] = 0.0;
        if (HAS_SCORES && first_head + h < p.heads) {
            for (var b = share; b < first_block; b += SHARES) {
                let x = top_load(scratch_row(h) * blocks() + b);
                if (x > own_max[i]) { own_max[i] = x; }
            }
        }
        shared_values[share * HEADS + h] = own_max[i];
    }
    workgroupBarrier();
    for (var i = 0u; i < OWN_HEADS; i++) { own_max[i] = largest_of(lane % HEAD_LANES + i * HEAD_LANES, own_max[i]); }
}

// The largest that the invocations which share head `h` have left, and `x`.
fn largest_of(h: u32, x: f32) -> f32 {
    var largest = x;
    for (var s = 0u; s < SHARES; s++) {
        let z = shared_values[s * HEADS + h];
        if (z > largest) { largest = z; }
    }
    return largest;
}

fn find_slots(lane: u32) {
    for (var j = lane; j < BLOCK; j += WG) {
        var slot = -1;
        if (first_place + j < p.places) { slot = listed_slot(p.first_row + own_row, first_place + j); }
        slots[j] = slot;
        if (slot >= 0) { atomicStore(&has_entries, 1u); }
    }
}

fn load_scores(lane: u32) {
    for (var u = lane; u < HEADS * BLOCK; u += WG) {
        let h = u / BLOCK;
        let j = u % BLOCK;
        var z = -infinity();
        if (first_head + h < p.heads && first_place + j < p.places) { z = z_load(scratch_row(h) * p.places + first_place + j); }
        set_weight(h, j, z);
    }
}

fn store_scores(lane: u32) {
    for (var u = lane; u < HEADS * BLOCK; u += WG) {
        let h = u / BLOCK;
        let j = u % BLOCK;
        if (first_head + h < p.heads && first_place + j < p.places) {
            z_store(scratch_row(h) * p.places + first_place + j, weight(h, j));
        }
    }
}

// The largest score of each head in the block, of which there are none where it has no entries.
fn store_tops(has: bool, lane: u32) {
    for (var h = lane; h < HEADS; h += WG) {
        if (first_head + h < p.heads) {
            let largest = select(-infinity(), largest_of(h, -infinity()), has);
            top_store(scratch_row(h) * blocks() + first_place / BLOCK, largest);
        }
    }
}

// Leaves the largest score that an invocation has of each of its heads in `shared_values`.
fn share_maxima(lane: u32) {
    let share = lane / HEAD_LANES;
    for (var i = 0u; i < OWN_HEADS; i++) {
        let h = lane % HEAD_LANES + i * HEAD_LANES;
        var largest = -infinity();
        for (var first = share; first < BLOCK; first += 4u * SHARES) {
            for (var c = 0u; c < 4u; c++) {
                let z = weight(h, first + c * SHARES);
                if (z > largest) { largest = z; }
            }
        }
        shared_values[share * HEADS + h] = largest;
    }
}

// Turns the scores of a block into weights under the maximum so far.
fn weigh(lane: u32) {
    let share = lane / HEAD_LANES;
    for (var i = 0u; i < OWN_HEADS; i++) {
        let h = lane % HEAD_LANES + i * HEAD_LANES;
        let largest = largest_of(h, own_max[i]);
        let base = finite_base(largest);
        let factor = exp_of(own_max[i] - base);
        var sum = 0.0;
        for (var first = share; first < BLOCK; first += 4u * SHARES) {
            for (var c = 0u; c < 4u; c++) {
                let w = exp_of(weight(h, first + c * SHARES) - base);
                sum += w;
                set_weight(h, first + c * SHARES, select(w, round_bf16(w), BF16));
            }
        }
        own_sum[i] = own_sum[i] * factor + sum;
        own_max[i] = largest;
        if (share == 0u) { factors[h] = factor; }
    }
}

// Stores four columns of head `h`: of the result, or of what `attention_join` makes it from.
fn store(h: u32, col: u32, sums: vec4<f32>) {
    let head = first_head + h;
    if (head >= p.heads || col >= p.depth) { return; }
    let n = min(4u, p.depth - col);
    if (SPLIT) {
        let at = (own_part * p.rows * p.heads + scratch_row(h)) * p.depth + col;
        for (var j = 0u; j < n; j++) { part_store(at + j, sums[j]); }
        return;
    }
    out_store4(((p.first_row + own_row) * p.heads + head) * p.depth + col, sums * factors[h], n);
}

// Leaves each head's last factor in `factors`, or its maximum and sum with the other parts'.
fn end_softmax(lane: u32) {
    let share = lane / HEAD_LANES;
    workgroupBarrier();
    for (var i = 0u; i < OWN_HEADS; i++) { shared_values[share * HEADS + lane % HEAD_LANES + i * HEAD_LANES] = own_sum[i]; }
    workgroupBarrier();
    for (var i = 0u; i < OWN_HEADS; i++) {
        let h = lane % HEAD_LANES + i * HEAD_LANES;
        if (share == 0u && first_head + h < p.heads) {
            var sum = 0.0;
            for (var s = 0u; s < SHARES; s++) { sum += shared_values[s * HEADS + h]; }
            if (SPLIT) {
                if (own_chunk == 0u) {
                    let at = own_part * p.rows * p.heads + scratch_row(h);
                    part_max_store(at, own_max[i]);
                    part_sum_store(at, sum);
                }
            } else {
                factors[h] = last_factor(own_max[i], sum, sink_load(first_head + h));
            }
        }
    }
    workgroupBarrier();
}

// Blocks from `first` to `end`, whose places are of one scope or of either.
fn go_over(scope: u32, first: u32, end: u32, lane: u32) {
    for (var block = first; block < end; block++) {
        first_place = block * BLOCK;
        if (lane == 0u) { atomicStore(&has_entries, 0u); }
        workgroupBarrier();
        find_slots(lane);
        // Lists of short contexts are mostly empty: a block without entries changes nothing.
        if (workgroupUniformLoad(&has_entries) == 0u) {
            if (MAKES_SCORES) { store_tops(false, lane); }
            continue;
        }
        if (HAS_SCORES) { load_scores(lane); } else { score_block(scope, lane); }
        workgroupBarrier();
        share_maxima(lane);
        workgroupBarrier();
        if (MAKES_SCORES) {
            store_scores(lane);
            store_tops(true, lane);
        } else {
            weigh(lane);
            workgroupBarrier();
            add_block(scope, lane);
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var number = group_number(group);
    if (number >= p.rows * p.head_tiles * p.parts * p.chunks) { return; }
    own_chunk = number % p.chunks;
    number /= p.chunks;
    // Neighbours read the same entries.
    first_head = number % p.head_tiles * HEADS;
    number /= p.head_tiles;
    own_part = number % p.parts;
    own_row = number / p.parts;
    let first_block = own_part * p.part_blocks;
    let end = min(first_block + p.part_blocks, blocks());
    start(first_block, lane);
    // Blocks of the first scope, one that has places of both, blocks of the second.
    let border = select(blocks(), p.first_places / BLOCK, TWO);
    go_over(FIRST, first_block, min(end, border), lane);
    if (MIXED) { go_over(EITHER, max(first_block, border), min(end, border + 1u), lane); }
    if (TWO) { go_over(SECOND, max(first_block, select(border, border + 1u, MIXED)), end, lane); }
    if (MAKES_SCORES) { return; }
    end_softmax(lane);
    store_totals(lane);
}

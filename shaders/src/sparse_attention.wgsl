
// out[t, h] = sum_j w_j K_j / (sum_j w_j + exp(sink[h] - m)) with w_j = exp(z_j - m), from the scores that
// `sparse_attention_scores` left. m is the running maximum over blocks of 64 places; as BF16 the weights of the sum are rounded
// to bf16, under the maximum of their block.
//
// A workgroup makes a tile of one row's heads and elements, block by block.

struct Params {
    first_row: u32, rows: u32, heads: u32, depth: u32, places: u32, first_places: u32, head_tiles: u32, col_tiles: u32,
    sequences: u32, table_pages: u32, pages: u32, second_sequences: u32, second_table_pages: u32, second_pages: u32,
}
var<immediate> p: Params;

const KEYS: u32 = 64u;

var<private> own_row: u32;
var<private> first_head: u32;
var<private> first_place: u32;
var<private> is_last: bool;
var<workgroup> slots: array<i32, KEYS>;

fn a_quad(head: u32, k: u32) -> vec4<f32> {
    let at = (head - first_head) * KEYS + k;
    return vec4<f32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
}
fn b_quad(d: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
        let slot = slots[k + j];
        if (slot >= 0) { v[j] = listed_one(first_place + k + j, u32(slot), d); }
    }
    return v;
}

// Adds a block to what there is, or stores the result.
fn store_sums(head: u32, d: u32, i: u32, n: u32) {
    let r = head - first_head;
    if (!is_last) {
        totals[i] = totals[i] * row_factor[r] + sums[0][i];
        return;
    }
    let x = totals[i] * last_factor(r, sink_load(head));
    let none = row_max[r] == -infinity() && row_sum[r] == 0.0;
    out_store4(((p.first_row + own_row) * p.heads + head) * p.depth + d, select(x, vec4<f32>(), none), n);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group_number(group);
    if (tile >= p.rows * p.head_tiles * p.col_tiles) { return; }
    own_row = tile / p.head_tiles / p.col_tiles;
    first_head = tile / p.col_tiles % p.head_tiles * TILE_ROWS;
    let col = tile % p.col_tiles * TILE_COLS;
    start_softmax(lane);
    for (var place = 0u; place < p.places; place += KEYS) {
        first_place = place;
        workgroupBarrier();
        for (var i = lane; i < KEYS; i += WG) {
            slots[i] = -1;
            if (place + i < p.places) { slots[i] = listed_slot(p.first_row + own_row, place + i); }
        }
        for (var i = lane; i < TILE_ROWS * KEYS; i += WG) {
            let head = first_head + i / KEYS;
            var z = -infinity();
            if (head < p.heads && place + i % KEYS < p.places) {
                z = z_load((own_row * p.heads + head) * p.places + place + i % KEYS);
            }
            weights[i] = z;
        }
        weigh(BF16, lane);
        multiply(0u, first_head, p.heads, col, p.depth, KEYS, lane);
        store_tile(first_head, p.heads, col, p.depth, lane);
    }
    workgroupBarrier();
    is_last = true;
    store_tile(first_head, p.heads, col, p.depth, lane);
}

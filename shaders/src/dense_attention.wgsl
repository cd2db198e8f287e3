
// out[b, t, h] = sum_j softmax_j(scale * q[b, t, h] . k[b, j, g]) v[b, j, g], with a sink in the denominator where there is one.
//
// A workgroup makes a tile of one head's rows and elements. Block by block of keys it makes the scores, their weights under the
// maximum so far, and adds the weighted values. Where some rows of the tile see a key and others do not, values are added key by
// key: nothing times a NaN is NaN.

struct Params {
    batch: u32, rows: u32, heads: u32, depth: u32, keys: u32, groups: u32, width: u32, row_tiles: u32, col_tiles: u32,
    scale: f32,
}
var<immediate> p: Params;

const KEYS: u32 = TILE_COLS;

var<private> own_batch: u32;
var<private> own_head: u32;
var<private> own_group: u32;
var<private> first_row: u32;
var<private> first_key: u32;

const SCORES: u32 = 0u;
const VALUES: u32 = 1u;
const KEY_BY_KEY: u32 = 2u;
const LAST: u32 = 3u;
var<private> phase: u32;

fn q_rows() -> u32 { return 0u; }
fn q_cols() -> u32 { return p.depth; }
fn k_rows() -> u32 { return 0u; }
fn k_cols() -> u32 { return p.depth; }

// Keys that a row sees.
fn seen(row: u32) -> u32 { return select(p.keys, row + 1u + p.keys - p.rows, CAUSAL); }
fn value(key: u32, d: u32) -> f32 { return v_load(((own_batch * p.keys + key) * p.groups + own_group) * p.width + d); }

fn a_quad(row: u32, k: u32) -> vec4<f32> {
    if (phase == SCORES) { return q_quad(0u, (own_batch * p.rows + row) * p.heads + own_head, k); }
    let at = (row - first_row) * KEYS + k;
    return vec4<f32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
}
fn b_quad(col: u32, k: u32) -> vec4<f32> {
    if (phase == SCORES) { return k_quad(0u, (own_batch * p.keys + col) * p.groups + own_group, k); }
    var v = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
        if (first_key + k + j < p.keys) { v[j] = value(first_key + k + j, col); }
    }
    return v;
}

fn store_sums(row: u32, col: u32, i: u32, n: u32) {
    let r = row - first_row;
    if (phase == SCORES) {
        for (var j = 0u; j < n; j++) {
            if (col + j < seen(row)) { weights[r * KEYS + col + j - first_key] = p.scale * sums[0][i][j]; }
        }
    } else if (phase == VALUES) {
        totals[i] = totals[i] * row_factor[r] + sums[0][i];
    } else if (phase == KEY_BY_KEY) {
        totals[i] = totals[i] * row_factor[r];
        for (var key = first_key; key < min(first_key + KEYS, seen(row)); key++) {
            for (var j = 0u; j < n; j++) { totals[i][j] += weights[r * KEYS + key - first_key] * value(key, col + j); }
        }
    } else {
        let none = row_max[r] == -infinity() && row_sum[r] == 0.0;
        let x = totals[i] * last_factor(r, sink_load(own_head));
        out_store4(((own_batch * p.rows + row) * p.heads + own_head) * p.width + col, select(x, vec4<f32>(), none), n);
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var tile = group_number(group);
    if (tile >= p.batch * p.heads * p.row_tiles * p.col_tiles) { return; }
    let col = tile % p.col_tiles * TILE_COLS;
    tile /= p.col_tiles;
    first_row = tile % p.row_tiles * TILE_ROWS;
    tile /= p.row_tiles;
    own_head = tile % p.heads;
    own_batch = tile / p.heads;
    own_group = own_head * p.groups / p.heads;
    let last_row = min(first_row + TILE_ROWS, p.rows) - 1u;
    start_softmax(lane);
    for (var key = 0u; key < seen(last_row); key += KEYS) {
        first_key = key;
        workgroupBarrier();
        for (var i = lane; i < TILE_ROWS * KEYS; i += WG) { weights[i] = -infinity(); }
        workgroupBarrier();
        phase = SCORES;
        multiply(0u, first_row, p.rows, key, p.keys, p.depth, lane);
        store_tile(first_row, p.rows, key, p.keys, lane);
        weigh(false, lane);
        if (key + KEYS <= seen(first_row)) {
            phase = VALUES;
            multiply(0u, first_row, p.rows, col, p.width, KEYS, lane);
        } else {
            phase = KEY_BY_KEY;
        }
        store_tile(first_row, p.rows, col, p.width, lane);
    }
    workgroupBarrier();
    phase = LAST;
    store_tile(first_row, p.rows, col, p.width, lane);
}

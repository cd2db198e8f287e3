
// z[t, h, j] = scale * (q[t, h] . K_j) of every place j of the row's lists, -inf where it names no entry: the first half of
// `sparse_attention`.
//
// A workgroup makes a tile of one row's heads and places.

struct Params {
    first_row: u32, rows: u32, heads: u32, depth: u32, places: u32, first_places: u32, head_tiles: u32, place_tiles: u32,
    sequences: u32, table_pages: u32, pages: u32, second_sequences: u32, second_table_pages: u32, second_pages: u32,
    scale: f32,
}
var<immediate> p: Params;

var<private> own_row: u32;
var<private> first_place: u32;
var<workgroup> slots: array<i32, TILE_COLS>;

fn q_rows() -> u32 { return 0u; }
fn q_cols() -> u32 { return p.depth; }
fn a_quad(head: u32, k: u32) -> vec4<f32> { return q_quad(0u, (p.first_row + own_row) * p.heads + head, k); }
fn b_quad(place: u32, k: u32) -> vec4<f32> {
    let slot = slots[place - first_place];
    if (slot < 0) { return vec4<f32>(); }
    return listed(place, u32(slot), k);
}

fn store_sums(head: u32, place: u32, i: u32, n: u32) {
    for (var j = 0u; j < n; j++) {
        let z = select(p.scale * sums[0][i][j], -infinity(), slots[place + j - first_place] < 0);
        z_store((own_row * p.heads + head) * p.places + place + j, z);
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group_number(group);
    if (tile >= p.rows * p.head_tiles * p.place_tiles) { return; }
    own_row = tile / p.head_tiles / p.place_tiles;
    let head = tile / p.place_tiles % p.head_tiles * TILE_ROWS;
    first_place = tile % p.place_tiles * TILE_COLS;
    for (var i = lane; i < TILE_COLS; i += WG) {
        slots[i] = -1;
        if (first_place + i < p.places) { slots[i] = listed_slot(p.first_row + own_row, first_place + i); }
    }
    workgroupBarrier();
    multiply(0u, head, p.heads, first_place, p.places, p.depth, lane);
    store_tile(head, p.heads, first_place, p.places, lane);
}


// The experts of a tile's rows, one after the other. The kernel defines owner_of(row), -1 for none.

var<private> own_expert: u32;
var<workgroup> tile_least: atomic<i32>;
var<workgroup> tile_next: i32;

const NO_EXPERT: i32 = 0x7fffffff;

// The least expert beyond `after` that a row from `row` on in this tile belongs to.
fn next_expert(after: i32, row: u32, rows: u32, lane: u32) -> i32 {
    workgroupBarrier();
    if (lane == 0u) { atomicStore(&tile_least, NO_EXPERT); }
    workgroupBarrier();
    for (var r = lane; r < TILE_ROWS && row + r < rows; r += WG) {
        let owner = owner_of(row + r);
        if (owner > after) { atomicMin(&tile_least, owner); }
    }
    workgroupBarrier();
    if (lane == 0u) { tile_next = atomicLoad(&tile_least); }
    return workgroupUniformLoad(&tile_next);
}

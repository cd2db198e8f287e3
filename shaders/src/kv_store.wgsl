
// Row t stored as entry entries[t] of its sequence, in the pool's format: packed forms round to bf16 first and have a ue8m0
// scale per block; the padding behind an entry's scales becomes zero. Of rows that name one slot the last one stays.
//
// One workgroup per row. Packed blocks are shared by eight invocations each; parts of a word may belong to other entries.

struct Params { rows: u32, width: u32, sequences: u32, table_pages: u32, pages: u32 }
var<immediate> p: Params;

// FORM: 0 f32, 1 e4m3 and bf16, 2 e2m1.
const BLOCK: u32 = select(64u, 32u, FORM == 2u);

fn pool_sequences() -> u32 { return p.sequences; }
fn pool_table_pages() -> u32 { return p.table_pages; }
fn pool_pages() -> u32 { return p.pages; }

fn slot_of(row: u32) -> i32 { return pool_locate(sequence_load(row), entries_load(row)); }
fn put_byte(at: u32, byte: u32) { pool_merge(at / 4u, 255u << (at % 4u * 8u), byte << (at % 4u * 8u)); }

var<workgroup> named_later: atomic<u32>;
var<workgroup> largest: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group_number(group);
    if (row >= p.rows) { return; }
    let found = slot_of(row);
    if (lane == 0u) { atomicStore(&named_later, 0u); }
    workgroupBarrier();
    if (found >= 0) {
        for (var other = row + 1u + lane; other < p.rows; other += WG) {
            if (slot_of(other) == found) { atomicStore(&named_later, 1u); }
        }
    }
    workgroupBarrier();
    let stored = found >= 0 && atomicLoad(&named_later) == 0u;
    let slot = u32(max(found, 0));
    let start = row * p.width;
    if (FORM == 0u) {
        if (!stored) { return; }
        for (var d = lane; d < p.width; d += WG) {
            pool_put(pool_data_byte(slot) / 4u + d, bitcast<u32>(x_load(start + d)));
        }
        return;
    }
    let blocks = (CODES + BLOCK - 1u) / BLOCK;
    let own = lane % 8u;
    for (var first = 0u; first < blocks; first += WG / 8u) {
        let block = first + lane / 8u;
        let begin = min(block * BLOCK, CODES);
        let end = min(begin + BLOCK, CODES);
        var amax = 0.0;
        for (var d = begin + own; d < end; d += 8u) { amax = amax_of(amax, round_bf16(x_load(start + d))); }
        workgroupBarrier();
        largest[lane] = amax;
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) { amax = amax_of(amax, largest[lane - own + i]); }
        if (block >= blocks || !stored) { continue; }
        var byte = 0u;
        if (FORM == 2u) { byte = e2m1_scale(amax); } else { byte = e4m3_scale(amax); }
        if (own == 0u) { put_byte(pool_scale_byte(slot, block), byte); }
        if (FORM == 1u) {
            for (var d = begin + own; d < end; d += 8u) {
                put_byte(pool_data_byte(slot) + d, e4m3_of(round_bf16(x_load(start + d)), byte));
            }
        } else {
            for (var d = begin + own * 2u; d < end; d += 16u) {
                let even = e2m1_of(round_bf16(x_load(start + d)), byte);
                let odd = e2m1_of(round_bf16(x_load(start + d + 1u)), byte);
                put_byte(pool_data_byte(slot) + d / 2u, even | (odd << 4u));
            }
        }
    }
    if (!stored) { return; }
    for (var d = CODES + lane; d < p.width; d += WG) {
        let at = pool_data_byte(slot) + CODES + 2u * (d - CODES);
        let shift = (at & 2u) << 3u;
        pool_merge(at / 4u, 0xffffu << shift, bf16_bits(x_load(start + d)) << shift);
    }
    for (var block = blocks + lane; block < SCALES; block += WG) { put_byte(pool_scale_byte(slot, block), 0u); }
}

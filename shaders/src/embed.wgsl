
// out[t, i] = table[ids[t]], zeros for a number outside the table.

struct Params { known: u32, width: u32, copies: u32, count: u32 }
var<immediate> p: Params;

fn element(i: u32) -> f32 {
    let id = ids_load(i / p.width / p.copies);
    if (id < 0 || u32(id) >= p.known) { return 0.0; }
    return table_load(u32(id) * p.width + i % p.width);
}

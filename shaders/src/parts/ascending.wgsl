
// The experts of a row in ascending order, an expert that is named twice twice.

struct Chosen { expert: i32, slot: u32 }

// The next one behind `after`; slot `chosen` where there is none. The first is behind (-1, 0): experts below 0 are none.
fn next_chosen(row: u32, after: Chosen, chosen: u32, experts: u32) -> Chosen {
    var next = Chosen(i32(experts), chosen);
    for (var slot = 0u; slot < chosen; slot++) {
        let e = experts_load(row * chosen + slot);
        let behind = e > after.expert || (e == after.expert && slot > after.slot);
        if (e >= 0 && behind && e < next.expert) { next = Chosen(e, slot); }
    }
    return next;
}

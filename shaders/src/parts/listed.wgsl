
// The entries that a row's lists name, place by place, the second scope's behind the first's.

fn pool_sequences() -> u32 { return p.sequences; }
fn pool_table_pages() -> u32 { return p.table_pages; }
fn pool_pages() -> u32 { return p.pages; }
fn second_sequences() -> u32 { return p.second_sequences; }
fn second_table_pages() -> u32 { return p.second_table_pages; }
fn second_pages() -> u32 { return p.second_pages; }

// The slot of a place, -1 where it names no entry.
fn listed_slot(row: u32, place: u32) -> i32 {
    if (place < p.first_places) { return pool_locate(sequence_load(row), entries_load(row * p.first_places + place)); }
    let at = place - p.first_places;
    return second_locate(second_sequence_load(row), second_entries_load(row * (p.places - p.first_places) + at));
}

// Which scope places belong to, where that is known of all places at hand. Drivers in software run both sides of a branch, so
// that it is a constant wherever it can be.
const FIRST: u32 = 0u;
const SECOND: u32 = 1u;
const EITHER: u32 = 2u;

fn listed(scope: u32, place: u32, slot: u32, d: u32) -> vec4<f32> {
    if (scope == FIRST || (scope == EITHER && place < p.first_places)) { return pool_entries(slot, d); }
    return second_entries(slot, d);
}

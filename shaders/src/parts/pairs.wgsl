
// Pairs of a row and one of its experts, as the kernels of `expert_ffn` see them: in the order of the rows, or SORTED by
// expert. Behind them comes each row once more, for the shared expert, whose number is 0.

var<private> is_shared: bool;

// Kernels define pair_rows() and pair_experts(); `own_row` counts pairs, or rows of the shared expert.
fn owner_of(place: u32) -> i32 {
    if (is_shared) { return 0; }
    let e = owner_load(select(p.first_row * p.chosen, 0u, SORTED) + place);
    return select(-1, e, e >= 0 && e < i32(p.experts));
}
// Which row of the operation a place belongs to, and which of its pairs.
fn pair_of(place: u32) -> u32 {
    if (SORTED) { return u32(order_load(place)); }
    return p.first_row * p.chosen + place;
}
fn row_of(place: u32) -> u32 {
    if (is_shared) { return p.first_row + place; }
    return pair_of(place) / p.chosen;
}

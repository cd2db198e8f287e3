
// Elements `i` and `i + 1` of `out`, the second only where there is one: in one word where they share it.
fn out_pair(i: u32, a: f32, b: f32, both: bool) {
    if (both && (i & 1u) == 0u) { out_store2(i, a, b); return; }
    out_store(i, a);
    if (both) { out_store(i + 1u, b); }
}

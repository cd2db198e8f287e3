
// What `newton_schulz_norm` left, put together by every workgroup that needs it.

fn largest(lane: u32) -> f32 {
    var amax = 0.0;
    for (var i = lane; i < PARTS; i += WG) { amax = amax_of(amax, largest_load(i)); }
    return group_amax(lane, amax);
}


// out = w * silu(min(gate, limit)) * clamp(up, -limit, limit), w one factor per row.

struct Params { width: u32, count: u32, limit: f32 }
var<immediate> p: Params;

fn element(i: u32) -> f32 { return swiglu(gate_load(i), up_load(i), weights_load(i / p.width), p.limit); }


// out = codes times their scales.

struct Params { rows: u32, cols: u32, count: u32 }
var<immediate> p: Params;

fn x_rows() -> u32 { return p.rows; }
fn x_cols() -> u32 { return p.cols; }
fn element(i: u32) -> f32 { return x_at(i / p.cols / p.rows, i / p.cols % p.rows, i % p.cols); }

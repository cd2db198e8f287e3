
// How a tile of dense attention reads its operands, and how its rows leave: as results, or as parts of results for
// `attention_join`.

fn q_rows() -> u32 { return 0u; }
fn q_cols() -> u32 { return p.dim; }
fn k_rows() -> u32 { return 0u; }
fn k_cols() -> u32 { return p.dim; }
fn v_rows() -> u32 { return 0u; }
fn v_cols() -> u32 { return p.width; }

fn store(work: Task, row: u32, col: u32, sums: vec4<f32>, largest: f32, sum: f32) {
    if (col >= p.width) { return; }
    if (SPLIT) {
        let part = work.split * p.count + row;
        if (col == 0u) {
            part_max_store(part, largest);
            part_sum_store(part, sum);
        }
        for (var j = 0u; j < min(4u, p.width - col); j++) { part_store(part * p.width + col + j, sums[j]); }
        return;
    }
    out_store4(row * p.width + col, sums * ending(row, largest, sum), min(4u, p.width - col));
}

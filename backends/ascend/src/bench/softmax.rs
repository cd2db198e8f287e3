//! A softmax of rows in UB, as the vendor's sample has it: one function for all of it.

use super::{BenchError, Case, Shape};
use crate::isa::{Axis, Elem, Global, Pipe, Red};
use crate::kernel::{Context, Kernel};
use crate::machine::{Profile, Space};
use crate::sim::{Gm, Options, capacity, launch};

/// `rows` of `cols`, as many as one vector half has room for.
pub(super) fn case(profile: &Profile, shape: &Shape) -> Result<Case, BenchError> {
    shape.only(&["rows", "cols"])?;
    let [rows, cols] = [shape.size("rows", Some(128), 4096)?, shape.size("cols", Some(128), 4096)?];
    let (bytes, room) = (4 * rows * (cols + 16), capacity(profile, Space::Ub));
    if bytes as usize > room {
        return Err(BenchError::Shape { problem: format!("{rows} rows of {cols} f32 have to fit {room} bytes") });
    }
    let values: Vec<u8> = (0..rows * cols).flat_map(|i| ((i % 97) as f32 / 8.0).to_le_bytes()).collect();
    let mut out = vec![0; values.len()];
    let mut gm = Gm::default();
    let matrix = |region| Global::new(region, 0, Elem::F32, rows, cols);
    let kernel = Softmax { x: matrix(gm.input("x", &values)), out: matrix(gm.output("out", &mut out)) };
    let report = launch(profile, &kernel, &gm, Options::checked());
    if let Some(hazard) = report.hazards.errors().next() {
        return Err(BenchError::Wrong { problem: hazard.to_string() });
    }
    drop(gm);
    for (row, out) in out.chunks_exact(4 * cols as usize).enumerate() {
        let sum: f32 = out.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).sum();
        // As many roundings as there are terms, and one for each quotient.
        if (sum - 1.0).abs() > 2.0 * cols as f32 * f32::EPSILON {
            return Err(BenchError::Wrong { problem: format!("row {row} sums to {sum}") });
        }
    }
    let mut gm = Gm::default();
    let bytes = u64::from(rows) * u64::from(cols) * 4;
    let kernel = Softmax { x: matrix(gm.phantom("x", bytes)), out: matrix(gm.phantom("out", bytes)) };
    Ok(Case::new(kernel, gm, "rows sum to 1, without hazards"))
}

/// Softmax of a matrix of f32 by one vector half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Softmax {
    pub(super) x: Global,
    pub(super) out: Global,
}

impl Kernel for Softmax {
    fn cores(&self) -> usize {
        1
    }

    fn vector(&self, cx: &mut Context<'_>) {
        if cx.half() == 1 {
            return;
        }
        let (rows, cols) = (self.x.rows, self.x.cols);
        let x = cx.ub(Elem::F32, rows, cols);
        let [most, sum] = [(); 2].map(|()| cx.ub(Elem::F32, rows, 1));
        let loaded = cx.flag(Pipe::Mte2, Pipe::V);
        let computed = cx.flag(Pipe::V, Pipe::Mte3);
        cx.load_ub(self.x, x);
        cx.set_flag(Pipe::Mte2, Pipe::V, loaded);
        cx.wait_flag(Pipe::Mte2, Pipe::V, loaded);
        cx.fused(|cx| {
            cx.reduce(Red::Max, Axis::Row, most, x);
            cx.sub(x, x, most);
            cx.exp(x, x);
            cx.reduce(Red::Sum, Axis::Row, sum, x);
            cx.div(x, x, sum);
        });
        cx.set_flag(Pipe::V, Pipe::Mte3, computed);
        cx.wait_flag(Pipe::V, Pipe::Mte3, computed);
        cx.store(x, self.out);
    }
}

//! `out = sum of y_e over the row's experts, ascending, + y_shared`, `y_e = W2_e h_e`,
//! `h_e = w_e * silu(min(W1_e x, limit)) * clamp(W3_e x, -limit, limit)`
//!
//! Rows are sorted by expert and copied in that order; then the products are those of `expert_gemm`.

mod combine;
mod gated;
mod gather;
mod lists;
mod route;
#[cfg(test)]
mod times;

use super::gemm::{Gemm, Split};
use super::operand::{Plan, Ready, Source, Used, scale_cols};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global};
use crate::sim::Gm;
use anychip_core::host::write;
use anychip_core::ops::{self, ExpertWeights, Intermediates, Operation};
use anychip_core::{Format, Matrix, Numerics, Result, ScaleLayout, Support};
use combine::{Combine, Routed};
use gated::Gated;
use gather::Gather;
use lists::Lists;

const NAME: &str = ops::ExpertFfn::NAME;

pub(crate) fn supports(_op: &ops::ExpertFfn, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(op: &ops::ExpertFfn, npu: &Npu) -> Numerics {
    let of_h = format_of_h(op.intermediates);
    let all = [Some(&op.routed), op.shared.as_ref()].into_iter().flatten();
    let products = all.flat_map(|w| [(op.x.format(), &w.gate), (op.x.format(), &w.up), (of_h, &w.down)]);
    products.fold(Numerics::f32(), |all, (x, w)| {
        let one = Plan::of(npu, x, w.format()).numerics([x, w.format()]);
        Numerics { flushes_subnormals: all.flushes_subnormals || one.flushes_subnormals, ..all }
    })
}

fn format_of_h(intermediates: Intermediates) -> Format {
    match intermediates {
        Intermediates::Exact => Format::Plain(anychip_core::DType::F32),
        Intermediates::Served { block } => Format::E4M3(ScaleLayout::per_row(block)),
    }
}

pub(crate) fn run(op: &ops::ExpertFfn, npu: &Npu) -> Result<()> {
    let (rows, hidden, k) = (op.x.rows(), op.x.cols(), op.experts.size(1));
    if op.out.count() == 0 {
        return Ok(());
    }
    let layer = Layer { op, npu };
    let chosen = op.routed.gate.groups() > 0 && k > 0;
    let lists = if chosen { Some(Lists::of(op, npu)?) } else { None };
    let routed = match &lists {
        Some(lists) => {
            Some(layer.results(&op.routed, Users { rows: rows * k, offsets: &lists.offsets, lists: Some(lists) })?)
        }
        None => None,
    };
    let whole: Vec<u8> = [0, rows as i32].iter().flat_map(|at| at.to_le_bytes()).collect();
    let shared = match &op.shared {
        Some(weights) => Some(layer.results(weights, Users { rows, offsets: &whole, lists: None })?),
        None => None,
    };
    let mut out = write(&op.out)?;
    let mut gm = Gm::default();
    let result = layer.rounded();
    let matrix = |region, rows: usize| Global::new(region, 0, result, rows as u32, hidden as u32);
    let kernel = Combine {
        routed: lists.as_ref().zip(routed.as_ref()).map(|(lists, results)| Routed {
            results: matrix(gm.input("results", results), rows * k),
            places: Global::new(gm.input("places", &lists.places), 0, Elem::I32, k as u32, rows as u32),
        }),
        shared: shared.as_ref().map(|results| matrix(gm.input("shared", results), rows)),
        out: Global::new(gm.output("out", out.bytes_mut()), 0, elem(&op.out), rows as u32, hidden as u32),
        cores: npu.vector_cores(rows),
    };
    npu.launch(NAME, &kernel, &gm)
}

/// Rows of some experts.
#[derive(Clone, Copy)]
struct Users<'a> {
    /// Rows, sorted by expert.
    rows: usize,
    /// First row of each expert, and the end.
    offsets: &'a [u8],
    /// Which rows of `x` they are, and their weights; all of `x`, with weight 1, where it is not said.
    lists: Option<&'a Lists>,
}

struct Layer<'a> {
    op: &'a ops::ExpertFfn,
    npu: &'a Npu,
}

impl Layer<'_> {
    /// What products are stored as.
    fn rounded(&self) -> Elem {
        if self.op.intermediates == Intermediates::Exact { Elem::F32 } else { Elem::BF16 }
    }

    /// The results of experts, row by row as their users are sorted.
    fn results(&self, weights: &ExpertWeights, users: Users<'_>) -> Result<Vec<u8>> {
        let x = &self.op.x;
        let plan = |w: &Matrix| Plan::of(self.npu, x.format(), w.format());
        let (gate, up) = (plan(&weights.gate), plan(&weights.up));
        let rows = self.rows_of_x(gate, users)?;
        let gates = self.product(&rows, &weights.gate, gate, users)?;
        let others = if up == gate { None } else { Some(self.rows_of_x(up, users)?) };
        let ups = self.product(others.as_ref().unwrap_or(&rows), &weights.up, up, users)?;
        let down = Plan::of(self.npu, format_of_h(self.op.intermediates), weights.down.format());
        let h = self.between(&gates, &ups, weights.gate.rows(), down, users)?;
        self.product(&h, &weights.down, down, users)
    }

    /// Rows of `x` as users are sorted.
    fn rows_of_x(&self, plan: Plan, users: Users<'_>) -> Result<Ready<'_>> {
        let x = &self.op.x;
        let ready = Source::rows(x, 1).ready(NAME, self.npu, plan)?;
        let Some(lists) = users.lists else { return Ok(ready) };
        let gathered = |bytes: &[u8], width: usize| self.gather(bytes, width, users.rows, &lists.rows);
        let codes = gathered(ready.codes(), plan.elem.bytes(x.cols()))?;
        let scales = ready.scales().map(|scales| gathered(scales, scale_cols(x.cols()))).transpose()?;
        Ok(Ready::made(plan.elem, [users.rows, x.cols()], codes, scales))
    }

    /// Rows of so many bytes by a list.
    fn gather(&self, from: &[u8], width: usize, rows: usize, list: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; rows * width];
        if out.is_empty() {
            return Ok(out);
        }
        let mut gm = Gm::default();
        let all = |region, rows: usize| Global::new(region, 0, Elem::U8, rows as u32, width as u32);
        let kernel = Gather {
            from: all(gm.input("x", from), from.len() / width),
            list: Global::new(gm.input("list", list), 0, Elem::I32, 1, rows as u32),
            out: all(gm.output("sorted", &mut out), rows),
            cores: self.npu.vector_cores(rows),
        };
        self.npu.launch(NAME, &kernel, &gm)?;
        drop(gm);
        Ok(out)
    }

    /// `w[e] x` for the rows of each expert.
    fn product(&self, x: &Ready<'_>, w: &Matrix, plan: Plan, users: Users<'_>) -> Result<Vec<u8>> {
        let (count, n, k) = (w.groups() as u32, w.rows(), w.cols());
        let used = Some(Used { offsets: users.offsets, rows: users.rows });
        let ready = Source::weights(w, used).ready(NAME, self.npu, plan)?;
        let mut out = vec![0; self.rounded().bytes(users.rows * n)];
        if out.is_empty() {
            return Ok(out);
        }
        let mut gm = Gm::default();
        let offsets = Global::new(gm.input("offsets", users.offsets), 0, Elem::I32, 1, count + 1);
        let region = gm.output("products", &mut out);
        let operands = [x.add(&mut gm, ["x", "x scales"]), ready.add(&mut gm, ["w", "w scales"])];
        let to = Global::new(region, 0, self.rounded(), users.rows as u32, n as u32);
        let kernel = Gemm::new(self.npu.profile(), operands, to, [n, k], Split::Rows { offsets, count });
        self.npu.launch(NAME, &kernel, &gm)?;
        drop(gm);
        Ok(out)
    }

    /// `h`, as the last product takes it.
    fn between(&self, gate: &[u8], up: &[u8], inner: usize, plan: Plan, users: Users<'_>) -> Result<Ready<'static>> {
        let rows = users.rows;
        let mut codes = vec![0; plan.elem.bytes(rows * inner)];
        let mut scales = plan.mx.then(|| vec![0; rows * scale_cols(inner)]);
        if rows * inner > 0 {
            let mut gm = Gm::default();
            let all = |region, elem| Global::new(region, 0, elem, rows as u32, inner as u32);
            let kernel = Gated {
                gate: all(gm.input("gate", gate), self.rounded()),
                up: all(gm.input("up", up), self.rounded()),
                shares: users
                    .lists
                    .map(|lists| Global::new(gm.input("shares", &lists.shares), 0, Elem::F32, 1, rows as u32)),
                limit: self.op.limit,
                block: match self.op.intermediates {
                    Intermediates::Exact => None,
                    Intermediates::Served { block } => Some(u32::try_from(block).unwrap_or(u32::MAX)),
                },
                out: all(gm.output("h", &mut codes), plan.elem),
                scales: scales.as_mut().map(|scales| {
                    let region = gm.output("h scales", scales);
                    Global::new(region, 0, Elem::U8, rows as u32, scale_cols(inner) as u32)
                }),
                cores: self.npu.vector_cores(rows),
            };
            self.npu.launch(NAME, &kernel, &gm)?;
        }
        Ok(Ready::made(plan.elem, [rows, inner], codes, scales))
    }
}

//! `out[t,h] = sum_j exp(z_j - m) K_j / (sum_j exp(z_j - m) + exp(sink[h] - m))`, `z_j = scale * (q[t,h] . K_j)`
//!
//! Vectors look up the lists, gather entries and unpack them for the cube. Queries in bf16 over packed pools are multiplied
//! as bf16, in which unpacked entries are exact; everything else is multiplied as f32.

use super::attention::{self, Attention, Needs, Plan, Run, Step};
use super::operand::{Plan as Multiplied, Source};
use super::paged::{self, Keys, Lists, Operands, Room, Scope, resolve};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Tile};
use crate::kernel::{Context, Kernel};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation, Rounding};
use anychip_core::{DType, KvFormat, Matrix, Numerics, Result, Support};
use std::ops::Range;

/// Keys of a block.
const KEYS: u32 = ops::SparseAttention::BLOCK as u32;
/// Heads that a core takes at least where there are fewer rows than cores.
const HEADS: usize = 16;

pub(crate) fn supports(op: &ops::SparseAttention, npu: &Npu) -> Support {
    if let Some(no) = op.scopes.iter().map(|scope| paged::supported(&scope.kv)).find(|support| !support.is_native()) {
        return no;
    }
    if op.out.count() == 0 || plan(op, npu).is_some() {
        return Support::Native;
    }
    Support::unsupported("elements of an entry", "as many as a block of 64 fits into a core", op.q.size(2).to_string())
}

pub(crate) fn numerics(op: &ops::SparseAttention, _npu: &Npu) -> Numerics {
    let narrow = multiplied(op) == Elem::BF16;
    let rounded = narrow && op.rounding == Rounding::None;
    // bf16 has no numbers as small as the smallest f32 that a code and its scale make.
    let intermediates = rounded.then_some(("weights", DType::BF16)).into_iter().collect();
    Numerics { intermediates, flushes_subnormals: narrow, ..Numerics::f32() }
}

/// The type that queries and keys are multiplied as.
fn multiplied(op: &ops::SparseAttention) -> Elem {
    let plain = op.scopes.iter().any(|scope| matches!(scope.kv.pool.format(), KvFormat::F32 { .. }));
    if elem(&op.q) == Elem::BF16 && !plain { Elem::BF16 } else { Elem::F32 }
}

fn plan(op: &ops::SparseAttention, npu: &Npu) -> Option<Plan> {
    let (rows, heads, dim) = (op.q.size(0), op.q.size(1), op.q.size(2) as u32);
    let elem_of = multiplied(op);
    let cores = npu.profile().figures.cube_cores as usize;
    // Few rows are divided by heads, each part of which gathers the keys for itself.
    let shared = heads.div_ceil((cores / rows.max(1)).max(1)).max(HEADS).min(heads);
    let formats = || op.scopes.iter().map(|scope| scope.kv.pool.format());
    let direct = npu.is_950() && formats().all(|format| paged::part_fits(format, elem_of));
    let needs = Needs {
        elem: elem_of,
        dim,
        value: dim,
        shared: true,
        rows: shared as u32,
        keys: KEYS,
        fixed: op.rounding == Rounding::Bf16,
        out: elem(&op.out),
        heads: heads as u32,
        unpacking: Some(Room::of(formats(), elem_of, npu.is_950())),
        threads: npu.is_950() && formats().all(|format| format.scale_bytes() > 0),
        direct,
    };
    let plan = Plan::new(npu.profile(), needs)?;
    let rounded = op.rounding == Rounding::Bf16;
    Some(Plan { scale: op.scale, rounded: rounded && elem_of == Elem::F32, ..plan })
}

pub(crate) fn run(op: &ops::SparseAttention, npu: &Npu) -> Result<()> {
    let Some(plan) = plan(op, npu).filter(|_| op.out.count() > 0) else { return Ok(()) };
    let mut out = write(&op.out)?;
    let (rows, heads) = (op.q.size(0), op.q.size(1));
    let q = Matrix::plain(&op.q.reshape(&[rows * heads, op.q.size(2)])?)?;
    let multiplied = Multiplied { elem: plan.needs.elem, mx: false };
    let q = Source::rows(&q, 1).ready(ops::SparseAttention::NAME, npu, multiplied)?;
    let sink = read(&op.sink)?;
    let operands: Result<Vec<Operands<'_>>> =
        op.scopes.iter().map(|scope| Operands::of(&scope.kv, Some(&scope.entries))).collect();
    let operands = operands?;
    let mut gm = Gm::default();
    // Without a rule for blocks, a scope's begin with it: then what is behind the lists of another changes nothing.
    let unit = if plan.needs.fixed { 1 } else { plan.keys };
    let (mut scopes, mut places): (Vec<Scope>, u32) = (Vec::new(), 0);
    for (scope, of) in op.scopes.iter().zip(&operands) {
        let start = places.next_multiple_of(unit);
        let count = scope.entries.size(1) as u32;
        scopes.push(Scope::new(&mut gm, &scope.kv, of, count, start));
        places = start + count;
    }
    let scaled = scopes.iter().any(|scope| scope.scales().is_some());
    let mut kernel = SparseAttention {
        q: gm.input("q", q.codes()),
        out: gm.output("out", out.bytes_mut()),
        rows: rows as u64,
        heads: heads as u32,
        lists: Lists { region: 0, rows: 1, places: places.max(1), scaled },
        scopes,
        plan: Plan { sink: Some(Global::new(gm.input("sink", sink.bytes()), 0, Elem::F32, 1, heads as u32)), ..plan },
        cores: 1,
    };
    kernel.cores = (kernel.items() as usize).clamp(1, npu.profile().figures.cube_cores as usize);
    kernel.lists.rows = (0..kernel.cores)
        .map(|core| {
            let rows = kernel.rows_of(core);
            rows.end - rows.start
        })
        .max()
        .unwrap_or(1);
    let bytes = Lists::bytes(kernel.lists.rows, kernel.lists.places, kernel.cores);
    kernel.lists.region = gm.scratch("lists", bytes);
    kernel.plan = kernel.plan.with_memory(npu, &mut gm, kernel.cores);
    npu.launch(ops::SparseAttention::NAME, &kernel, &gm)
}

struct SparseAttention {
    q: u16,
    out: u16,
    rows: u64,
    heads: u32,
    scopes: Vec<Scope>,
    lists: Lists,
    plan: Plan,
    cores: usize,
}

impl SparseAttention {
    /// Pieces of a row's heads.
    fn tiles(&self) -> u64 {
        self.heads.div_ceil(self.plan.rows).into()
    }

    fn items(&self) -> u64 {
        self.rows * self.tiles()
    }

    /// A core's pieces of work: adjacent ones.
    fn items_of(&self, core: usize) -> Range<u64> {
        let (core, cores) = (core as u64, self.cores as u64);
        self.items() * core / cores..self.items() * (core + 1) / cores
    }

    /// Rows that a core has a piece of.
    fn rows_of(&self, core: usize) -> Range<u64> {
        let items = self.items_of(core);
        items.start / self.tiles()..items.end.div_ceil(self.tiles())
    }

    /// Rows of an operand that are an item's heads.
    fn matrix(&self, region: u16, elem: Elem, step: &Step) -> Global {
        let width = self.plan.needs.dim;
        let row = step.item / self.tiles() * u64::from(self.heads) + u64::from(step.head);
        Global::new(region, row * elem.bytes(width as usize) as u64, elem, step.rows, width)
    }
}

impl Attention for SparseAttention {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn steps(&self, core: usize, _cores: usize) -> Vec<Step> {
        let (tile, keys, places) = (self.plan.rows, self.plan.keys, self.lists.places);
        let steps = self.items_of(core).enumerate().flat_map(|(turn, item)| {
            let head = (item % self.tiles()) as u32 * tile;
            let rows = tile.min(self.heads - head);
            (0..places.div_ceil(keys)).map(move |block| Step {
                item,
                turn,
                block: block as usize,
                rows,
                heads: rows,
                head,
                keys: keys.min(places - block * keys),
                limit: None,
                last: (block + 1) * keys >= places,
            })
        });
        steps.collect()
    }

    fn load_queries(&self, cx: &mut Context<'_>, step: &Step, to: Tile) {
        cx.load_nd2nz(self.matrix(self.q, to.elem, step), to);
    }

    fn load_keys(&self, _cx: &mut Context<'_>, _step: &Step, _to: Tile) {}

    fn load_values(&self, _cx: &mut Context<'_>, _step: &Step, _to: Tile) {}

    fn outputs(&self, step: &Step, first: u32, rows: u32) -> Vec<Run> {
        let all = self.matrix(self.out, self.plan.needs.out, step);
        vec![(0, all.part(first.into(), rows, 0, all.cols))]
    }
}

impl Kernel for SparseAttention {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        attention::cube(cx, self);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let rows = self.rows_of(cx.core());
        let (tiles, first) = (self.tiles(), rows.start);
        resolve(cx, &self.scopes, &self.lists, rows);
        attention::vector(cx, self, |cx| {
            let row_of = Box::new(move |step: &Step| step.item / tiles - first);
            Keys::new(cx, &self.plan, &self.scopes, self.lists, row_of)
        });
    }
}

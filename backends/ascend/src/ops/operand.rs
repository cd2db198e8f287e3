//! Operands of products: in which type the cube multiplies them, and what brings them there.
//!
//! Codes with power-of-two scales per 32 or a multiple of it are multiplied as they are where the cube has MX formats; e2m1
//! next to e4m3 becomes e4m3, which has all of its numbers. Elsewhere vectors multiply codes by their scales: power-of-two
//! ones give bf16 without loss down to its smallest normal number, other ones f32. Operands of two float types become f32.

mod convert;
mod scales;

use super::gemm::{Operand, Split};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, MX_GROUP};
use crate::kernel::Context;
use crate::sim::Gm;
use anychip_core::host::{Read, read};
use anychip_core::{Format, Matrix, Numerics, Result, ScaleLayout, ScaleType};
use convert::Convert;
use scales::Spread;

/// Columns of MX scales that a row of `k` has: one for each 32, as many as complete the last 64.
pub(super) fn scale_cols(k: usize) -> usize {
    2 * k.div_ceil(2 * MX_GROUP as usize)
}

/// How the cube multiplies two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Their type.
    pub(super) elem: Elem,
    /// Whether they keep their scales.
    pub(super) mx: bool,
}

impl Plan {
    pub(super) fn of(npu: &Npu, x: Format, w: Format) -> Plan {
        if npu.is_950() && is_mx(x) && is_mx(w) {
            let four = [x, w].iter().all(|format| matches!(format, Format::E2M1(_)));
            return Plan { elem: if four { Elem::E2M1 } else { Elem::E4M3 }, mx: true };
        }
        let [x, w] = [x, w].map(wide);
        Plan { elem: if x == w { x } else { Elem::F32 }, mx: false }
    }

    /// What it promises: bf16 has no numbers as small as the smallest f32 that a code and its scale make.
    pub(super) fn numerics(self, formats: [Format; 2]) -> Numerics {
        let converted = formats.iter().any(|format| format.layout().is_some());
        Numerics { flushes_subnormals: !self.mx && self.elem == Elem::BF16 && converted, ..Numerics::f32() }
    }
}

/// Whether the scales are such as MX formats have.
fn is_mx(format: Format) -> bool {
    format.layout().is_some_and(|l| l.scale == ScaleType::Ue8m0 && l.cols.is_multiple_of(MX_GROUP as usize))
}

/// The float type that has all of an operand's numbers.
fn wide(format: Format) -> Elem {
    match (format, format.layout()) {
        (_, Some(ScaleLayout { scale: ScaleType::Ue8m0, .. })) => Elem::BF16,
        (_, Some(_)) => Elem::F32,
        (plain, None) => plain.dtype().into(),
    }
}

/// Bytes of an operand of a launch: a tensor's, or what an earlier launch has made.
pub(super) enum Bytes<'a> {
    /// A tensor's.
    Lent(Read<'a>),
    /// Made.
    Own(Vec<u8>),
}

impl Bytes<'_> {
    pub(super) fn get(&self) -> &[u8] {
        match self {
            Bytes::Lent(read) => read.bytes(),
            Bytes::Own(bytes) => bytes,
        }
    }
}

/// An operand as the cube takes it.
pub(super) struct Ready<'a> {
    elem: Elem,
    rows: u32,
    cols: u32,
    codes: Bytes<'a>,
    /// MX scales, and how many columns of them a row has.
    scales: Option<(Bytes<'a>, u32)>,
}

impl<'a> Ready<'a> {
    /// What an earlier launch has made: rows, and their MX scales.
    pub(super) fn made(elem: Elem, [rows, cols]: [usize; 2], codes: Vec<u8>, scales: Option<Vec<u8>>) -> Ready<'a> {
        let scales = scales.map(|scales| (Bytes::Own(scales), scale_cols(cols) as u32));
        Ready { elem, rows: rows as u32, cols: cols as u32, codes: Bytes::Own(codes), scales }
    }

    /// Its elements or codes.
    pub(super) fn codes(&self) -> &[u8] {
        self.codes.get()
    }

    /// Its MX scales.
    pub(super) fn scales(&self) -> Option<&[u8]> {
        self.scales.as_ref().map(|(scales, _)| scales.get())
    }

    /// Adds it to a launch.
    pub(super) fn add<'g>(&'g self, gm: &mut Gm<'g>, names: [&'static str; 2]) -> Operand {
        let codes = gm.input(names[0], self.codes.get());
        let scales = self.scales.as_ref().map(|(scales, cols)| {
            let region = gm.input(names[1], scales.get());
            Global::new(region, 0, Elem::E8M0, self.rows, *cols)
        });
        Operand { codes: Global::new(codes, 0, self.elem, self.rows, self.cols), scales }
    }
}

/// Which groups of weights are used.
#[derive(Clone, Copy)]
pub(super) struct Used<'m> {
    /// First rows of each group's users, and the end.
    pub(super) offsets: &'m [u8],
    /// Rows in all.
    pub(super) rows: usize,
}

/// An operand of an operation.
#[derive(Clone, Copy)]
pub(super) struct Source<'m> {
    /// The matrix.
    pub(super) matrix: &'m Matrix,
    /// Groups of columns that products take one at a time; 1 for weights.
    pub(super) groups: usize,
    /// Which groups are used: others are not looked at. All where it is not said.
    pub(super) used: Option<Used<'m>>,
    /// Whether it is the right operand, whose codes the product's own vectors widen.
    pub(super) is_weight: bool,
}

impl<'m> Source<'m> {
    /// A left operand, whose rows have so many groups of columns.
    pub(super) fn rows(matrix: &'m Matrix, groups: usize) -> Source<'m> {
        Source { matrix, groups, used: None, is_weight: false }
    }

    /// A right operand.
    pub(super) fn weights(matrix: &'m Matrix, used: Option<Used<'m>>) -> Source<'m> {
        Source { matrix, groups: 1, used, is_weight: true }
    }

    /// Brings it to the type of a plan, with launches of its own where it is of another.
    pub(super) fn ready(self, op: &'static str, npu: &Npu, plan: Plan) -> Result<Ready<'m>> {
        let Source { matrix, groups, .. } = self;
        let (rows, cols) = (matrix.groups() * matrix.rows(), matrix.cols());
        let codes = Bytes::Lent(read(matrix.codes())?);
        let mut ready = Ready { elem: plan.elem, rows: rows as u32, cols: cols as u32, codes, scales: None };
        let scales = match matrix.scales() {
            Some((tensor, layout)) => Some((read(tensor)?, layout)),
            None => None,
        };
        let from = elem(matrix.codes());
        let is_fed = self.is_weight && plan.mx && from == Elem::E2M1;
        if is_fed {
            ready.elem = from;
        } else if from != plan.elem && rows * cols > 0 {
            let applied = scales.as_ref().filter(|_| !plan.mx).map(|(bytes, layout)| (bytes.bytes(), *layout));
            let converted = self.convert(op, npu, plan.elem, ready.codes.get(), applied)?;
            ready.codes = Bytes::Own(converted);
        }
        if let (true, Some((bytes, layout))) = (plan.mx, scales) {
            let inner = cols / groups.max(1);
            // Scales that lie as the cube takes them.
            let as_is = layout.rows == 1 && layout.cols == MX_GROUP as usize && inner.is_multiple_of(2 * layout.cols);
            let scales = match as_is {
                true => Bytes::Lent(bytes),
                false => Bytes::Own(self.spread(op, npu, bytes.bytes(), layout)?),
            };
            ready.scales = Some((scales, (groups * scale_cols(inner)) as u32));
        }
        Ok(ready)
    }

    /// In another type; codes times their scales, where they have some that are applied.
    fn convert(
        self,
        op: &'static str,
        npu: &Npu,
        to: Elem,
        codes: &[u8],
        scales: Option<(&[u8], ScaleLayout)>,
    ) -> Result<Vec<u8>> {
        let matrix = self.matrix;
        let (groups, rows, cols) = (matrix.groups(), matrix.rows(), matrix.cols());
        let mut converted = vec![0; to.bytes(groups * rows * cols)];
        let mut gm = Gm::default();
        let all = |region, elem| Global::new(region, 0, elem, (groups * rows) as u32, cols as u32);
        let codes = all(gm.input("codes", codes), elem(matrix.codes()));
        let scales = scales.map(|(bytes, layout)| {
            let values = convert::values(gm.input("scales", bytes), layout, groups * rows.div_ceil(layout.rows), cols);
            convert::Scales { values, rows: layout.rows as u32, cols: layout.cols as u32 }
        });
        let used = self.used(&mut gm);
        let out = all(self.result(&mut gm, &mut converted), to);
        let cores = npu.vector_cores((groups * rows * cols).div_ceil(convert::STEP as usize));
        let kernel = Convert { codes, scales, out, groups: groups as u32, rows: rows as u32, used, cores };
        npu.launch(op, &kernel, &gm)?;
        drop(gm);
        Ok(converted)
    }

    /// Its scales as MX has them: for each row and each 32 columns one.
    fn spread(self, op: &'static str, npu: &Npu, scales: &[u8], layout: ScaleLayout) -> Result<Vec<u8>> {
        let Source { matrix, groups: columns, .. } = self;
        // Groups of columns are rows of their own: each has whole blocks.
        let (groups, rows, inner) = (matrix.groups(), matrix.rows() * columns, matrix.cols() / columns.max(1));
        let wide = scale_cols(inner);
        let mut spread = vec![0; groups * rows * wide];
        if spread.is_empty() {
            return Ok(spread);
        }
        let mut gm = Gm::default();
        let (high, of_row) = (rows.div_ceil(layout.rows), inner.div_ceil(layout.cols));
        let from = Global::new(gm.input("scales", scales), 0, Elem::U8, (groups * high) as u32, of_row as u32);
        let used = self.used(&mut gm);
        let region = self.result(&mut gm, &mut spread);
        let kernel = Spread {
            from,
            block: layout.rows as u32,
            repeat: layout.cols as u32 / MX_GROUP,
            out: Global::new(region, 0, Elem::U8, (groups * rows) as u32, wide as u32),
            groups: groups as u32,
            used,
            cores: npu.vector_cores((groups * rows * wide).div_ceil(convert::STEP as usize)),
        };
        npu.launch(op, &kernel, &gm)?;
        drop(gm);
        Ok(spread)
    }

    fn used<'g>(&self, gm: &mut Gm<'g>) -> Option<(Split, u64)>
    where
        'm: 'g,
    {
        let Used { offsets, rows } = self.used?;
        let count = self.matrix.groups() as u32;
        let offsets = Global::new(gm.input("offsets", offsets), 0, Elem::I32, 1, count + 1);
        Some((Split::Rows { offsets, count }, rows as u64))
    }

    /// Groups that are not used are not written.
    fn result<'g>(&self, gm: &mut Gm<'g>, bytes: &'g mut [u8]) -> u16 {
        if self.used.is_some() { gm.state("result", bytes) } else { gm.output("result", bytes) }
    }
}

/// Groups of weights that a launch looks at.
fn groups_in_use(cx: &mut Context<'_>, groups: u32, used: Option<(Split, u64)>) -> Vec<u32> {
    let Some((split, rows)) = used else { return (0..groups).collect() };
    let mut all: Vec<u32> = split.sections(cx, rows).iter().filter_map(|section| section.weight).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Cuts a length into pieces of `most` at most. None reaches from one block into another, unless it has whole ones.
fn cuts(len: u32, block: u32, most: u32) -> Vec<(u32, u32)> {
    let block = block.clamp(1, len.max(1));
    let step = if block <= most { most / block * block } else { block };
    let mut all = Vec::new();
    for start in (0..len).step_by(step as usize) {
        let end = len.min(start.saturating_add(step));
        all.extend((start..end).step_by(most as usize).map(|at| (at, most.min(end - at))));
    }
    all
}

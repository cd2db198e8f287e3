//! What an operation becomes: kernels, what is bound to each, and how many workgroups run. Made without a driver.

use crate::limits::{LEAST_BINDING, Limits, MOST_GROUPS};
use anychip_core::{Buffer, DType, KvFormat, Matrix, Op, Paged, Reason, ScaleType, Tensor};
use anychip_shaders::{Access, Constant, MatrixRead, PoolForm, PoolRead, Slot, Spec, Storage};
use std::collections::HashSet;

/// How a pool is read that has no entries.
const NO_POOL: PoolRead = PoolRead { form: PoolForm::Absent, data_bytes: 0, scale_bytes: 0, page_bytes: 0 };
/// Where an operand of a kernel lies.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In an operand of the operation.
    Given { buffer: Buffer, offset: u64, bytes: u64 },
    /// In memory that the plan needs between its kernels, by number.
    Scratch { number: usize, bytes: u64 },
    /// Nowhere.
    Absent,
}

impl Place {
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Place::Given { bytes, .. } | Place::Scratch { bytes, .. } => *bytes,
            Place::Absent => 0,
        }
    }

    /// For an operand that lies in two of an allocation's buffers or more: bytes from where its first window begins, which
    /// then is where windows of the whole allocation do, so that none lies in two.
    fn skipped(&self, limits: &Limits, window: u64) -> Option<u64> {
        match self {
            Place::Given { buffer, offset, bytes } if limits.divide(buffer.bytes()) && *bytes > 0 => {
                let part = limits.part_bytes();
                (offset / part != (offset + bytes - 1) / part).then_some(offset % window)
            }
            _ => None,
        }
    }
}

/// One dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) spec: Spec,
    pub(crate) places: Vec<Place>,
    pub(crate) params: Vec<u32>,
    pub(crate) groups: [u32; 3],
    /// Turns that the loops of an invocation make together, at most.
    pub(crate) turns: usize,
}

/// The dispatches of an operation, in order.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) limits: Limits,
    pub(crate) steps: Vec<Step>,
    /// Bytes of each scratch memory.
    pub(crate) scratch: Vec<u64>,
    /// Bytes that its kernels read and write.
    pub(crate) moved: u64,
}

/// Memory between kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scratch {
    number: usize,
    bytes: u64,
}

impl Plan {
    pub(crate) fn new(limits: Limits) -> Plan {
        Plan { limits, steps: Vec::new(), scratch: Vec::new(), moved: 0 }
    }

    /// Sets [`moved`](Plan::moved) for an operation that moves `least` bytes at least: to those come operands that several
    /// kernels read, none of which needs more of one than the operation does, and what lies between kernels.
    pub(crate) fn count_moved(&mut self, least: u64) {
        let mut bound = HashSet::new();
        let again = |place: &Place| match place {
            Place::Given { buffer, offset, .. } if bound.insert((buffer.id(), *offset)) => 0,
            Place::Given { bytes, .. } => least.min(*bytes),
            place => place.bytes(),
        };
        self.moved = self.steps.iter().flat_map(|step| &step.places).map(again).fold(least, u64::saturating_add);
    }

    /// Memory for `count` words, whose contents are undefined until a kernel stores them.
    pub(crate) fn scratch(&mut self, count: usize) -> Scratch {
        let bytes = (count as u64 * 4).max(LEAST_BINDING);
        self.scratch.push(bytes);
        Scratch { number: self.scratch.len() - 1, bytes }
    }

    /// Begins a dispatch of a kernel.
    pub(crate) fn kernel(&mut self, name: &'static str) -> Building<'_> {
        let window = self.limits.window();
        let spec = Spec { kernel: name, variant: None, slots: Vec::new(), constants: Vec::new(), window };
        Building { plan: self, step: Step { spec, places: Vec::new(), params: Vec::new(), groups: [0; 3], turns: 0 } }
    }
}

/// A kernel as an operation uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelUse {
    /// What its pipeline is made from.
    pub spec: Spec,
    /// Words of its immediates.
    pub params: usize,
    /// Turns that the loops of an invocation make together, at most.
    pub turns: usize,
}

/// The kernels that `op` becomes under `limits`, in order. Nothing is run, and no driver is needed.
///
/// # Errors
/// Why there are none.
pub fn kernels_of(op: &Op, limits: &Limits) -> Result<Vec<KernelUse>, Reason> {
    let plan = crate::ops::plan(op, limits)?;
    let used = |step: Step| KernelUse { spec: step.spec, params: step.params.len(), turns: step.turns };
    Ok(plan.steps.into_iter().map(used).collect())
}

/// A dispatch that is being put together.
pub(crate) struct Building<'a> {
    plan: &'a mut Plan,
    step: Step,
}

impl<'a> Building<'a> {
    /// An operand that lies at `place`.
    pub(crate) fn slot(mut self, name: &'static str, storage: Storage, access: Access, place: Place) -> Self {
        let bytes = place.bytes();
        let window = self.step.spec.window.0;
        let skipped = place.skipped(&self.plan.limits, window);
        // An operand without elements has nothing to bind. Nobody looks at what it reads as.
        let (storage, windows) = match bytes {
            0 if matches!(storage, Storage::Absent(_) | Storage::NoIntegers) => (storage, 0),
            0 if storage == Storage::I32 => (Storage::NoIntegers, 0),
            0 => (Storage::Absent(0), 0),
            _ if skipped.is_none() && bytes <= self.plan.limits.binding_bytes => (storage, 1),
            _ => (storage, (skipped.unwrap_or(0) + bytes).div_ceil(window).min(u32::MAX as u64) as u32),
        };
        let skipped = (skipped.unwrap_or(0) / 4) as u32;
        self.step.spec.slots.push(Slot { name, storage, access, windows, skipped, matrix: None, pool: None });
        self.step.places.push(place);
        self
    }

    /// A tensor that is read.
    pub(crate) fn read(self, name: &'static str, tensor: &Tensor) -> Self {
        self.slot(name, storage(tensor.dtype()), Access::Read, given(tensor))
    }

    /// A tensor that is read, `default` in every element where there is none.
    pub(crate) fn read_or(self, name: &'static str, tensor: Option<&Tensor>, default: f32) -> Self {
        match tensor {
            Some(tensor) => self.read(name, tensor),
            None => {
                let storage = Storage::Absent(default.to_bits());
                self.slot(name, storage, Access::Read, Place::Absent)
            }
        }
    }

    /// A tensor that is written.
    pub(crate) fn write(self, name: &'static str, tensor: &Tensor) -> Self {
        self.slot(name, storage(tensor.dtype()), Access::Write, given(tensor))
    }

    /// A tensor that is written, or what becomes of stores where there is none: nothing.
    pub(crate) fn write_or_none(self, name: &'static str, tensor: Option<&Tensor>) -> Self {
        match tensor {
            Some(tensor) => self.write(name, tensor),
            None => self.slot(name, Storage::Absent(0), Access::Write, Place::Absent),
        }
    }

    /// A tensor that is read and written.
    pub(crate) fn change(self, name: &'static str, tensor: &Tensor) -> Self {
        self.slot(name, storage(tensor.dtype()), Access::ReadWrite, given(tensor))
    }

    /// Builds the kernel on one of the variants of a part.
    pub(crate) fn variant(mut self, name: &'static str) -> Self {
        self.step.spec.variant = Some(name);
        self
    }

    /// A matrix that is read in rows; see [`MatrixRead`]. Its scales, where it has any, are called `scale_name`.
    pub(crate) fn matrix(self, name: &'static str, scale_name: &'static str, matrix: &Matrix) -> Self {
        self.matrix_in(name, scale_name, matrix, matrix.cols())
    }

    /// The same of one that is read in runs of `run` columns, each from its own beginning.
    pub(crate) fn matrix_in(
        mut self,
        name: &'static str,
        scale_name: &'static str,
        matrix: &Matrix,
        run: usize,
    ) -> Self {
        let layout = matrix.format().layout();
        let whole = |n: usize| n.is_multiple_of(4);
        let aligned = whole(run) && whole(matrix.cols()) && layout.is_none_or(|l| whole(l.cols));
        if let Some((scales, layout)) = matrix.scales() {
            let storage = match layout.scale {
                ScaleType::Ue8m0 => Storage::UE8M0,
                ScaleType::F32 => Storage::F32,
            };
            self = self.slot(scale_name, storage, Access::Read, given(scales));
        }
        // Blocks beyond 2^32 are as good as the whole row.
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX / 2);
        let block = layout.map(|l| (number(l.rows), number(l.cols)));
        self.read(name, matrix.codes()).read_by(block, aligned)
    }

    /// A paged pool and its page table, which is called `table_name`.
    pub(crate) fn pool(self, name: &'static str, table_name: &'static str, access: Access, kv: &Paged) -> Self {
        let format = kv.pool.format();
        let form = match format {
            KvFormat::Fp8 { nope, rope } => PoolForm::Fp8(nope as u32, rope as u32),
            KvFormat::Fp4 { dim } => PoolForm::Fp4(dim as u32),
            _ => PoolForm::F32(format.dim() as u32),
        };
        let pool = PoolRead {
            form,
            data_bytes: format.data_bytes() as u32,
            scale_bytes: format.scale_bytes() as u32,
            page_bytes: format.page_bytes() as u32,
        };
        let pages = given(kv.pool.pages());
        // A pool without pages has nothing to bind.
        let pool = if pages.bytes() == 0 { NO_POOL } else { pool };
        self.read(table_name, &kv.table).slot(name, Storage::Bytes, access, pages).pooled(pool)
    }

    /// Integers that this call does not have.
    pub(crate) fn none(self, name: &'static str) -> Self {
        self.slot(name, Storage::NoIntegers, Access::Read, Place::Absent)
    }

    /// Integers that this call may not have.
    pub(crate) fn read_or_none(self, name: &'static str, tensor: Option<&Tensor>) -> Self {
        match tensor {
            Some(tensor) => self.read(name, tensor),
            None => self.none(name),
        }
    }

    /// A pool that this call does not have.
    pub(crate) fn no_pool(self, name: &'static str, table_name: &'static str) -> Self {
        self.none(table_name).read_or(name, None, 0.0).pooled(NO_POOL)
    }

    /// A matrix that this call may not have, in which case its elements read as zeros.
    pub(crate) fn matrix_or_none(self, name: &'static str, scale_name: &'static str, matrix: Option<&Matrix>) -> Self {
        match matrix {
            Some(matrix) => self.matrix(name, scale_name, matrix),
            None => self.read_or(name, None, 0.0).read_by(None, false),
        }
    }

    /// A tensor that is read in rows of `cols` plain elements; see [`MatrixRead`].
    pub(crate) fn rows(self, name: &'static str, tensor: &Tensor, cols: usize) -> Self {
        self.read(name, tensor).read_by(None, cols.is_multiple_of(4))
    }

    /// Has the operand just added read in rows; see [`MatrixRead`].
    fn read_by(mut self, block: Option<(u32, u32)>, aligned: bool) -> Self {
        if let Some(slot) = self.step.spec.slots.last_mut() {
            slot.matrix = Some(MatrixRead { block, aligned });
        }
        self
    }

    /// Has the operand just added read entry by entry.
    fn pooled(mut self, pool: PoolRead) -> Self {
        if let Some(slot) = self.step.spec.slots.last_mut() {
            slot.pool = Some(pool);
        }
        self
    }

    /// Memory between kernels.
    pub(crate) fn scratch(self, name: &'static str, storage: Storage, access: Access, of: Scratch) -> Self {
        let place = Place::Scratch { number: of.number, bytes: of.bytes };
        self.slot(name, storage, access, place)
    }

    /// Fills a constant of the kernel's text.
    pub(crate) fn number(mut self, name: &'static str, value: u32) -> Self {
        self.step.spec.constants.push((name, Constant::Number(value)));
        self
    }

    /// The same of a switch.
    pub(crate) fn flag(mut self, name: &'static str, value: bool) -> Self {
        self.step.spec.constants.push((name, Constant::Flag(value)));
        self
    }

    /// The immediates: sizes in the order of the kernel's `Params`.
    pub(crate) fn sizes(mut self, sizes: &[usize]) -> Self {
        self.step.params.extend(sizes.iter().map(|&n| n as u32));
        self
    }

    /// More of them, f32.
    pub(crate) fn floats(mut self, values: &[f32]) -> Self {
        self.step.params.extend(values.iter().map(|x| x.to_bits()));
        self
    }

    /// States how many turns the loops of an invocation make together, at most, counting no loop whose bounds are small
    /// constants: drivers unroll those. Without it nothing runs.
    pub(crate) fn turns(mut self, most: usize) -> Bounded<'a> {
        self.step.turns = most;
        Bounded(self)
    }
}

/// A dispatch whose loops are known to end.
pub(crate) struct Bounded<'a>(Building<'a>);

impl Bounded<'_> {
    /// Runs `count` workgroups of `size` invocations, numbered by the kernel's `group_number`.
    pub(crate) fn run(self, size: u32, count: usize) {
        let Building { plan, mut step } = self.0;
        let count = count as u64;
        let rows = count.div_ceil(MOST_GROUPS as u64);
        step.groups = [count.min(MOST_GROUPS as u64) as u32, rows as u32, 1];
        step.spec.constants.push(("WG", Constant::Number(size)));
        if count > 0 {
            plan.steps.push(step);
        }
    }

    /// Runs as many workgroups as hold `count` invocations.
    pub(crate) fn run_each(self, count: usize) {
        let size = self.0.plan.limits.group();
        self.run(size, count.div_ceil(size as usize));
    }
}

fn given(tensor: &Tensor) -> Place {
    Place::Given { buffer: tensor.buffer().clone(), offset: tensor.offset(), bytes: tensor.bytes() }
}

/// How the elements of a tensor lie in memory.
pub(crate) fn storage(dtype: DType) -> Storage {
    match dtype {
        DType::F32 => Storage::F32,
        DType::BF16 => Storage::BF16,
        DType::F16 => Storage::F16,
        DType::E4M3 => Storage::E4M3,
        DType::E2M1 => Storage::E2M1,
        DType::UE8M0 => Storage::UE8M0,
        DType::I32 => Storage::I32,
        _ => Storage::Bytes,
    }
}

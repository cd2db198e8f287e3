//! The instruction set: what a kernel is made of.
//!
//! An instruction belongs to an engine, which runs its own in order; engines overlap. What it reads and writes follows from
//! its operands ([`Instr::accesses`]): the checks, the simulator and the trace all go by that.

mod access;
pub mod e5m2;
mod elem;
mod fix;
pub mod hif8;
mod tile;
mod vector;

pub use access::{Access, Place};
pub(crate) use access::{local, strided};
pub use elem::Elem;
pub(crate) use fix::fix_halves;
pub use fix::{Fix, FixHalf, FixMode, FixTo, Quant};
pub use tile::{Blocks, Global, Tile};
pub(crate) use vector::conversions;
pub use vector::{Axis, Bin, Cmp, Count, MX_GROUP, Operand, Red, Round, Un, Vector, casts};

use std::fmt;
use std::panic::Location;

/// An engine of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pipe {
    /// The scalar unit, which issues the instructions of all others.
    S,
    /// Vectors.
    V,
    /// The cube.
    M,
    /// From L1 to the cube.
    Mte1,
    /// From global memory.
    Mte2,
    /// From UB, and from L1 where it has a way out.
    Mte3,
    /// From the cube's sums.
    Fix,
}

impl Pipe {
    /// All of them.
    pub const ALL: [Pipe; 7] = [Pipe::S, Pipe::V, Pipe::M, Pipe::Mte1, Pipe::Mte2, Pipe::Mte3, Pipe::Fix];

    /// Its name in the vendor's tools.
    pub fn name(self) -> &'static str {
        match self {
            Pipe::S => "SCALAR",
            Pipe::V => "VECTOR",
            Pipe::M => "CUBE",
            Pipe::Mte1 => "MTE1",
            Pipe::Mte2 => "MTE2",
            Pipe::Mte3 => "MTE3",
            Pipe::Fix => "FIXP",
        }
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who issues instructions: a core's cube half, or one of its two vector halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Cube.
    Aic,
    /// First vector half.
    Aiv0,
    /// Second vector half.
    Aiv1,
}

impl Unit {
    /// All of a core.
    pub const ALL: [Unit; 3] = [Unit::Aic, Unit::Aiv0, Unit::Aiv1];

    /// The vector half of a number.
    pub const fn vector(half: usize) -> Unit {
        if half == 0 { Unit::Aiv0 } else { Unit::Aiv1 }
    }

    /// The engines that it has.
    pub const fn pipes(self) -> &'static [Pipe] {
        match self {
            Unit::Aic => &[Pipe::S, Pipe::M, Pipe::Mte1, Pipe::Mte2, Pipe::Fix, Pipe::Mte3],
            _ => &[Pipe::S, Pipe::V, Pipe::Mte2, Pipe::Mte3],
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Aic => "AIC",
            Unit::Aiv0 => "AIV0",
            Unit::Aiv1 => "AIV1",
        })
    }
}

/// What a product does with the sums that are there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Overwrites them.
    Zero,
    /// Adds to them.
    Accumulate,
    /// Begins with a row of the bias table for all rows.
    Bias(Tile),
}

/// Coupling of a product and the transfer of its sums, by 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnitFlag {
    /// Not coupled.
    Off,
    /// Coupled, with more to come.
    Keep,
    /// Coupled, the last.
    Last,
}

/// Products of fewer tiles of 16 x 16 follow one another too fast for their sums to be there; from as many on the cube keeps the
/// order itself.
pub(crate) const CHAINED: u32 = 10;

/// `to (+)= a b`, `a` of `m x k`, `b` of `k x n`: `MMAD`, `MMAD_BIAS`, `MMAD_MX`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mmad {
    /// Sums, f32 or i32, in L0C.
    pub to: Tile,
    /// Left operand, in L0A.
    pub a: Tile,
    /// Right operand, in L0B.
    pub b: Tile,
    /// MX scales of both, `m x k/32` in L0A's scale memory and `n x k/32` in L0B's.
    pub scales: Option<(Tile, Tile)>,
    /// What is there before.
    pub init: Init,
    /// Coupling with FixPipe.
    pub unit_flag: UnitFlag,
}

/// An engine, or all of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Barrier {
    /// One.
    Pipe(Pipe),
    /// All.
    All,
}

/// Whom a flag between cores reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// 0: all units of one kind, of all cores.
    Everywhere,
    /// 1: the two vector halves of a core.
    Vectors,
    /// 2: the cube and both vector halves: the cube waits for both, both wait for the cube.
    Core,
    /// 4: the cube and one vector half.
    Half(u8),
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// `LD_GM_UB`: a burst a row.
    LoadUb(Global, Tile),
    /// `LD_GM_L1_ND2NZ`: a burst a row; columns of the last fractals that the matrix has not are zero.
    LoadNd2Nz(Global, Tile),
    /// `LD_GM_L1_NZ`: a matrix that lies in fractals in global memory: see [`Global::fractals`].
    LoadNz(Global, Tile),
    /// `LD_NDDMA_UB`: elements at a distance in bytes from one another in each row.
    LoadNdDma(Global, u64, Tile),
    /// `LD_GATHER_UB`: the rows that a list names; a row that is not there is zero. It stands for what kernels write out: the
    /// scalar unit takes two numbers of the list, one transfer has two bursts, from the one row to the other by the distance
    /// between them. Which of the two comes first in UB is left to the list, not to their places.
    GatherRows {
        /// All rows.
        from: Global,
        /// Integers, one a row.
        index: Tile,
        /// The rows.
        to: Tile,
    },
    /// `LD_GM_L1_SCALE`: MX scales, `rows x k/32`, into fractals of 16 x 2.
    LoadScale(Global, Tile),
    /// `PREFETCH_L2`.
    Prefetch(Global),
    /// `LD_L1_L0A`; the flag says that `from` is the transpose.
    LoadL0a(Tile, Tile, bool),
    /// `LD_L1_L0B`; the flag says that `from` is the transpose: rows of a weight, which lie as L0B wants them.
    LoadL0b(Tile, Tile, bool),
    /// `LD_L1_L0A_MX`.
    LoadL0aMx(Tile, Tile),
    /// `LD_L1_L0B_MX`.
    LoadL0bMx(Tile, Tile),
    /// `LD_L1_BT`.
    LoadBt(Tile, Tile),
    /// `LD_L1_FB`.
    LoadFb(Tile, Tile),
    /// `LD_L1_UB`: to the vector half given.
    LoadL1Ub(Tile, Tile, u8),
    /// `FILL_L1` with the bits of a number.
    FillL1(Tile, u32),
    /// `LD_GM_L0`: whole fractals straight to the cube, which only the 910B has. As to L1, they lie in global memory as they do
    /// behind it: what puts rows into fractals on the way is `LD_GM_L1_ND2NZ` alone.
    LoadL0Gm(Global, Tile),
    /// `L1-GM`, which only the 910B has.
    StoreL1Gm(Tile, Global),
    /// A product.
    Mmad(Mmad),
    /// Sums to where they go.
    Fix(Fix),
    /// `ST_UB_GM`; the flag says that it adds.
    StoreGm(Tile, Global, bool),
    /// `ST_UB_L1`.
    StoreL1(Tile, Tile),
    /// Vectors.
    Vector(Vector),
    /// `SLOAD`: the bits that the kernel went by.
    ScalarLoad(Global, u32),
    /// `SLOAD` of each element of a tile in UB: the 32 bits of each that the kernel went by, if it did.
    ScalarLoadUb(Tile, Vec<u32>),
    /// `SSTORE` to global memory.
    ScalarStore(Global, u32),
    /// `SSTORE` to UB.
    ScalarStoreUb(Tile, u32),
    /// `SLOAD` of a word of the mailbox ([`Tile::word`]): the bits that the kernel goes by. Recording knows nothing of what
    /// other units store, so a kernel says what it takes the word to be, and is told where it is another.
    MailboxLoad(Tile, u32),
    /// `SSTORE` of a word to the mailbox.
    MailboxStore(Tile, u32),
    /// `SIMT_GATHER`: rows by a list, by threads through their cache, which takes the end of UB.
    SimtGather {
        /// All rows.
        from: Global,
        /// Integers, one a row.
        index: Tile,
        /// The rows.
        to: Tile,
    },
    /// `SET_FLAG`, by the first engine for the second.
    SetFlag(Pipe, Pipe, u8),
    /// `WAIT_FLAG`, of the second engine for the first.
    WaitFlag(Pipe, Pipe, u8),
    /// `BARRIER`.
    Barrier(Barrier),
    /// `XSET`, by an engine.
    CrossSet(Pipe, Mode, u8),
    /// `XWAIT`, of an engine.
    CrossWait(Pipe, Mode, u8),
    /// `MUTEX_LOCK` by an engine.
    Lock(Pipe, u8),
    /// `MUTEX_UNLOCK`.
    Unlock(Pipe, u8),
    /// `DCCI`: the scalar unit forgets what it has of global memory.
    Dcci,
}

/// An instruction of a kernel.
#[derive(Clone, Debug)]
pub struct Instr {
    /// What it does.
    pub body: Body,
    /// The kernel's line that gave it.
    pub line: &'static Location<'static>,
}

impl Instr {
    /// The engine that runs it; `None` for a barrier of all.
    pub fn pipe(&self) -> Option<Pipe> {
        Some(match &self.body {
            Body::LoadUb(..)
            | Body::LoadNd2Nz(..)
            | Body::LoadNz(..)
            | Body::LoadNdDma(..)
            | Body::GatherRows { .. }
            | Body::LoadScale(..)
            | Body::LoadL0Gm(..)
            | Body::Prefetch(..) => Pipe::Mte2,
            Body::LoadL0a(..)
            | Body::LoadL0b(..)
            | Body::LoadL0aMx(..)
            | Body::LoadL0bMx(..)
            | Body::LoadBt(..)
            | Body::LoadL1Ub(..)
            | Body::FillL1(..) => Pipe::Mte1,
            Body::Mmad(_) => Pipe::M,
            Body::Fix(_) | Body::LoadFb(..) => Pipe::Fix,
            Body::StoreGm(..) | Body::StoreL1(..) | Body::StoreL1Gm(..) => Pipe::Mte3,
            Body::Vector(_) => Pipe::V,
            Body::ScalarLoad(..)
            | Body::ScalarLoadUb(..)
            | Body::ScalarStore(..)
            | Body::ScalarStoreUb(..)
            | Body::MailboxLoad(..)
            | Body::MailboxStore(..)
            | Body::SimtGather { .. }
            | Body::Dcci => Pipe::S,
            Body::SetFlag(pipe, ..)
            | Body::WaitFlag(_, pipe, _)
            | Body::CrossSet(pipe, ..)
            | Body::CrossWait(pipe, ..)
            | Body::Lock(pipe, _)
            | Body::Unlock(pipe, _)
            | Body::Barrier(Barrier::Pipe(pipe)) => *pipe,
            Body::Barrier(Barrier::All) => return None,
        })
    }

    /// Whether others wait for it, or it for others.
    pub fn is_order(&self) -> bool {
        match &self.body {
            Body::SetFlag(..)
            | Body::WaitFlag(..)
            | Body::Barrier(_)
            | Body::CrossSet(..)
            | Body::CrossWait(..)
            | Body::Lock(..)
            | Body::Unlock(..) => true,
            Body::Mmad(Mmad { unit_flag, .. }) | Body::Fix(Fix { unit_flag, .. }) => *unit_flag != UnitFlag::Off,
            _ => false,
        }
    }

    /// Its name in the instruction set.
    pub fn name(&self) -> &'static str {
        match &self.body {
            Body::LoadUb(..) => "LD_GM_UB",
            Body::LoadNd2Nz(..) => "LD_GM_L1_ND2NZ",
            Body::LoadNz(..) => "LD_GM_L1_NZ",
            Body::LoadNdDma(..) => "LD_NDDMA_UB",
            Body::GatherRows { .. } => "LD_GATHER_UB",
            Body::LoadScale(..) => "LD_GM_L1_SCALE",
            Body::Prefetch(..) => "PREFETCH_L2",
            Body::LoadL0a(..) => "LD_L1_L0A",
            Body::LoadL0b(..) => "LD_L1_L0B",
            Body::LoadL0aMx(..) => "LD_L1_L0A_MX",
            Body::LoadL0bMx(..) => "LD_L1_L0B_MX",
            Body::LoadBt(..) => "LD_L1_BT",
            Body::LoadFb(..) => "LD_L1_FB",
            Body::LoadL1Ub(..) => "LD_L1_UB",
            Body::FillL1(..) => "FILL_L1",
            Body::LoadL0Gm(..) => "LD_GM_L0",
            Body::StoreL1Gm(..) => "ST_L1_GM",
            Body::Mmad(Mmad { scales: Some(_), .. }) => "MMAD_MX",
            Body::Mmad(Mmad { init: Init::Bias(_), .. }) => "MMAD_BIAS",
            Body::Mmad(_) => "MMAD",
            Body::Fix(Fix { to: FixTo::Gm(_), .. }) => "FIX_L0C_GM",
            Body::Fix(Fix { to: FixTo::L1(_), .. }) => "FIX_L0C_L1",
            Body::Fix(Fix { to: FixTo::Ub(..), .. }) => "FIX_L0C_UB",
            Body::StoreGm(..) => "ST_UB_GM",
            Body::StoreL1(..) => "ST_UB_L1",
            Body::Vector(vector) => vector.name(),
            Body::ScalarLoad(..) | Body::ScalarLoadUb(..) | Body::MailboxLoad(..) => "SLOAD",
            Body::ScalarStore(..) | Body::ScalarStoreUb(..) | Body::MailboxStore(..) => "SSTORE",
            Body::SimtGather { .. } => "SIMT_GATHER",
            Body::SetFlag(..) => "SET_FLAG",
            Body::WaitFlag(..) => "WAIT_FLAG",
            Body::Barrier(_) => "BARRIER",
            Body::CrossSet(..) => "XSET",
            Body::CrossWait(..) => "XWAIT",
            Body::Lock(..) => "MUTEX_LOCK",
            Body::Unlock(..) => "MUTEX_UNLOCK",
            Body::Dcci => "DCCI",
        }
    }
}

impl fmt::Display for Instr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.name(), self.line.file(), self.line.line())
    }
}

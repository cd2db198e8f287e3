//! Kernels: what a porter writes, in the manner of Ascend C.
//!
//! A kernel says what the cube half and each vector half of a core do, as calls of a [`Context`] that records them. Engines
//! run what was recorded side by side; flags ([`Queue`], [`Context::set_flag`]) order them. A kernel may go by what lies in
//! global memory before the launch ([`Context::load_i32`]), not by what it computes itself.
//!
//! ```
//! use anychip_ascend::isa::{Elem, Global, Pipe, Tile};
//! use anychip_ascend::kernel::{Context, Kernel, Queue};
//! use anychip_ascend::machine::{Profile, Space};
//! use anychip_ascend::sim::{Gm, Options, launch};
//!
//! /// Doubles rows of 64 numbers, which go round through two buffers.
//! struct Double { x: u16, out: u16, rows: u64 }
//!
//! impl Kernel for Double {
//!     fn cores(&self) -> usize { 2 }
//!     fn vector(&self, cx: &mut Context<'_>) {
//!         let mut x = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 256, 2);
//!         let mut y = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 256, 2);
//!         let row = |region| Global::new(region, 0, Elem::F32, 1, 64);
//!         let tile = |at| Tile::rows_of(Space::Ub, at, Elem::F32, 1, 64);
//!         for r in cx.share(self.rows) {
//!             let to = tile(x.alloc(cx));
//!             cx.load_ub(row(self.x).part(r, 1, 0, 64), to);
//!             x.push(cx);
//!             let (from, to) = (tile(x.pop(cx)), tile(y.alloc(cx)));
//!             cx.mul(to, from, 2.0);
//!             x.free(cx);
//!             y.push(cx);
//!             let from = tile(y.pop(cx));
//!             cx.store(from, row(self.out).part(r, 1, 0, 64));
//!             y.free(cx);
//!         }
//!         x.close(cx);
//!         y.close(cx);
//!     }
//! }
//!
//! let x: Vec<u8> = (0..640u16).flat_map(|i| f32::from(i).to_le_bytes()).collect();
//! let mut out = vec![0; 640 * 4];
//! let mut gm = Gm::default();
//! let kernel = Double { x: gm.input("x", &x), out: gm.output("out", &mut out), rows: 10 };
//! let report = launch(&Profile::open("950dt")?, &kernel, &gm, Options::checked());
//! assert_eq!(report.hazards.errors().count(), 0);
//! drop(gm);
//! assert_eq!(out[4 * 639..], 1278f32.to_le_bytes());
//! # Ok::<(), anychip_ascend::machine::ProfileError>(())
//! ```

mod arena;
mod context;
mod queue;
mod scalar;
mod vector;

pub use context::Context;
pub(crate) use context::FLAGS;
pub use queue::Queue;
pub use scalar::LIST;

use crate::isa::{Instr, Unit};
use crate::machine::Profile;
use crate::sim::{Gm, Hazards};

/// A program for all cores of a launch.
pub trait Kernel: Sync {
    /// Cores that take part, each with both of its vector halves.
    fn cores(&self) -> usize;

    /// What the cube half of a core does.
    fn cube(&self, _cx: &mut Context<'_>) {}

    /// What a vector half does.
    fn vector(&self, _cx: &mut Context<'_>) {}
}

/// What a core was given to do.
#[derive(Debug, Default)]
pub struct Program {
    /// Instructions of the cube half and the two vector halves, in the order in which they are issued.
    pub units: [Vec<Instr>; 3],
    /// Which core it is of.
    pub(crate) core: usize,
    /// What is already known to be wrong.
    pub(crate) hazards: Hazards,
}

impl Program {
    /// Records what a kernel does on a core.
    pub fn record(profile: &Profile, kernel: &(impl Kernel + ?Sized), gm: &Gm<'_>, core: usize) -> Program {
        let mut program = Program { core, ..Program::default() };
        for (unit, instrs) in Unit::ALL.into_iter().zip(&mut program.units) {
            let mut cx = Context::new(profile, gm, core, kernel.cores(), unit);
            match unit {
                Unit::Aic => kernel.cube(&mut cx),
                _ => kernel.vector(&mut cx),
            }
            let (recorded, hazards) = cx.finish();
            *instrs = recorded;
            program.hazards.merge(hazards);
        }
        program
    }

    /// The instructions of a unit.
    pub fn unit(&self, unit: Unit) -> &[Instr] {
        &self.units[unit as usize]
    }
}

//! The figures of a machine: each a number with a unit, a confidence and a source.

use serde::Deserialize;
use std::collections::BTreeMap;

/// How far a figure is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Confidence {
    /// The vendor's configuration or documentation, or a measurement on the device.
    #[serde(rename = "H")]
    Known,
    /// Inferred, without contradiction.
    #[serde(rename = "M")]
    Inferred,
    /// Guessed: what depends on it is to be looked at under other values.
    #[serde(rename = "L")]
    Guessed,
}

/// A figure as a profile's file has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// Its unit, which is that of [`FIGURES`].
    pub unit: String,
    /// How far it is to be trusted.
    pub confidence: Confidence,
    /// Where it is from.
    pub source: String,
}

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident: $unit:literal $(>= $least:literal)?;)*) => {
        /// The figures of a machine as numbers.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct Figures {
            $($(#[$doc])* #[doc = concat!("\n\nIn ", $unit, ".")] pub $name: f64,)*
        }

        /// Names and units of all figures.
        pub const FIGURES: &[(&str, &str)] = &[$((stringify!($name), $unit)),*];

        impl Figures {
            /// Reads them; gives what is wrong with the first that is.
            pub(super) fn of(all: &BTreeMap<String, Figure>) -> Result<Figures, String> {
                if let Some(name) = all.keys().find(|name| !FIGURES.iter().any(|(known, _)| known == name)) {
                    return Err(format!("there is no figure `{name}`"));
                }
                Ok(Figures { $($name: number(all, stringify!($name), $unit, 0.0 $(+ $least)?)?),* })
            }
        }
    };
}

fn number(all: &BTreeMap<String, Figure>, name: &str, unit: &str, least: f64) -> Result<f64, String> {
    let figure = all.get(name).ok_or_else(|| format!("the figure `{name}` is missing"))?;
    if figure.unit != unit {
        return Err(format!("`{name}` must be in {unit}, got {}", figure.unit));
    }
    if !figure.value.is_finite() || figure.value < least {
        return Err(format!("`{name}` must be {least} or more and finite, got {}", figure.value));
    }
    Ok(figure.value)
}

// What is divided by, or counted from 1, has a least value; other figures are 0 where a machine has no such thing.
figures! {
    /// Cube cores.
    cube_cores: "cores" >= 1.0;
    /// Vector cores.
    vector_cores: "cores" >= 1.0;
    /// Clock of cube, vector and transfers.
    clock: "GHz" >= 0.001;
    /// Bandwidth of the global memory, read and written together.
    hbm: "TB/s" >= 0.001;
    /// What of it is reached.
    hbm_efficiency: "1" >= 0.001;
    /// From a request to its first byte.
    hbm_latency: "cycles";
    /// Global memory.
    memory: "GB";
    /// L2 cache.
    l2: "bytes";
    /// A line of it.
    l2_line: "bytes" >= 1.0;
    /// What a core reads from it at most.
    l2_read: "bytes/cycle/core" >= 1.0;
    /// What a core writes into it at most.
    l2_write: "bytes/cycle/core" >= 1.0;
    /// What of both all cores together reach.
    l2_efficiency: "1" >= 0.001;
    /// Part of it that may hold what was written and has not gone on.
    l2_dirty: "1";
    /// From a request to its first byte.
    l2_latency: "cycles";
    /// Global memory is touched in multiples of this.
    granule: "bytes" >= 1.0;

    /// Unified buffer of a vector core, as far as kernels may use it.
    ub: "bytes" >= 1.0;
    /// L1 of a cube core, as far as kernels may use it.
    l1: "bytes" >= 1.0;
    /// Left operands of the cube.
    l0a: "bytes" >= 1.0;
    /// Right operands.
    l0b: "bytes" >= 1.0;
    /// Sums.
    l0c: "bytes" >= 1.0;
    /// Bias table.
    bt: "bytes";
    /// Scales of FixPipe.
    fb: "bytes";
    /// Mailbox of the cores' scalar units; 0 where there is none.
    mailbox: "bytes";
    /// Of UB, beside the cache that threads take.
    ub_threads: "bytes";
    /// MX scales of left operands; 0 where there are none.
    l0a_mx: "bytes";
    /// MX scales of right operands; 0 where there are none.
    l0b_mx: "bytes";
    /// Places in UB are multiples of this.
    ub_align: "bytes" >= 1.0;
    /// Places in L1.
    l1_align: "bytes" >= 1.0;
    /// Places in L0A and L0B.
    l0_align: "bytes" >= 16.0;
    /// Places in L0C.
    l0c_align: "bytes" >= 1.0;
    /// Places in the bias table.
    bt_align: "bytes" >= 1.0;
    /// Places in FixPipe's buffer.
    fb_align: "bytes" >= 1.0;

    /// L1 to L0A.
    l1_l0a: "bytes/cycle";
    /// L1 to L0B.
    l1_l0b: "bytes/cycle";
    /// L1 to UB; 0 where there is no such path.
    l1_ub: "bytes/cycle";
    /// UB to L1; 0 where there is no such path.
    ub_l1: "bytes/cycle";
    /// L0C to UB; 0 where there is no such path.
    l0c_ub: "bytes/cycle";
    /// L0C to L1.
    l0c_l1: "bytes/cycle";
    /// L1 to the bias table and to FixPipe's buffer.
    l1_bt: "bytes/cycle";
    /// L0C to global memory.
    l0c_gm: "bytes/cycle" >= 1.0;
    /// UB to global memory.
    ub_gm: "bytes/cycle" >= 1.0;

    /// A product before its first tile.
    cube_head: "cycles";
    /// Tiles per cycle.
    cube_efficiency: "1" >= 0.001;
    /// A transfer of MTE1 beside its bytes.
    mte1_issue: "cycles";
    /// What of its speed it reaches with FP4.
    mte1_fp4: "1" >= 0.001;
    /// A transfer of MTE2 beside its bursts.
    mte2_issue: "cycles";
    /// Transfers of an engine whose requests run ahead of the bytes that move.
    mte2_ahead: "transfers" >= 1.0;
    /// Long bursts into UB.
    mte2_ub: "bytes/cycle" >= 1.0;
    /// Long bursts into L1.
    mte2_l1: "bytes/cycle" >= 1.0;
    /// A short burst into UB.
    burst_ub: "cycles/128 bytes";
    /// A short burst into L1.
    burst_l1: "cycles/128 bytes";
    /// A row of MX scales of a tile into L1.
    burst_scale: "cycles/128 bytes";
    /// The same of rows that go out to global memory.
    burst_out: "cycles/128 bytes";
    /// The same of rows of sums.
    burst_sums: "cycles/128 bytes";
    /// A transfer of MTE3 beside its bytes.
    mte3_issue: "cycles";
    /// A transfer of FixPipe beside its bytes.
    fixpipe_issue: "cycles";

    /// A vector register.
    vector_width: "bytes" >= 1.0;
    /// Operations that begin in a cycle.
    vector_executions: "ports" >= 0.001;
    /// Loads that begin in a cycle.
    vector_loads: "ports" >= 0.001;
    /// Stores that begin in a cycle.
    vector_stores: "ports" >= 0.001;
    /// A vector function before its first operation.
    vector_head: "cycles";
    /// And behind its last.
    vector_drain: "cycles";
    /// From a load to what it loads.
    vector_load_latency: "cycles";

    /// From an operation to what it gives.
    vector_latency: "cycles";
    /// A sum, difference, comparison or move of a register.
    vector_add: "cycles/register";
    /// A product.
    vector_mul: "cycles/register";
    /// A quotient or square root.
    vector_div: "cycles/register";
    /// An exponential or logarithm, of f32.
    vector_exp: "cycles/register";
    /// One over a square root.
    vector_rsqrt: "cycles/register";
    /// A conversion.
    vector_cast: "cycles/register";
    /// The lanes of a register to one.
    vector_reduce: "cycles/register";
    /// Rows to columns.
    vector_transpose: "cycles/register";
    /// An element by a list.
    vector_gather: "cycles/element";
    /// An element of 32 that are sorted.
    vector_sort: "cycles/element";
    /// An element of lists that are merged.
    vector_merge: "cycles/element";
    /// A register of which some elements are put one behind the other.
    vector_squeeze: "cycles/register";
    /// Bytes counted, of a half of their range.
    vector_histogram: "bytes/cycle";

    /// From a flag that is set to who waits for it.
    flag: "cycles";
    /// A barrier of one engine.
    barrier: "cycles";
    /// A flag between cores.
    cross_core_flag: "cycles";
    /// An instruction of the scalar unit, which issues those of all engines.
    scalar: "cycles";
    /// A load or store of the scalar unit in global memory.
    scalar_memory: "cycles";
    /// A function of threads before its first load.
    simt_launch: "cycles";
    /// What threads of a vector core load at most.
    simt_gather: "bytes/cycle";
    /// From the host's call to the first instruction.
    launch: "us";
}

//! Attention on a core: the cube multiplies, the vectors do the softmax, block by block of keys.
//!
//! For each block the cube computes `S = Q K^T` and hands it to the vectors; they scale it, carry the running maximum and the
//! denominator on, and hand back the unnormalised weights; the cube computes `O = P V`, which the vectors add to what they
//! have of the output, rescaled by what the maximum grew. Blocks of all of a core's work follow one another without a gap:
//! the cube is [`ahead`](Plan::ahead) blocks further with `S` than with `O`, so that it has something to do while the vectors
//! compute.
//!
//! Keys lie in L1 until `S` is computed, values until `O` is; keys that are the values as well until then. They come from global
//! memory, or from the vectors, which unpack them.

mod cube;
mod plan;
mod softmax;
#[cfg(test)]
mod times;

pub(super) use cube::cube;
pub(super) use plan::{Needs, Plan};
pub(super) use softmax::vector;

use crate::isa::{Global, Tile};
use crate::kernel::Context;

/// A block of keys for some rows of queries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Which of the launch's pieces of work the rows are.
    pub(super) item: u64,
    /// Which of the core's.
    pub(super) turn: usize,
    /// Number of the block for these rows.
    pub(super) block: usize,
    /// Rows of queries: token by token, each with its heads.
    pub(super) rows: u32,
    /// Heads of a token.
    pub(super) heads: u32,
    /// The first head.
    pub(super) head: u32,
    /// Keys of the block.
    pub(super) keys: u32,
    /// The first token sees the block's keys up to this one, each later token one more; `None` where all see all.
    pub(super) limit: Option<i64>,
    /// Whether it is the last block of these rows.
    pub(super) last: bool,
}

impl Step {
    pub(super) fn first(&self) -> bool {
        self.block == 0
    }
}

/// Rows of an output that lie at equal distances, and the row among the step's that the first of them is.
pub(super) type Run = (u32, Global);

/// What differs between the operations that are attention.
pub(super) trait Attention: Sync {
    /// Sizes and places.
    fn plan(&self) -> &Plan;

    /// A core's blocks in their order.
    fn steps(&self, core: usize, cores: usize) -> Vec<Step>;

    /// Loads queries to L1.
    fn load_queries(&self, cx: &mut Context<'_>, step: &Step, to: Tile);

    /// Loads keys to L1, where they do not come from the vectors.
    fn load_keys(&self, cx: &mut Context<'_>, step: &Step, to: Tile);

    /// Loads values to L1, where they are no keys.
    fn load_values(&self, cx: &mut Context<'_>, step: &Step, to: Tile);

    /// Where `rows` rows of the step's result go, from `first` on.
    fn outputs(&self, step: &Step, first: u32, rows: u32) -> Vec<Run>;
}

/// Vectors that unpack keys, and know which of them there are.
pub(super) trait Feed {
    /// Unpacks a half of a step's keys, then the other. Steps come one after the other.
    fn unpack(&mut self, cx: &mut Context<'_>, steps: &[Step], number: isize, half: usize);

    /// For each of a step's keys an integer, negative where there is no key: one row.
    fn present(&self, step: usize, keys: u32) -> Tile;

    /// No more come.
    fn close(self, cx: &mut Context<'_>);
}

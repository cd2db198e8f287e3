use crate::attention::{BLOCK, Head, heads_per_task};
use crate::load::{Floats, Stores, par_rows};
use crate::pages::{Entry, PagedReader};
use anychip_core::ops::{KeyScope, Rounding, SparseAttention};
use anychip_core::{Result, host};

/// `out[t,h] = sum_j exp(z_j - m) K_j / (sum_j exp(z_j - m) + exp(sink[h] - m))`
pub(crate) fn run(op: &SparseAttention) -> Result<()> {
    let (rows, heads, dim) = (op.q.size(0), op.q.size(1), op.q.size(2));
    let (q, sink) = (Floats::of(&op.q)?, host::read(&op.sink)?);
    let sink: &[f32] = sink.as_slice();
    let scopes = op.scopes.iter().map(Scope::of).collect::<Result<Vec<_>>>()?;
    let attend = |keys: &Keys<'_>, q: &[f32], first: usize, acc: &mut [f32]| {
        let mut states = vec![Head::EMPTY; acc.len() / dim];
        acc.fill(0.0);
        // Block by block over all heads: the block stays in the cache.
        for (count, block) in keys.blocks(dim) {
            for (state, (q, acc)) in states.iter_mut().zip(q.chunks(dim).zip(acc.chunks_mut(dim))) {
                state.add(q, op.scale, count, (block, block), op.rounding, acc);
            }
        }
        for ((state, acc), sink) in states.into_iter().zip(acc.chunks_mut(dim)).zip(&sink[first..]) {
            state.finish(Some(*sink), op.rounding, acc);
        }
    };
    let share = heads_per_task(rows, heads);
    let work = 2 * dim * scopes.iter().map(|scope| scope.places).sum::<usize>();
    let mut out = Stores::of(&op.out)?;
    if share == heads {
        let scratch = || (Keys::default(), Vec::new());
        out.rows(0..rows, heads * dim, heads * work, scratch, |(keys, q_row), t, acc| {
            keys.list(&scopes, t, op.rounding);
            keys.vectors.resize(keys.entries.len() * dim, 0.0);
            keys.vectors.chunks_mut(dim).zip(&keys.entries).for_each(|(vector, entry)| entry.read(vector));
            attend(keys, q.view(t * heads * dim, heads * dim, q_row), 0, acc);
        });
        return Ok(());
    }
    // Fewer rows than threads: each row's keys are gathered by all of them, and then its heads are shared out.
    let (mut keys, mut q_row) = (Keys::default(), Vec::new());
    for t in 0..rows {
        keys.list(&scopes, t, op.rounding);
        let Keys { entries, vectors, .. } = &mut keys;
        vectors.resize(entries.len() * dim, 0.0);
        par_rows(vectors, dim, dim, || (), |(), j, vector| entries[j].read(vector));
        let q = q.view(t * heads * dim, heads * dim, &mut q_row);
        let tasks = heads / share;
        out.rows(
            t * tasks..(t + 1) * tasks,
            share * dim,
            share * work,
            || (),
            |(), task, acc| {
                let first = (task - t * tasks) * share;
                attend(&keys, &q[first * dim..], first, acc);
            },
        );
    }
    Ok(())
}

/// A pool and the lists of entries in it.
struct Scope<'a> {
    kv: PagedReader<'a>,
    lists: host::Read<'a>,
    places: usize,
}

impl<'a> Scope<'a> {
    fn of(scope: &'a KeyScope) -> Result<Scope<'a>> {
        let places = scope.entries.size(1);
        Ok(Scope { kv: PagedReader::new(&scope.kv)?, lists: host::read(&scope.entries)?, places })
    }

    /// What each place of row `t`'s list names.
    fn entries(&self, t: usize) -> impl Iterator<Item = Option<Entry<'_>>> {
        let kv = self.kv.row(t);
        let list = &self.lists.as_slice::<i32>()[t * self.places..][..self.places];
        list.iter().map(move |&entry| kv.get(entry))
    }
}

/// The keys of a row, which are its values as well.
#[derive(Default)]
struct Keys<'a> {
    entries: Vec<Entry<'a>>,
    /// The key behind the last of each block.
    ends: Vec<usize>,
    vectors: Vec<f32>,
}

impl<'a> Keys<'a> {
    /// Takes the entries that row `t` lists, scope by scope.
    fn list(&mut self, scopes: &'a [Scope<'_>], t: usize, rounding: Rounding) {
        self.entries.clear();
        self.ends.clear();
        for (place, entry) in scopes.iter().flat_map(|scope| scope.entries(t)).enumerate() {
            self.entries.extend(entry);
            // Where weights are rounded, blocks are counted in places; else in keys, so that -1 places change no bit.
            let full = match rounding {
                Rounding::Bf16 => (place + 1).is_multiple_of(BLOCK),
                Rounding::None => self.entries.len() == self.ends.last().unwrap_or(&0) + BLOCK,
            };
            if full {
                self.ends.push(self.entries.len());
            }
        }
        self.ends.push(self.entries.len());
    }

    /// The number of keys and the vectors of each block that has any.
    fn blocks(&self, dim: usize) -> impl Iterator<Item = (usize, &[f32])> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let bounds = starts.zip(&self.ends).filter(|(start, end)| start < end);
        bounds.map(move |(start, end)| (end - start, &self.vectors[start * dim..end * dim]))
    }
}

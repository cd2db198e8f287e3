use crate::load::{Floats, Rows, dot, par_rows};
use crate::pages::{PagedReader, RowEntries};
use anychip_core::formats::round_bf16;
use anychip_core::ops::{IndexScores, Rounding};
use anychip_core::{Result, host};

/// `out[t,e] = sum_h weights[t,h] * max(0, q[t,h] . k_e)` for `e < visible[t]`, else -inf
pub(crate) fn run(op: &IndexScores) -> Result<()> {
    let (rows, n) = (op.out.size(0), op.out.size(1));
    let (heads, dim) = (op.weights.size(1), op.keys.pool.format().dim());
    let (q, weights) = (Rows::of(&op.q)?, Floats::of(&op.weights)?);
    let (keys, visible) = (PagedReader::new(&op.keys)?, host::read(&op.visible)?);
    let visible: &[i32] = visible.as_slice();
    let mut out = host::write(&op.out)?;
    let out: &mut [f32] = out.as_mut_slice();
    let work = heads * dim;
    let query = |t: usize, query: &mut Query| {
        query.q.resize(heads * dim, 0.0);
        query.q.chunks_mut(dim).enumerate().for_each(|(h, out)| q.read(0, t * heads + h, out));
        query.weights.resize(heads, 0.0);
        weights.read(t * heads, &mut query.weights);
    };
    let seen = |t: usize| usize::try_from(visible[t]).unwrap_or(0).min(n);
    if rows >= rayon::current_num_threads() {
        par_rows(out, n, n * work, Default::default, |(own, key): &mut (Query, Vec<f32>), t, out| {
            query(t, own);
            let (scored, hidden) = out.split_at_mut(seen(t));
            scored.iter_mut().enumerate().for_each(|(e, out)| *out = own.score(keys.row(t), e, key, op.rounding));
            hidden.fill(f32::NEG_INFINITY);
        });
        return Ok(());
    }
    let mut own = Query::default();
    for (t, out) in out.chunks_mut(n.max(1)).enumerate() {
        query(t, &mut own);
        let (scored, hidden) = out.split_at_mut(seen(t));
        par_rows(scored, 1, work, Vec::new, |key, e, out| out[0] = own.score(keys.row(t), e, key, op.rounding));
        hidden.fill(f32::NEG_INFINITY);
    }
    Ok(())
}

/// The heads of one row.
#[derive(Default)]
struct Query {
    q: Vec<f32>,
    weights: Vec<f32>,
}

impl Query {
    fn score(&self, entries: RowEntries<'_>, entry: usize, key: &mut Vec<f32>, rounding: Rounding) -> f32 {
        let Some(found) = i32::try_from(entry).ok().and_then(|entry| entries.get(entry)) else {
            return f32::NEG_INFINITY;
        };
        key.resize(found.dim(), 0.0);
        found.read(key);
        let heads = self.q.chunks_exact(key.len()).zip(&self.weights);
        // A NaN product stays one, which `max` would hide.
        let relu = |x: f32| if x < 0.0 { 0.0 } else { x };
        match rounding {
            Rounding::None => heads.map(|(q, w)| relu(dot(q, key)) * w).sum(),
            Rounding::Bf16 => {
                let terms = heads.map(|(q, w)| round_bf16(relu(round_bf16(dot(q, key))) * w));
                round_bf16(terms.sum())
            }
        }
    }
}

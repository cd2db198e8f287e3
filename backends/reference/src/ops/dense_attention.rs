use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::DenseAttention;

pub(crate) fn evaluate<R: Real>(_op: &DenseAttention, _units: R::Units) -> Result<Vec<Output<R>>> {
    Ok(Vec::new())
}

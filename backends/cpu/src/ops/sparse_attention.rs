use anychip_core::{Result, ops::SparseAttention};

pub(crate) fn run(_op: &SparseAttention) -> Result<()> {
    Ok(())
}

use anychip_core::{Result, ops::HyperPost};

pub(crate) fn run(_op: &HyperPost) -> Result<()> {
    Ok(())
}

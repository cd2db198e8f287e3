use anychip_core::{Result, ops::HyperHead};

pub(crate) fn run(_op: &HyperHead) -> Result<()> {
    Ok(())
}

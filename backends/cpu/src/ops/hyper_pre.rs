use anychip_core::{Result, ops::HyperPre};

pub(crate) fn run(_op: &HyperPre) -> Result<()> {
    Ok(())
}

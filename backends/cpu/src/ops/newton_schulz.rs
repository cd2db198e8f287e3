use anychip_core::{Result, ops::NewtonSchulz};

pub(crate) fn run(_op: &NewtonSchulz) -> Result<()> {
    Ok(())
}

use anychip_core::{Result, ops::IndexScores};

pub(crate) fn run(_op: &IndexScores) -> Result<()> {
    Ok(())
}

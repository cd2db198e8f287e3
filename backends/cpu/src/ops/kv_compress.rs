use anychip_core::{Result, ops::KvCompress};

pub(crate) fn run(_op: &KvCompress) -> Result<()> {
    Ok(())
}

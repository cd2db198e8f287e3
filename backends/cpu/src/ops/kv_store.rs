use anychip_core::{Result, ops::KvStore};

pub(crate) fn run(_op: &KvStore) -> Result<()> {
    Ok(())
}

//! Contents of a case's operands that come from elsewhere than its name.

use super::Built;
use anychip_core::{Error, Invalid, Op, Result};
use std::collections::BTreeMap;

/// Bytes of operands by their names.
pub(crate) struct Contents {
    /// Before the operation; outputs are among them.
    pub(crate) before: BTreeMap<String, Vec<u8>>,
    /// Whether they are other inputs than the case's own, of which nobody has said that no NaN comes of them.
    pub(crate) differ: bool,
}

impl Contents {
    /// Puts them in the place of the contents that the case made.
    ///
    /// # Errors
    /// [`Invalid::WrongLength`] for another number of bytes than the operand has, and those of the device.
    pub(crate) fn put(&self, op: &Op, built: &mut Built) -> Result<()> {
        built.expects_nan |= self.differ;
        for (name, _, tensor) in op.operands() {
            let Some((index, bytes)) = built.operand(&tensor).zip(self.before.get(name)) else { continue };
            let operand = &mut built.laid.operands[index];
            if tensor.bytes() != bytes.len() as u64 {
                return Err(Error::Invalid(Invalid::WrongLength { want: tensor.bytes(), got: bytes.len() as u64 }));
            }
            operand.set(&tensor, bytes);
            built.stream.write(operand.whole(), operand.before())?;
        }
        Ok(())
    }
}

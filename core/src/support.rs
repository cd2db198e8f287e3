//! Whether a device runs an operation, and if not, why not.

use crate::{Error, Reason};

/// A device's answer about one concrete operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// The device runs it with a kernel of its own.
    Native,
    /// It does not, with the rule, the limit and what was given.
    Unsupported(Reason),
}

impl Support {
    /// An answer in the negative.
    pub fn unsupported(rule: impl Into<String>, limit: impl Into<String>, got: impl Into<String>) -> Support {
        Support::Unsupported(Reason { rule: rule.into(), limit: limit.into(), got: got.into() })
    }

    /// Whether the answer is [`Native`](Support::Native).
    pub fn is_native(&self) -> bool {
        matches!(self, Support::Native)
    }

    /// `Ok` if native, else [`Error::Unsupported`] in the name of `device`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the reason.
    pub fn require(self, device: &str, op: &'static str) -> Result<(), Error> {
        match self {
            Support::Native => Ok(()),
            Support::Unsupported(reason) => Err(Error::Unsupported { device: device.into(), op, reason }),
        }
    }
}

//! Memories, and transfers between them.

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// A memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Space {
    /// Global memory, behind L2.
    Gm,
    /// What a cube core stages tiles in.
    L1,
    /// Left operands of the cube.
    L0a,
    /// Right operands.
    L0b,
    /// Sums.
    L0c,
    /// Unified buffer: what a vector core computes on.
    Ub,
    /// Bias table.
    Bt,
    /// FixPipe's scales.
    Fb,
    /// MX scales of left operands.
    L0aMx,
    /// MX scales of right operands.
    L0bMx,
    /// Words that the scalar units of a core hand to one another (SSBuf).
    Mailbox,
}

const NAMES: [(Space, &str); 11] = [
    (Space::Gm, "gm"),
    (Space::L1, "l1"),
    (Space::L0a, "l0a"),
    (Space::L0b, "l0b"),
    (Space::L0c, "l0c"),
    (Space::Ub, "ub"),
    (Space::Bt, "bt"),
    (Space::Fb, "fb"),
    (Space::L0aMx, "l0a_mx"),
    (Space::L0bMx, "l0b_mx"),
    (Space::Mailbox, "mailbox"),
];

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(space, _)| space == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A transfer that a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Path {
    /// Where it reads.
    pub from: Space,
    /// Where it writes.
    pub to: Space,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.to)
    }
}

impl FromStr for Space {
    type Err = String;

    /// `l1`.
    fn from_str(text: &str) -> Result<Space, String> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(space, _)| *space).ok_or_else(|| {
            let all = NAMES.map(|(_, name)| name).join(", ");
            format!("a memory is one of {all}; got `{text}`")
        })
    }
}

impl FromStr for Path {
    type Err = String;

    /// `gm-l1`.
    fn from_str(text: &str) -> Result<Path, String> {
        let (from, to) = text.split_once('-').ok_or_else(|| format!("a path is FROM-TO; got `{text}`"))?;
        let space = |name: &str| name.parse().map_err(|wrong| format!("path `{text}`: {wrong}"));
        Ok(Path { from: space(from)?, to: space(to)? })
    }
}

impl TryFrom<String> for Space {
    type Error = String;

    fn try_from(text: String) -> Result<Space, String> {
        text.parse()
    }
}

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Path, String> {
        text.parse()
    }
}

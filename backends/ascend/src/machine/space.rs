//! Memories, and transfers between them.

use serde::{Deserialize, Deserializer, de::Error};
use std::fmt;
use std::str::FromStr;

/// A memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
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
}

const NAMES: [(Space, &str); 10] = [
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
];

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(space, _)| space == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A transfer that a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl FromStr for Path {
    type Err = String;

    /// `gm-l1`.
    fn from_str(text: &str) -> Result<Path, String> {
        let space = |name: &str| NAMES.iter().find(|(_, known)| *known == name).map(|(space, _)| *space);
        let ends = text.split_once('-').and_then(|(from, to)| Some(Path { from: space(from)?, to: space(to)? }));
        ends.ok_or_else(|| {
            let all = NAMES.map(|(_, name)| name).join(", ");
            format!("a path is FROM-TO, each one of {all}; got `{text}`")
        })
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Path, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

//! Memories of a core: bytes, of which each is defined or not.

use super::global::{UNDEFINED, clear, first_set};
use crate::isa::{Place, Unit};
use crate::machine::{Profile, Space};

/// A memory of a core.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    poison: Vec<u64>,
    /// Byte behind the last that was ever written.
    high: usize,
}

impl Memory {
    fn new(bytes: usize) -> Memory {
        Memory { bytes: vec![UNDEFINED; bytes], poison: vec![u64::MAX; bytes.div_ceil(64)], high: 0 }
    }

    /// Makes all of it undefined.
    fn reset(&mut self) {
        self.bytes[..self.high].fill(UNDEFINED);
        self.poison[..self.high.div_ceil(64)].fill(u64::MAX);
        self.high = 0;
    }

    /// Its bytes, which the caller has found to be within.
    pub(crate) fn read(&self, at: usize, len: usize) -> &[u8] {
        &self.bytes[at..at + len]
    }

    /// The first of some bytes that is undefined.
    pub(crate) fn undefined(&self, at: usize, len: usize) -> Option<usize> {
        first_set(&self.poison, at, len)
    }

    /// Its bytes, to be written: they are defined from now on.
    pub(crate) fn write(&mut self, at: usize, len: usize) -> &mut [u8] {
        clear(&mut self.poison, at, len);
        self.high = self.high.max(at + len);
        &mut self.bytes[at..at + len]
    }
}

/// All memories of a core.
#[derive(Debug)]
pub(crate) struct Memories {
    all: Vec<(Place, Memory)>,
}

impl Memories {
    /// As large as a profile has them.
    pub(crate) fn new(profile: &Profile) -> Memories {
        let mut all: Vec<(Place, Memory)> = SPACES
            .map(|space| (Place::Local(space, Unit::Aic), Memory::new(capacity(profile, space))))
            .into_iter()
            .collect();
        for unit in [Unit::Aiv0, Unit::Aiv1] {
            all.push((Place::Local(Space::Ub, unit), Memory::new(capacity(profile, Space::Ub))));
        }
        Memories { all }
    }

    /// Makes all of them undefined, as at a launch.
    pub(crate) fn reset(&mut self) {
        self.all.iter_mut().for_each(|(_, memory)| memory.reset());
    }

    /// The memory at a place of a core.
    pub(crate) fn get(&self, place: Place) -> Option<&Memory> {
        self.all.iter().find(|(known, _)| *known == place).map(|(_, memory)| memory)
    }

    /// As [`get`](Memories::get), to be written.
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut Memory> {
        self.all.iter_mut().find(|(known, _)| *known == place).map(|(_, memory)| memory)
    }
}

/// Bytes of a word of the scalar unit.
const WORD: f64 = 4.0;

/// Memories that a core has once.
const SPACES: [Space; 9] =
    [Space::L1, Space::L0a, Space::L0b, Space::L0c, Space::Bt, Space::Fb, Space::L0aMx, Space::L0bMx, Space::Mailbox];

/// Bytes of a memory of a core that kernels may use.
pub fn capacity(profile: &Profile, space: Space) -> usize {
    let figures = &profile.figures;
    let bytes = match space {
        Space::Gm => f64::MAX,
        Space::L1 => figures.l1,
        Space::L0a => figures.l0a,
        Space::L0b => figures.l0b,
        Space::L0c => figures.l0c,
        Space::Ub => figures.ub,
        Space::Bt => figures.bt,
        Space::Fb => figures.fb,
        Space::L0aMx => figures.l0a_mx,
        Space::L0bMx => figures.l0b_mx,
        Space::Mailbox => figures.mailbox,
    };
    bytes as usize
}

/// Bytes at whose multiples tiles of a memory begin.
pub fn alignment(profile: &Profile, space: Space) -> usize {
    let figures = &profile.figures;
    let bytes = match space {
        Space::Gm => 1.0,
        Space::L1 => figures.l1_align,
        Space::L0a | Space::L0b => figures.l0_align,
        Space::L0c => figures.l0c_align,
        Space::Ub => figures.ub_align,
        Space::Bt => figures.bt_align,
        Space::Fb => figures.fb_align,
        // Scales lie at a sixteenth of the place of what they scale.
        Space::L0aMx | Space::L0bMx => figures.l0_align / 16.0,
        // Its page speaks of accesses of 32 and 64 without saying of what; the vendor's own library (pto-isa, TPUSH and TPOP
        // on a5) has words of 32 bits at places 4 bytes apart.
        Space::Mailbox => WORD,
    };
    bytes as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_launch_finds_nothing_defined() {
        let mut memories = Memories::new(&Profile::open("910b").unwrap());
        let ub = Place::Local(Space::Ub, Unit::Aiv1);
        let memory = memories.get_mut(ub).unwrap();
        assert_eq!(memory.undefined(0, 64), Some(0));
        memory.write(32, 32).fill(1);
        assert_eq!((memory.undefined(32, 32), memory.undefined(32, 33)), (None, Some(64)));
        memories.reset();
        let memory = memories.get(ub).unwrap();
        assert_eq!((memory.undefined(32, 32), memory.read(32, 1)), (Some(32), &[UNDEFINED][..]));
        assert!(memories.get(Place::Local(Space::Ub, Unit::Aic)).is_none());
    }
}

//! The L2 cache: which lines of global memory it has.
//!
//! Sectors of eight lines are found by a hash of their address, sixteen to a set, the one that was used longest ago goes
//! first. A stream that is larger than the cache finds nothing when it comes round again, as on the machine.

use crate::isa::Blocks;

/// Lines of a sector.
const LINES: u64 = 8;
/// Sectors of a set.
const WAYS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Sector {
    /// Operand and number, plus one.
    key: u64,
    /// Lines that are there, and those of them that were written.
    lines: u8,
    written: u8,
    used: u32,
}

/// The cache of a machine.
#[derive(Debug)]
pub(super) struct L2 {
    sectors: Vec<Sector>,
    sets: u64,
    line: u64,
    clock: u32,
}

impl L2 {
    pub(super) fn new(bytes: u64, line: u64) -> L2 {
        let line = line.max(1);
        let sets = (bytes / (line * LINES) / WAYS as u64).max(1);
        L2 { sectors: vec![Sector::default(); sets as usize * WAYS], sets, line, clock: 0 }
    }

    /// Takes bytes in; gives how many of their lines' bytes were not there, or had not been written before: what is written
    /// again while it is there goes to memory once.
    pub(super) fn touch(&mut self, region: u16, blocks: &Blocks, write: bool) -> u64 {
        let mut missed = 0;
        let sector_bytes = self.line * LINES;
        for at in blocks.starts() {
            let (first, last) = (at / sector_bytes, (at + blocks.len - 1) / sector_bytes);
            for sector in first..=last {
                let start = at.max(sector * sector_bytes) / self.line % LINES;
                let end = (at + blocks.len - 1).min((sector + 1) * sector_bytes - 1) / self.line % LINES;
                let mask = ((1u16 << (end + 1)) - (1 << start)) as u8;
                missed += u64::from(self.look(region, sector, mask, write)) * self.line;
            }
        }
        missed
    }

    /// Takes lines of a sector in; gives how many are new.
    fn look(&mut self, region: u16, sector: u64, mask: u8, write: bool) -> u32 {
        let key = (u64::from(region) << 44 | sector) + 1;
        // A multiplicative hash: strides of any kind spread over all sets.
        let spread = u128::from(key.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * u128::from(self.sets);
        let set = (spread >> 64) as usize;
        self.clock += 1;
        let ways = &mut self.sectors[set * WAYS..(set + 1) * WAYS];
        if let Some(found) = ways.iter_mut().find(|way| way.key == key) {
            let known = if write { found.written } else { found.lines };
            found.lines |= mask;
            found.written |= if write { mask } else { 0 };
            found.used = self.clock;
            return (mask & !known).count_ones();
        }
        if let Some(oldest) = ways.iter_mut().min_by_key(|way| way.used) {
            *oldest = Sector { key, lines: mask, written: if write { mask } else { 0 }, used: self.clock };
        }
        mask.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(l2: &mut L2, bytes: u64) -> u64 {
        let rows = Blocks { at: 0, len: 512, count: bytes / 512, pitch: 512 };
        l2.touch(0, &rows, false)
    }

    #[test]
    fn what_fits_stays_and_what_does_not_never_comes_back() {
        let mut l2 = L2::new(1 << 20, 128);
        assert_eq!(stream(&mut l2, 1 << 19), 1 << 19);
        // Sets are chosen by a hash: few of a half-full cache have more than they hold.
        assert!(stream(&mut l2, 1 << 19) < 1 << 15);
        let mut l2 = L2::new(1 << 20, 128);
        assert_eq!(stream(&mut l2, 1 << 22), 1 << 22);
        assert!(stream(&mut l2, 1 << 22) > (1 << 22) * 99 / 100);
    }

    #[test]
    fn a_buffer_that_goes_round_is_written_to_memory_once() {
        let mut l2 = L2::new(1 << 20, 128);
        let rows = Blocks { at: 0, len: 512, count: 4, pitch: 512 };
        assert_eq!([true, false, true].map(|write| l2.touch(0, &rows, write)), [2048, 0, 0]);
    }

    #[test]
    fn lines_are_counted_one_by_one() {
        let mut l2 = L2::new(1 << 20, 128);
        let rows = |at| Blocks { at, len: 100, count: 4, pitch: 1000 };
        // The fourth row reaches over a line's end.
        assert_eq!(l2.touch(0, &rows(0), false), 128 * 7);
        assert_eq!(l2.touch(0, &rows(0), false), 0);
        assert_eq!(l2.touch(1, &rows(0), false), 128 * 7);
    }
}

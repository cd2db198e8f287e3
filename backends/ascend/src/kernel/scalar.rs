//! What the scalar unit loads and stores: global memory, and the mailbox of a core.

use super::Context;
use crate::isa::{Body, Elem, Global, Pipe, Tile};
use crate::machine::Space;

/// Integers of a list that are in UB at a time.
pub const LIST: u32 = 4096;
/// Integers whose own loads take no longer than one transfer to UB and its flag.
const FEW: u64 = 8;

impl Context<'_> {
    /// An integer that lies in global memory before the launch, by its byte: `SLOAD`. The kernel may go by it.
    #[track_caller]
    pub fn load_i32(&mut self, region: u16, at: u64) -> i32 {
        let mut bytes = [0; 4];
        self.gm.peek(region, at, &mut bytes);
        self.push(Body::ScalarLoad(Global::new(region, at, Elem::I32, 1, 1), u32::from_le_bytes(bytes)));
        i32::from_le_bytes(bytes)
    }

    /// As [`load_i32`](Context::load_i32), of integers that follow one another, by way of UB: `LD_GM_UB`, and `SLOAD` of each
    /// (`DataCopy` and `GetValue` of Ascend C), which takes a fraction of the time; a few are loaded one by one. UB must have
    /// room for [`LIST`] of them.
    #[track_caller]
    pub fn load_list(&mut self, region: u16, at: u64, count: u64) -> Vec<i32> {
        if count <= FEW {
            return (0..count).map(|index| self.load_i32(region, at + 4 * index)).collect();
        }
        let mut all = Vec::with_capacity(count as usize);
        let room = self.ub(Elem::I32, 1, count.min(LIST.into()) as u32);
        let flag = self.flag(Pipe::Mte2, Pipe::S);
        for first in (0..count).step_by(LIST as usize) {
            let (some, at) = (LIST.min((count - first) as u32), at + 4 * first);
            let mut bytes = vec![0; 4 * some as usize];
            self.gm.peek(region, at, &mut bytes);
            let bits = bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            let bits: Vec<u32> = bits.collect();
            all.extend(bits.iter().map(|bits| *bits as i32));
            let to = room.col_range(0, some);
            // What comes behind a scalar load is issued when that is through, so that nobody is too early here.
            self.push(Body::LoadUb(Global::new(region, at, Elem::I32, 1, some), to));
            self.set_flag(Pipe::Mte2, Pipe::S, flag);
            self.wait_flag(Pipe::Mte2, Pipe::S, flag);
            self.push(Body::ScalarLoadUb(to, bits));
        }
        self.free(Space::Ub, room.at);
        self.free_flag(Pipe::Mte2, Pipe::S, flag);
        all
    }

    /// Writes an integer to global memory: `SSTORE`.
    #[track_caller]
    pub fn store_i32(&mut self, region: u16, at: u64, value: i32) {
        self.push(Body::ScalarStore(Global::new(region, at, Elem::I32, 1, 1), value as u32));
    }

    /// Cleans the scalar unit's cache: `DCCI`.
    #[track_caller]
    pub fn clean_cache(&mut self) {
        self.push(Body::Dcci);
    }

    /// Stores a word to the mailbox of the core, at a byte: `SSTORE`. Who loads it waits for a flag between the units first.
    #[track_caller]
    pub fn store_mailbox(&mut self, at: u32, value: u32) {
        self.push(Body::MailboxStore(Tile::word(at), value));
    }

    /// Loads a word from the mailbox: `SLOAD`. Units are recorded one by one, so that what another stores is not known here:
    /// the kernel says what it takes the word to be, and goes by that. Where another value is there when it runs, that is an
    /// error.
    #[track_caller]
    pub fn load_mailbox(&mut self, at: u32, value: u32) -> u32 {
        self.push(Body::MailboxLoad(Tile::word(at), value));
        value
    }

    /// As [`load_mailbox`](Context::load_mailbox), of an integer that another unit took from this place of global memory: it
    /// spares this unit the load from there.
    #[track_caller]
    pub fn load_mailbox_i32(&mut self, at: u32, (region, byte): (u16, u64)) -> i32 {
        let mut bytes = [0; 4];
        self.gm.peek(region, byte, &mut bytes);
        self.load_mailbox(at, u32::from_le_bytes(bytes)) as i32
    }
}

//! Global memory: the operands of a launch.
//!
//! Cores run on host threads, so what a launch writes is cut into chunks, each behind a lock of its own. What it only reads is
//! shared as it is.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bytes of a chunk.
const CHUNK: usize = 1 << 16;

/// The operands of a launch.
#[derive(Debug, Default)]
pub struct Gm<'a> {
    regions: Vec<Region<'a>>,
}

#[derive(Debug)]
struct Region<'a> {
    name: Cow<'static, str>,
    bytes: u64,
    data: Data<'a>,
}

#[derive(Debug)]
enum Data<'a> {
    Read(&'a [u8]),
    Given(Vec<u8>),
    Write(Vec<RwLock<Chunk<'a>>>),
    Nothing,
}

#[derive(Debug)]
struct Chunk<'a> {
    bytes: Store<'a>,
    /// A bit for each byte that holds nothing yet; none where all do.
    poison: Vec<u64>,
    /// Whether each byte must be written by the end.
    owed: bool,
}

#[derive(Debug)]
enum Store<'a> {
    Lent(&'a mut [u8]),
    Own(Vec<u8>),
    /// Memory that nobody has written yet: none of the host's is touched for it.
    Fresh(Fresh<'a>),
}

#[derive(Debug)]
enum Fresh<'a> {
    Lent(&'a mut [u8]),
    Own(usize),
}

impl Chunk<'_> {
    /// Its bytes; none while it is fresh.
    fn bytes(&self) -> Option<&[u8]> {
        match &self.bytes {
            Store::Lent(bytes) => Some(bytes),
            Store::Own(bytes) => Some(bytes),
            Store::Fresh(_) => None,
        }
    }

    /// Its bytes, to be written: a fresh chunk's are all undefined from now on.
    fn bytes_mut(&mut self) -> &mut [u8] {
        if let Store::Fresh(fresh) = &mut self.bytes {
            self.bytes = match fresh {
                Fresh::Lent(bytes) => {
                    bytes.fill(UNDEFINED);
                    Store::Lent(std::mem::take(bytes))
                }
                Fresh::Own(len) => Store::Own(vec![UNDEFINED; *len]),
            };
            let len = self.bytes().map_or(0, <[u8]>::len);
            self.poison = poisoned(len);
        }
        match &mut self.bytes {
            Store::Lent(bytes) => bytes,
            Store::Own(bytes) => bytes,
            Store::Fresh(_) => &mut [],
        }
    }
}

/// What kernels may go by: global memory as it is before a launch.
pub trait Contents: std::fmt::Debug + Sync {
    /// What lies at a byte of an operand. Beyond it, and where it has no contents, zeros.
    fn peek(&self, region: u16, at: u64, out: &mut [u8]);
}

impl Contents for Gm<'_> {
    fn peek(&self, region: u16, at: u64, out: &mut [u8]) {
        out.fill(0);
        if at.saturating_add(out.len() as u64) <= self.bytes(region) {
            // A kernel that goes by what nobody has written is told so when the load runs.
            let _ = self.read(region, at, out);
        }
    }
}

/// What an undefined byte holds: four of them are a NaN, as an f32 and as two halves.
pub(super) const UNDEFINED: u8 = 0xFF;

impl<'a> Gm<'a> {
    fn add(&mut self, name: impl Into<Cow<'static, str>>, bytes: u64, data: Data<'a>) -> u16 {
        self.regions.push(Region { name: name.into(), bytes, data });
        (self.regions.len() - 1) as u16
    }

    /// An operand that is only read.
    pub fn input(&mut self, name: impl Into<Cow<'static, str>>, bytes: &'a [u8]) -> u16 {
        self.add(name, bytes.len() as u64, Data::Read(bytes))
    }

    /// An operand that must be written as a whole; what it holds before is undefined.
    pub fn output(&mut self, name: impl Into<Cow<'static, str>>, bytes: &'a mut [u8]) -> u16 {
        let len = bytes.len() as u64;
        let chunks = bytes.chunks_mut(CHUNK).map(|bytes| {
            RwLock::new(Chunk { bytes: Store::Fresh(Fresh::Lent(bytes)), poison: Vec::new(), owed: true })
        });
        let data = Data::Write(chunks.collect());
        self.add(name, len, data)
    }

    /// An operand that is read, and written in part.
    pub fn state(&mut self, name: impl Into<Cow<'static, str>>, bytes: &'a mut [u8]) -> u16 {
        let len = bytes.len() as u64;
        let chunks = bytes.chunks_mut(CHUNK);
        let chunks =
            chunks.map(|bytes| RwLock::new(Chunk { bytes: Store::Lent(bytes), poison: Vec::new(), owed: false }));
        let data = Data::Write(chunks.collect());
        self.add(name, len, data)
    }

    /// An operand that is only read, and is the launch's own.
    pub fn given(&mut self, name: impl Into<Cow<'static, str>>, bytes: Vec<u8>) -> u16 {
        let len = bytes.len() as u64;
        self.add(name, len, Data::Given(bytes))
    }

    /// Memory of the launch's own.
    pub fn scratch(&mut self, name: impl Into<Cow<'static, str>>, bytes: u64) -> u16 {
        let chunks = (0..bytes.div_ceil(CHUNK as u64)).map(|chunk| {
            let len = (bytes - chunk * CHUNK as u64).min(CHUNK as u64) as usize;
            RwLock::new(Chunk { bytes: Store::Fresh(Fresh::Own(len)), poison: Vec::new(), owed: false })
        });
        let data = Data::Write(chunks.collect());
        self.add(name, bytes, data)
    }

    /// An operand without contents, for launches of which only the time is asked for. What is written to it is lost.
    pub fn phantom(&mut self, name: impl Into<Cow<'static, str>>, bytes: u64) -> u16 {
        self.add(name, bytes, Data::Nothing)
    }

    /// An operand's name.
    pub fn name(&self, region: u16) -> &str {
        self.regions.get(usize::from(region)).map_or("?", |region| &region.name)
    }

    /// An operand's bytes; 0 where there is none of this number.
    pub fn bytes(&self, region: u16) -> u64 {
        self.regions.get(usize::from(region)).map_or(0, |region| region.bytes)
    }

    /// How many operands there are.
    pub(crate) fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether an operand can be written.
    pub fn is_written(&self, region: u16) -> bool {
        matches!(self.regions.get(usize::from(region)), Some(Region { data: Data::Write(_), .. }))
    }

    /// Whether an operand must not be written. One without contents is either, as the kernel takes it.
    pub(crate) fn is_only_read(&self, region: u16) -> bool {
        let written = |region: &Region<'_>| matches!(region.data, Data::Write(_) | Data::Nothing);
        !self.regions.get(usize::from(region)).is_some_and(written)
    }

    /// Reads bytes that the caller has found to be within; gives the first undefined one.
    pub(crate) fn read(&self, region: u16, at: u64, out: &mut [u8]) -> Result<(), u64> {
        match &self.regions[usize::from(region)].data {
            Data::Read(bytes) => {
                copy(bytes, at, out);
                Ok(())
            }
            Data::Given(bytes) => {
                copy(bytes, at, out);
                Ok(())
            }
            Data::Write(chunks) => {
                let mut undefined = Ok(());
                pieces(at, out.len(), |chunk, from, done, len| {
                    let chunk_at = chunk * CHUNK;
                    let chunk = reading(&chunks[chunk]);
                    let first = match chunk.bytes() {
                        Some(bytes) => {
                            out[done..done + len].copy_from_slice(&bytes[from..from + len]);
                            first_set(&chunk.poison, from, len)
                        }
                        None => {
                            out[done..done + len].fill(UNDEFINED);
                            Some(from)
                        }
                    };
                    if let Some(first) = first {
                        undefined = undefined.and(Err((chunk_at + first) as u64));
                    }
                });
                undefined
            }
            Data::Nothing => {
                out.fill(0);
                Ok(())
            }
        }
    }

    /// Writes bytes that the caller has found to be within an operand that can be written.
    pub(crate) fn write(&self, region: u16, at: u64, bytes: &[u8]) {
        if let Data::Write(chunks) = &self.regions[usize::from(region)].data {
            pieces(at, bytes.len(), |chunk, from, done, len| {
                let mut chunk = writing(&chunks[chunk]);
                chunk.bytes_mut()[from..from + len].copy_from_slice(&bytes[done..done + len]);
                clear(&mut chunk.poison, from, len);
            });
        }
    }

    /// First bytes, by operand, that should have been written and were not.
    pub(crate) fn unwritten(&self) -> Vec<(u16, u64)> {
        let mut all = Vec::new();
        for (number, region) in self.regions.iter().enumerate() {
            let Data::Write(chunks) = &region.data else { continue };
            let first = chunks.iter().enumerate().find_map(|(at, chunk)| {
                let chunk = reading(chunk);
                let first = match chunk.bytes() {
                    Some(bytes) => first_set(&chunk.poison, 0, bytes.len()),
                    None => Some(0),
                };
                let first = first.filter(|_| chunk.owed)?;
                Some((at * CHUNK + first) as u64)
            });
            all.extend(first.map(|at| (number as u16, at)));
        }
        all
    }
}

fn copy(bytes: &[u8], at: u64, out: &mut [u8]) {
    let at = at as usize;
    out.copy_from_slice(&bytes[at..at + out.len()]);
}

fn reading<'c, 'a>(chunk: &'c RwLock<Chunk<'a>>) -> RwLockReadGuard<'c, Chunk<'a>> {
    // Bytes are whole whatever happened elsewhere.
    chunk.read().unwrap_or_else(PoisonError::into_inner)
}

fn writing<'c, 'a>(chunk: &'c RwLock<Chunk<'a>>) -> RwLockWriteGuard<'c, Chunk<'a>> {
    chunk.write().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `f` with each chunk's number, where the bytes begin in it, how many came before, and how many there are.
fn pieces(at: u64, len: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
    let mut done = 0;
    while done < len {
        let at = at as usize + done;
        let from = at % CHUNK;
        let piece = (CHUNK - from).min(len - done);
        f(at / CHUNK, from, done, piece);
        done += piece;
    }
}

fn poisoned(bytes: usize) -> Vec<u64> {
    vec![u64::MAX; bytes.div_ceil(64)]
}

/// Calls `f` with each word that has bits of `from..from + len`, and which.
fn words(from: usize, len: usize, mut f: impl FnMut(usize, u64) -> bool) {
    let (mut at, end) = (from, from + len);
    while at < end {
        let bits = (64 - at % 64).min(end - at);
        let mask = (u64::MAX >> (64 - bits)) << (at % 64);
        if !f(at / 64, mask) {
            return;
        }
        at += bits;
    }
}

/// The first bit that is set in `from..from + len`; no bits are all clear.
pub(super) fn first_set(bits: &[u64], from: usize, len: usize) -> Option<usize> {
    let mut first = None;
    if !bits.is_empty() {
        words(from, len, |word, mask| {
            let set = bits[word] & mask;
            if set != 0 {
                first = Some(word * 64 + set.trailing_zeros() as usize);
            }
            first.is_none()
        });
    }
    first
}

/// Clears bits.
pub(super) fn clear(bits: &mut [u64], from: usize, len: usize) {
    if !bits.is_empty() {
        words(from, len, |word, mask| {
            bits[word] &= !mask;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_undefined_until_written_and_owed_until_the_end() {
        let mut out = vec![0; CHUNK + 200];
        let mut gm = Gm::default();
        let region = gm.output("out", &mut out);
        let mut bytes = [0; 100];
        assert_eq!(gm.read(region, CHUNK as u64 - 50, &mut bytes), Err(CHUNK as u64 - 50));
        assert_eq!(bytes, [UNDEFINED; 100]);
        gm.write(region, CHUNK as u64 - 50, &[7; 100]);
        assert_eq!(gm.read(region, CHUNK as u64 - 50, &mut bytes), Ok(()));
        assert_eq!(gm.read(region, CHUNK as u64, &mut bytes), Err(CHUNK as u64 + 50));
        assert_eq!(gm.unwritten(), [(region, 0)]);
        gm.write(region, 0, &[1; CHUNK]);
        gm.write(region, CHUNK as u64 + 50, &[1; 149]);
        assert_eq!(gm.unwritten(), [(region, CHUNK as u64 + 199)]);
        gm.write(region, CHUNK as u64 + 199, &[1]);
        assert_eq!(gm.unwritten(), []);
    }

    #[test]
    fn what_kernels_go_by_is_zero_where_there_is_nothing() {
        let mut gm = Gm::default();
        let input = gm.input("x", &[1, 2, 3, 4]);
        let none = gm.phantom("y", 1 << 40);
        let mut out = [9; 2];
        gm.peek(input, 2, &mut out);
        assert_eq!(out, [3, 4]);
        gm.peek(input, 3, &mut out);
        assert_eq!(out, [0, 0]);
        gm.peek(none, 1 << 39, &mut out);
        assert_eq!((out, gm.bytes(none), gm.is_written(none)), ([0, 0], 1 << 40, false));
        assert_eq!([input, none, 9].map(|region| gm.is_only_read(region)), [true, false, true]);
    }
}

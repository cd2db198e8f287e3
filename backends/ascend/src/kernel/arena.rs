//! Which bytes of a memory are taken.

use std::panic::Location;

/// A range of bytes that is in use, and the line that took it.
pub(super) type Taken = (u64, u64, &'static Location<'static>);

/// The allocations of a memory. Places are counted in 64 bits, so that what is asked for beyond the memory is counted as well.
#[derive(Debug)]
pub(super) struct Arena {
    capacity: u64,
    align: u64,
    /// In ascending order.
    taken: Vec<Taken>,
}

impl Arena {
    pub(super) fn new(capacity: u64, align: u64) -> Arena {
        Arena { capacity, align: align.max(1), taken: Vec::new() }
    }

    /// The first place that has room; behind the last where none has, then with what is missing.
    pub(super) fn take(&mut self, bytes: u64, line: &'static Location<'static>) -> (u64, Result<(), String>) {
        let mut at = 0u64;
        for &(from, to, _) in &self.taken {
            if at.saturating_add(bytes) <= from {
                break;
            }
            at = at.max(to.checked_next_multiple_of(self.align).unwrap_or(u64::MAX));
        }
        let fits = self.within(at, bytes);
        self.insert(at, bytes, line);
        let problem = || {
            let used = self.taken.iter().fold(0u64, |all, (from, to, _)| all.saturating_add(to - from));
            format!("{used} bytes in all are asked for, of {}", self.capacity)
        };
        (at, if fits { Ok(()) } else { Err(problem()) })
    }

    /// Takes a place of the kernel's choice; gives who has some of it already, and what is wrong if it is not all there.
    pub(super) fn take_at(
        &mut self,
        at: u64,
        bytes: u64,
        line: &'static Location<'static>,
    ) -> (Option<Taken>, Result<(), String>) {
        let end = at.saturating_add(bytes);
        let clash = self.taken.iter().find(|(from, to, _)| *from < end && at < *to).copied();
        self.insert(at, bytes, line);
        let problem =
            || format!("kernels may use {} bytes; byte {} is asked for", self.capacity, end.saturating_sub(1));
        (clash, if self.within(at, bytes) { Ok(()) } else { Err(problem()) })
    }

    fn within(&self, at: u64, bytes: u64) -> bool {
        at.saturating_add(bytes) <= self.capacity
    }

    /// Who is reached by bytes that begin in what another took.
    pub(super) fn reaches(&self, from: u64, to: u64) -> Option<Taken> {
        let next = self.taken.partition_point(|(at, ..)| *at <= from);
        let (_, end, _) = self.taken.get(next.checked_sub(1)?)?;
        let inside = from < *end && *end < to;
        self.taken.get(next).copied().filter(|(at, ..)| inside && *at < to)
    }

    /// Gives a place back.
    pub(super) fn give(&mut self, at: u64) {
        if let Some(found) = self.taken.iter().position(|(from, ..)| *from == at) {
            self.taken.remove(found);
        }
    }

    /// Gives all of them back.
    pub(super) fn give_all(&mut self) {
        self.taken.clear();
    }

    fn insert(&mut self, at: u64, bytes: u64, line: &'static Location<'static>) {
        let place = self.taken.partition_point(|(from, ..)| *from <= at);
        self.taken.insert(place, (at, at.saturating_add(bytes), line));
    }
}

//! Which bytes of a memory are taken.

use std::panic::Location;

/// A range of bytes that is in use, and the line that took it.
pub(super) type Taken = (u32, u32, &'static Location<'static>);

/// The allocations of a memory.
#[derive(Debug)]
pub(super) struct Arena {
    capacity: u32,
    align: u32,
    /// In ascending order.
    taken: Vec<Taken>,
}

impl Arena {
    pub(super) fn new(capacity: u32, align: u32) -> Arena {
        Arena { capacity, align: align.max(1), taken: Vec::new() }
    }

    /// The first place that has room; behind the last where none has, then with what is missing.
    pub(super) fn take(&mut self, bytes: u32, line: &'static Location<'static>) -> (u32, Result<(), String>) {
        let mut at = 0u32;
        for &(from, to, _) in &self.taken {
            if at.saturating_add(bytes) <= from {
                break;
            }
            at = at.max(to.next_multiple_of(self.align));
        }
        let fits = at.checked_add(bytes).is_some_and(|end| end <= self.capacity);
        self.insert(at, bytes, line);
        let problem = || {
            let used: u32 = self.taken.iter().map(|(from, to, _)| to - from).sum();
            format!("{used} bytes in all are asked for, of {}", self.capacity)
        };
        (at, if fits { Ok(()) } else { Err(problem()) })
    }

    /// Takes a place of the kernel's choice; gives who has some of it already.
    pub(super) fn take_at(&mut self, at: u32, bytes: u32, line: &'static Location<'static>) -> Option<Taken> {
        let clash = self.taken.iter().find(|(from, to, _)| *from < at + bytes && at < *to).copied();
        self.insert(at, bytes, line);
        clash
    }

    /// Who is reached by bytes that begin in what another took.
    pub(super) fn reaches(&self, from: u64, to: u64) -> Option<Taken> {
        let next = self.taken.partition_point(|(at, ..)| u64::from(*at) <= from);
        let (_, end, _) = self.taken.get(next.checked_sub(1)?)?;
        let inside = from < u64::from(*end) && u64::from(*end) < to;
        self.taken.get(next).copied().filter(|(at, ..)| inside && u64::from(*at) < to)
    }

    /// Gives a place back.
    pub(super) fn give(&mut self, at: u32) {
        if let Some(found) = self.taken.iter().position(|(from, ..)| *from == at) {
            self.taken.remove(found);
        }
    }

    /// Gives all of them back.
    pub(super) fn give_all(&mut self) {
        self.taken.clear();
    }

    fn insert(&mut self, at: u32, bytes: u32, line: &'static Location<'static>) {
        let place = self.taken.partition_point(|(from, ..)| *from <= at);
        self.taken.insert(place, (at, at.saturating_add(bytes), line));
    }
}

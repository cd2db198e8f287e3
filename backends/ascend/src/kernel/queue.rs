//! Buffers that one engine fills and another empties.

use super::Context;
use crate::isa::Pipe;
use crate::machine::Space;

/// Buffers of a memory that go round between two engines, with the flags that order them.
///
/// For each buffer in turn: [`alloc`](Queue::alloc), what fills it, [`push`](Queue::push); then [`pop`](Queue::pop), what
/// empties it, [`free`](Queue::free). With a depth of 2 the one engine fills while the other empties. [`close`](Queue::close)
/// waits for the last.
#[derive(Debug)]
pub struct Queue {
    from: Pipe,
    to: Pipe,
    space: Space,
    slots: Vec<Slot>,
    /// How often each step was taken.
    allocated: usize,
    pushed: usize,
    popped: usize,
    freed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    at: u32,
    full: u8,
    empty: u8,
}

impl Queue {
    /// Takes `depth` buffers of `bytes` each, and two flags for each.
    #[track_caller]
    pub fn new(cx: &mut Context<'_>, from: Pipe, to: Pipe, space: Space, bytes: u32, depth: usize) -> Queue {
        let mut slots = Vec::with_capacity(depth.max(1));
        for _ in 0..depth.max(1) {
            let at = cx.alloc(space, bytes);
            slots.push(Slot { at, full: cx.flag(from, to), empty: cx.flag(to, from) });
        }
        Queue { from, to, space, slots, allocated: 0, pushed: 0, popped: 0, freed: 0 }
    }

    fn slot(&self, turn: usize) -> Slot {
        self.slots[turn % self.slots.len()]
    }

    /// The next buffer to be filled, once it is empty: its place.
    #[track_caller]
    pub fn alloc(&mut self, cx: &mut Context<'_>) -> u32 {
        let slot = self.slot(self.allocated);
        if self.allocated >= self.slots.len() {
            cx.wait_flag(self.to, self.from, slot.empty);
        }
        self.allocated += 1;
        slot.at
    }

    /// It is filled.
    #[track_caller]
    pub fn push(&mut self, cx: &mut Context<'_>) {
        cx.set_flag(self.from, self.to, self.slot(self.pushed).full);
        self.pushed += 1;
    }

    /// The next buffer to be emptied, once it is full: its place.
    #[track_caller]
    pub fn pop(&mut self, cx: &mut Context<'_>) -> u32 {
        let slot = self.slot(self.popped);
        cx.wait_flag(self.from, self.to, slot.full);
        self.popped += 1;
        slot.at
    }

    /// It is empty.
    #[track_caller]
    pub fn free(&mut self, cx: &mut Context<'_>) {
        cx.set_flag(self.to, self.from, self.slot(self.freed).empty);
        self.freed += 1;
    }

    /// Waits for the buffers that were freed last, and gives all back.
    #[track_caller]
    pub fn close(self, cx: &mut Context<'_>) {
        for turn in self.freed.saturating_sub(self.slots.len())..self.freed {
            cx.wait_flag(self.to, self.from, self.slot(turn).empty);
        }
        for slot in &self.slots {
            cx.free(self.space, slot.at);
            cx.free_flag(self.from, self.to, slot.full);
            cx.free_flag(self.to, self.from, slot.empty);
        }
    }
}

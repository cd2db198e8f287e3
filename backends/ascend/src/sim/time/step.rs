//! A program as the engines see it in time: what each instruction costs or waits for, without its operands.

use super::cost::{Transfer, Work, work};
use crate::isa::{Barrier, Blocks, Body, Instr, Mode, Pipe};
use crate::machine::Profile;
use crate::sim::order::Couple;
use std::collections::BTreeSet;

/// What a step does.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Local(f64),
    /// A place in the list of transfers.
    Transfer(u32),
    Set(Pipe, Pipe, u8),
    Wait(Pipe, Pipe, u8),
    Barrier,
    BarrierAll,
    CrossSet(Mode, u8),
    CrossWait(Mode, u8),
    Lock(u8),
    Unlock(u8),
}

/// An instruction in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) what: What,
    pub(super) couple: Couple,
}

/// A unit's instructions in time.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(super) all: Vec<Step>,
    /// By engine: which are its own.
    pub(super) lists: [Vec<u32>; Pipe::ALL.len()],
    pub(super) transfers: Vec<Transfer>,
    /// Instructions of the scalar unit that those before it take to be issued; behind the last, of all.
    pub(super) issued: Vec<u32>,
}

/// Instructions of the scalar unit for a row by a list: its number is loaded, multiplied, added to a place.
const ROW: u32 = 3;

/// Instructions of the scalar unit that issue one.
fn issues(body: &Body) -> u32 {
    match body {
        Body::GatherRows { to, .. } => ROW * to.rows + to.rows.div_ceil(2).max(1),
        _ => 1,
    }
}

impl Steps {
    /// Of the unit with this number among those of all cores.
    pub(super) fn of(profile: &Profile, instrs: &[Instr], unit: u64) -> Steps {
        let mut steps = Steps { issued: vec![0], ..Steps::default() };
        let mut issued = 0;
        let mut kept = Kept::default();
        for (index, instr) in instrs.iter().enumerate() {
            match instr.pipe() {
                Some(pipe) => steps.lists[pipe as usize].push(index as u32),
                None => steps.lists.iter_mut().for_each(|list| list.push(index as u32)),
            }
            let what = match &instr.body {
                Body::SetFlag(from, to, id) => What::Set(*from, *to, *id),
                Body::WaitFlag(from, to, id) => What::Wait(*from, *to, *id),
                Body::Barrier(Barrier::Pipe(_)) => What::Barrier,
                Body::Barrier(Barrier::All) => What::BarrierAll,
                Body::CrossSet(_, mode, id) => What::CrossSet(*mode, *id),
                Body::CrossWait(_, mode, id) => What::CrossWait(*mode, *id),
                Body::Lock(_, id) => What::Lock(*id),
                Body::Unlock(_, id) => What::Unlock(*id),
                body if kept.has(body) => What::Local(profile.figures.scalar),
                _ => match work(profile, instr) {
                    Work::Transfer(transfer) if transfer.blocks.bytes() > 0 => {
                        steps.transfers.push(elsewhere(&instr.body, transfer, unit << 32 | index as u64));
                        What::Transfer((steps.transfers.len() - 1) as u32)
                    }
                    Work::Transfer(transfer) => What::Local(transfer.issue),
                    Work::Local(cycles) => What::Local(cycles),
                },
            };
            issued += issues(&instr.body);
            steps.issued.push(issued);
            steps.all.push(Step { what, couple: Couple::of(&instr.body) });
        }
        steps
    }
}

/// Rows by a list as rows of their own: those of other instructions are others, as far as there are rows. Which they are is not
/// known without values; lists that have rows in common find more of them in L2 than is assumed.
fn elsewhere(body: &Body, transfer: Transfer, instr: u64) -> Transfer {
    let (Body::GatherRows { from, .. } | Body::SimtGather { from, .. }) = body else { return transfer };
    let apart = transfer.blocks.pitch / from.pitch.max(1);
    // A multiplicative hash: instructions one behind the other begin far from one another.
    let first = (u128::from(instr.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * u128::from(apart)) >> 64;
    let at = transfer.blocks.at + first as u64 * from.pitch;
    Transfer { blocks: Blocks { at, ..transfer.blocks }, ..transfer }
}

/// Lines of global memory that the scalar unit keeps: what it reads or writes of one again costs no access to memory.
#[derive(Debug, Default)]
struct Kept(BTreeSet<(u16, u64)>);

/// Bytes of a line.
const LINE: u64 = 64;
/// Lines that are kept: 16 KiB. Beyond them all are taken to be lost, which is the worst that can happen.
const LINES: usize = 256;

impl Kept {
    /// Whether an instruction touches a line that is there; it is from now on.
    fn has(&mut self, body: &Body) -> bool {
        match body {
            Body::ScalarLoad(at, _) | Body::ScalarStore(at, _) => {
                if self.0.len() >= LINES {
                    self.0.clear();
                }
                !self.0.insert((at.region, at.at / LINE))
            }
            Body::Dcci => {
                self.0.clear();
                false
            }
            _ => false,
        }
    }
}

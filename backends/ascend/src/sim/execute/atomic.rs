//! What global memory adds itself.
//!
//! Sums of floats depend on their order, and cores run at the same time. So what is to be added is kept: until all cores have
//! come to a barrier or the end, then it is added core by core; or until its own core takes the bytes up again. Whoever else
//! takes them up before is in a race.

use super::Executor;
use crate::isa::{Elem, Global, Place};
use crate::sim::hazard::At;
use half::{bf16, f16};

/// Something that is to be added.
#[derive(Debug)]
pub(super) struct Addition {
    to: Global,
    /// Rows of bytes without gaps.
    bytes: Vec<u8>,
    by: Option<At>,
}

impl Executor<'_, '_> {
    pub(super) fn add_later(&mut self, to: Global, bytes: Vec<u8>) {
        self.additions.push(Addition { to, bytes, by: self.current.clone() });
    }

    /// Adds all that is kept.
    pub(crate) fn settle(&mut self) {
        for addition in std::mem::take(&mut self.additions) {
            self.add(&addition);
        }
    }

    /// Adds what is kept for some bytes.
    pub(super) fn settle_within(&mut self, bytes: &Global) {
        if self.additions.is_empty() {
            return;
        }
        let blocks = bytes.blocks();
        let here = |addition: &Addition| addition.to.region == bytes.region && addition.to.blocks().overlaps(&blocks);
        let (now, later) = std::mem::take(&mut self.additions).into_iter().partition(here);
        self.additions = later;
        let now: Vec<Addition> = now;
        now.iter().for_each(|addition| self.add(addition));
    }

    /// Row by row.
    fn add(&mut self, addition: &Addition) {
        let Addition { to, bytes, by } = addition;
        let current = std::mem::replace(&mut self.current, by.clone());
        let width = to.elem.bytes(to.cols as usize).max(1);
        for (row, more) in bytes.chunks(width).enumerate() {
            let at = to.at + row as u64 * to.pitch;
            let mut there = vec![0; more.len()];
            if let Err(undefined) = self.gm.read(to.region, at, &mut there) {
                self.undefined(Place::Gm(to.region), undefined);
            }
            let size = to.elem.bits().div_ceil(8);
            for index in 0..more.len() / size {
                let sum = to.elem.number(&there, index) + to.elem.number(more, index);
                let place = index * size..(index + 1) * size;
                match to.elem {
                    Elem::F32 => there[place].copy_from_slice(&sum.to_le_bytes()),
                    Elem::F16 => there[place].copy_from_slice(&f16::from_f32(sum).to_le_bytes()),
                    Elem::BF16 => there[place].copy_from_slice(&bf16::from_f32(sum).to_le_bytes()),
                    _ => {
                        let sum = to.elem.integer(&there, index).wrapping_add(to.elem.integer(more, index));
                        there[place].copy_from_slice(&sum.to_le_bytes());
                    }
                }
            }
            self.gm.write(to.region, at, &there);
        }
        self.current = current;
    }
}

//! The launches that sort rows by expert.

use super::NAME;
use super::route::{Begin, Choices, Count, Place};
use crate::device::Npu;
use crate::isa::{Elem, Global};
use crate::sim::Gm;
use anychip_core::host::read;
use anychip_core::{Result, ops};

/// Lists of earlier launches; see [`Place`].
pub(super) struct Lists {
    pub(super) offsets: Vec<u8>,
    pub(super) rows: Vec<u8>,
    pub(super) shares: Vec<u8>,
    pub(super) places: Vec<u8>,
}

impl Lists {
    pub(super) fn of(op: &ops::ExpertFfn, npu: &Npu) -> Result<Lists> {
        let (experts, weights) = (read(&op.experts)?, read(&op.weights)?);
        let (rows, k, count) = (op.experts.size(0), op.experts.size(1), op.routed.gate.groups());
        let list = || vec![0; 4 * rows * k];
        let mut lists = Lists { offsets: vec![0; 4 * (count + 1)], rows: list(), shares: list(), places: list() };
        let cores = npu.vector_cores((rows * k).div_ceil(256).min(rows));
        let (mut counts, mut before, mut totals) =
            (vec![0; 8 * cores * count], vec![0; 8 * cores * count], vec![0; 4 * count]);
        let ints = |region, rows: usize, cols: usize| Global::new(region, 0, Elem::I32, rows as u32, cols as u32);
        {
            let mut gm = Gm::default();
            let choices = Choices {
                experts: ints(gm.input("experts", experts.bytes()), rows, k),
                weights: ints(gm.input("weights", weights.bytes()), rows, k),
                count: count as u32,
            };
            let counts = ints(gm.output("counts", &mut counts), 2 * cores, count);
            npu.launch_lists(NAME, &Count { choices, counts, cores }, &gm)?;
        }
        {
            let mut gm = Gm::default();
            let kernel = Begin {
                counts: ints(gm.input("counts", &counts), 2 * cores, count),
                before: ints(gm.output("before", &mut before), 2 * cores, count),
                totals: ints(gm.output("totals", &mut totals), 1, count),
            };
            npu.launch_lists(NAME, &kernel, &gm)?;
        }
        let mut gm = Gm::default();
        let kernel = Place {
            choices: Choices {
                experts: ints(gm.input("experts", experts.bytes()), rows, k),
                weights: ints(gm.input("weights", weights.bytes()), rows, k),
                count: count as u32,
            },
            before: ints(gm.input("before", &before), 2 * cores, count),
            totals: ints(gm.input("totals", &totals), 1, count),
            offsets: ints(gm.output("offsets", &mut lists.offsets), 1, count + 1),
            rows: ints(gm.output("rows", &mut lists.rows), 1, rows * k),
            shares: ints(gm.output("shares", &mut lists.shares), 1, rows * k),
            places: ints(gm.output("places", &mut lists.places), k, rows),
            cores,
        };
        npu.launch_lists(NAME, &kernel, &gm)?;
        drop(gm);
        Ok(lists)
    }
}

//! Transfers share the memory: each flows as fast as its port lets it, or as its fair part of what is scarce.
//!
//! What is written stays in L2 and goes to the memory behind it when that has nothing else to do; only when L2 is full of it
//! does a write take as long as the memory.

use crate::machine::Figures;

/// A transfer under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// Whose it is.
    pub(super) owner: u32,
    pub(super) core: u32,
    /// Bytes to go.
    left: f64,
    /// Bytes per cycle that its port lets through.
    cap: f64,
    /// Part of its bytes that come from or go to the memory behind L2.
    missed: f64,
    write: bool,
    rate: f64,
}

/// What all transfers share, in bytes per cycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) hbm: f64,
    /// Of L2, read and written.
    pub(super) l2: [f64; 2],
    pub(super) core_read: f64,
    pub(super) core_write: f64,
    /// Bytes of L2 that may hold what the memory behind it has not.
    pub(super) dirty: f64,
}

impl Limits {
    /// As a profile's figures have them.
    pub(super) fn of(figures: &Figures) -> Limits {
        Limits {
            hbm: figures.hbm * 1e12 * figures.hbm_efficiency / (figures.clock * 1e9),
            l2: [figures.l2_read, figures.l2_write].map(|core| core * figures.cube_cores * figures.l2_efficiency),
            core_read: figures.l2_read,
            core_write: figures.l2_write,
            dirty: figures.l2 * figures.l2_dirty,
        }
    }
}

/// All transfers under way.
#[derive(Debug)]
pub(super) struct Fluid {
    limits: Limits,
    flows: Vec<Flow>,
    /// Rates have to be found anew.
    stale: bool,
    /// Bytes that L2 has and the memory behind it has not, and whether it takes no more.
    dirty: f64,
    full: bool,
    /// Bytes per cycle that reads and held-up writes take of the memory.
    busy: f64,
    /// Scratch: what flows of each core use, read and written.
    used: Vec<[f64; 2]>,
    open: Vec<[u32; 2]>,
}

impl Fluid {
    pub(super) fn new(limits: Limits, cores: usize) -> Fluid {
        Fluid {
            limits,
            flows: Vec::new(),
            stale: false,
            dirty: 0.0,
            full: false,
            busy: 0.0,
            used: vec![[0.0; 2]; cores],
            open: vec![[0; 2]; cores],
        }
    }

    pub(super) fn start(&mut self, owner: u32, core: u32, bytes: f64, port: f64, missed: f64, write: bool) {
        let cap = bytes / port.max(1e-9);
        self.flows.push(Flow { owner, core, left: bytes, cap, missed, write, rate: 0.0 });
        self.stale = true;
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, cycles: f64) {
        self.flows.iter_mut().for_each(|flow| flow.left -= flow.rate * cycles);
        self.dirty = (self.dirty + self.filling() * cycles).max(0.0);
        // A tenth of it has to be free again before writes are taken.
        let full = self.dirty >= self.limits.dirty * if self.full { 0.9 } else { 1.0 } - 1.0;
        self.stale |= full != self.full;
        self.full = full;
    }

    /// Cycles until the next transfer is through.
    pub(super) fn next(&mut self) -> Option<f64> {
        if self.stale {
            self.share();
            self.stale = false;
        }
        let all = self.flows.iter().map(|flow| (flow.left / flow.rate.max(1e-12)).max(0.0));
        let first = all.min_by(f64::total_cmp)?;
        // Until L2 is full of what was written, or has room again.
        let (filling, limit) = (self.filling(), self.limits.dirty);
        let turn = match self.full {
            false if filling > 0.0 => (limit - self.dirty) / filling,
            true if filling < 0.0 => (0.9 * limit - self.dirty) / filling,
            _ => f64::INFINITY,
        };
        Some(first.min(turn.max(1.0)))
    }

    /// Bytes per cycle by which what L2 has and the memory has not grows.
    fn filling(&self) -> f64 {
        let written: f64 = self.flows.iter().filter(|flow| flow.write).map(|flow| flow.rate * flow.missed).sum();
        let through = if self.full { written } else { 0.0 };
        written - through - (self.limits.hbm - self.busy).max(0.0)
    }

    /// What a flow takes of the memory, as a part of its bytes.
    fn behind(&self, flow: &Flow) -> f64 {
        if flow.write && !self.full { 0.0 } else { flow.missed }
    }

    /// Takes out those that are through, in the order in which they began.
    pub(super) fn finished(&mut self, out: &mut Vec<u32>) {
        let before = self.flows.len();
        // A thousandth of a byte is the rounding of the times.
        self.flows.retain(|flow| {
            let through = flow.left <= 1e-3;
            if through {
                out.push(flow.owner);
            }
            !through
        });
        self.stale |= self.flows.len() != before;
    }

    /// Raises all rates together until a port or something shared is full, then those of the others.
    fn share(&mut self) {
        let Limits { hbm, l2, core_read, core_write, .. } = self.limits;
        let core_limit = [core_read, core_write];
        self.flows.iter_mut().for_each(|flow| flow.rate = -1.0);
        self.used.iter_mut().for_each(|used| *used = [0.0; 2]);
        let (mut hbm_used, mut l2_used, mut level) = (0.0, [0.0; 2], 0.0f64);
        let mut open = self.flows.len();
        while open > 0 {
            let mut missed = 0.0;
            self.open.iter_mut().for_each(|open| *open = [0; 2]);
            let mut next_cap = f64::INFINITY;
            let mut sides = [0u32; 2];
            for flow in self.flows.iter().filter(|flow| flow.rate < 0.0) {
                missed += self.behind(flow);
                sides[usize::from(flow.write)] += 1;
                self.open[flow.core as usize][usize::from(flow.write)] += 1;
                next_cap = next_cap.min(flow.cap);
            }
            // What stands at the level all are raised to is part of what is used.
            let room =
                |limit: f64, used: f64, weight: f64| if weight > 0.0 { (limit - used) / weight } else { f64::INFINITY };
            let of_hbm = room(hbm, hbm_used, missed);
            let of_l2 = [0, 1].map(|side| room(l2[side], l2_used[side], f64::from(sides[side])));
            let mut of_core = f64::INFINITY;
            for (used, open) in self.used.iter().zip(&self.open) {
                for side in 0..2 {
                    of_core = of_core.min(room(core_limit[side], used[side], f64::from(open[side])));
                }
            }
            let top = next_cap.min(of_hbm).min(of_l2[0]).min(of_l2[1]).min(of_core).max(level);
            level = top;
            let slack = top * (1.0 + 1e-12) + 1e-12;
            let mut frozen = 0;
            let full = self.full;
            for flow in self.flows.iter_mut().filter(|flow| flow.rate < 0.0) {
                let core = flow.core as usize;
                let side = usize::from(flow.write);
                let core_full =
                    room(core_limit[side], self.used[core][side], f64::from(self.open[core][side])) <= slack;
                if flow.cap <= slack
                    || of_l2[side] <= slack
                    || (flow.missed > 0.0 && (full || !flow.write) && of_hbm <= slack)
                    || core_full
                {
                    flow.rate = top.min(flow.cap).max(1e-9);
                    frozen += 1;
                }
            }
            // Used by those that stand now; the loop above needs what stood before.
            (hbm_used, l2_used) = (0.0, [0.0; 2]);
            self.used.iter_mut().for_each(|used| *used = [0.0; 2]);
            for flow in self.flows.iter().filter(|flow| flow.rate >= 0.0) {
                hbm_used += flow.rate * self.behind(flow);
                l2_used[usize::from(flow.write)] += flow.rate;
                self.used[flow.core as usize][usize::from(flow.write)] += flow.rate;
            }
            self.busy = hbm_used;
            open -= frozen;
            if frozen == 0 {
                // Only rounding gets here: whoever is left stands at the level.
                self.flows.iter_mut().filter(|flow| flow.rate < 0.0).for_each(|flow| flow.rate = top.max(1e-9));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rates(limits: Limits, flows: &[(u32, f64, f64, bool)]) -> Vec<f64> {
        let mut fluid = Fluid::new(limits, 4);
        for (owner, (core, cap, missed, write)) in flows.iter().enumerate() {
            fluid.start(owner as u32, *core, 1000.0, 1000.0 / cap, *missed, *write);
        }
        fluid.next().unwrap();
        fluid.flows.iter().map(|flow| (flow.rate * 1e6).round() / 1e6).collect()
    }

    const LIMITS: Limits = Limits { hbm: 30.0, l2: [100.0; 2], core_read: 50.0, core_write: 40.0, dirty: 1000.0 };

    #[test]
    fn ports_then_fair_parts() {
        assert_eq!(rates(LIMITS, &[(0, 10.0, 1.0, false)]), [10.0]);
        // The memory is shared by those who need it; who finds all in L2 goes on.
        assert_eq!(
            rates(LIMITS, &[(0, 40.0, 1.0, false), (1, 40.0, 1.0, false), (2, 40.0, 0.0, false)]),
            [15.0, 15.0, 40.0]
        );
        // A slow one leaves its part to the others.
        assert_eq!(rates(LIMITS, &[(0, 5.0, 1.0, false), (1, 40.0, 1.0, false)]), [5.0, 25.0]);
        // Two of one core.
        assert_eq!(
            rates(LIMITS, &[(0, 40.0, 0.0, false), (0, 40.0, 0.0, false), (1, 40.0, 0.0, true)]),
            [25.0, 25.0, 40.0]
        );
        // Half of the bytes from memory.
        assert_eq!(rates(LIMITS, &[(0, 40.0, 0.5, false), (1, 40.0, 1.0, false)]), [20.0, 20.0]);
    }

    /// Of a long write L2 takes in a part at once; from then on it goes as fast as the memory.
    #[test]
    fn writes_are_held_up_once_l2_is_full_of_them() {
        let mut fluid = Fluid::new(LIMITS, 4);
        fluid.start(0, 0, 10_000.0, 250.0, 1.0, true);
        let (mut cycles, mut out) = (0.0, Vec::new());
        while out.is_empty() {
            let step = fluid.next().unwrap();
            fluid.advance(step);
            cycles += step;
            fluid.finished(&mut out);
        }
        // 1000 bytes stay; the others take the memory's 30 bytes a cycle, give or take what a change of the rate rounds.
        assert!((cycles - 9000.0 / 30.0).abs() < 10.0, "{cycles}");
    }

    #[test]
    fn time_passes_until_one_is_through() {
        let mut fluid = Fluid::new(LIMITS, 4);
        fluid.start(7, 0, 100.0, 10.0, 0.0, false);
        fluid.start(8, 1, 300.0, 10.0, 0.0, false);
        let cycles = fluid.next().unwrap();
        assert_eq!(cycles, 10.0);
        fluid.advance(cycles);
        let mut out = Vec::new();
        fluid.finished(&mut out);
        assert_eq!(out, [7, 8]);
        assert!(fluid.next().is_none());
    }
}

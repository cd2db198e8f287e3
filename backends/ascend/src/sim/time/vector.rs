//! What the vector unit takes.
//!
//! The 950 runs functions over registers of 256 bytes: a head, then for each register whatever is scarcest of loads, stores
//! and executions, then a drain. What a fused function hands on within itself is neither loaded nor stored. The 910B runs each
//! operation alone: a head, then cycles for each register.

use crate::isa::{Axis, Bin, Blocks, Elem, Red, Tile, Un, Vector, conversions};
use crate::machine::Figures;

/// What a function needs of each port.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    loads: f64,
    stores: f64,
    executions: f64,
    /// Latency of its longest operation.
    latency: f64,
}

/// Cycles of an operation or a function.
pub(super) fn cycles(figures: &Figures, vector: &Vector) -> f64 {
    let mut needs = Needs::default();
    match vector {
        Vector::Fused(all) => {
            let mut written: Vec<Blocks> = Vec::new();
            let mut stored: Vec<Blocks> = Vec::new();
            for one in all {
                needs.executions += executions(figures, one);
                needs.latency = f64::max(needs.latency, latency(figures, one));
                one.tiles(&mut |write, tile| {
                    let blocks = tile.blocks();
                    if write {
                        written.push(blocks);
                        if !stored.contains(&blocks) {
                            stored.push(blocks);
                            needs.stores += registers(figures, tile);
                        }
                    } else if !written.iter().any(|own| own.covers(&blocks)) {
                        needs.loads += registers(figures, tile);
                    }
                });
            }
            // What is written and taken up again within the function stays in registers, but for the last result.
            let kept: f64 =
                all.iter().rev().skip(1).filter(|one| is_taken_up(one, all)).map(|one| result(figures, one)).sum();
            needs.stores = (needs.stores - kept).max(all.last().map_or(0.0, |one| result(figures, one)));
        }
        one => {
            needs.executions = executions(figures, one);
            needs.latency = latency(figures, one);
            one.tiles(&mut |write, tile| {
                let port = if write { &mut needs.stores } else { &mut needs.loads };
                *port += registers(figures, tile);
            });
        }
    }
    let busiest = (needs.loads / figures.vector_loads.max(1e-9))
        .max(needs.stores / figures.vector_stores.max(1e-9))
        .max(needs.executions / figures.vector_executions.max(1e-9));
    figures.vector_head + figures.vector_load_latency + needs.latency + busiest + figures.vector_drain
}

fn is_taken_up(one: &Vector, all: &[Vector]) -> bool {
    let Some(result) = one.result() else { return false };
    let mut found = false;
    all.iter().for_each(|other| other.tiles(&mut |write, tile| found |= !write && tile.blocks() == result.blocks()));
    found
}

fn result(figures: &Figures, one: &Vector) -> f64 {
    one.result().map_or(0.0, |tile| registers(figures, tile))
}

/// Registers that a tile's rows fill.
fn registers(figures: &Figures, tile: &Tile) -> f64 {
    let Blocks { len, count, .. } = tile.blocks();
    (len as f64 / figures.vector_width.max(1.0)).ceil() * count as f64
}

/// Registers of an operation: of its widest operand.
fn widest(figures: &Figures, one: &Vector) -> f64 {
    let mut most: f64 = 0.0;
    // Conversions go by lanes, which the wider type has fewer of.
    one.tiles(&mut |_, tile| most = most.max(registers(figures, tile)));
    most
}

fn executions(figures: &Figures, one: &Vector) -> f64 {
    let registers = widest(figures, one);
    match one {
        Vector::Bin(op, ..) => registers * binary(figures, *op),
        Vector::Un(op, _, a) => registers * unary(figures, *op, a.elem),
        Vector::Cast(to, a, _) => registers * figures.vector_cast * f64::from(conversions(a.elem, to.elem)),
        Vector::Red(red, axis, to, a) => reduction(figures, *red, *axis, to, a),
        Vector::Bcast(..) | Vector::Ramp(..) => registers * figures.vector_add,
        Vector::Select(_, _, [a, b, ..]) => {
            let compared = [a, b].iter().filter_map(|operand| operand.tile()).count().max(1);
            registers * (figures.vector_add * compared as f64).min(2.0 * figures.vector_add)
        }
        Vector::Gather(to, ..) => elements(to) * figures.vector_gather,
        Vector::Scatter(_, from, _) => elements(from) * figures.vector_gather,
        Vector::Trans(..) => registers * figures.vector_transpose,
        Vector::Sort32(_, keys, _) => elements(keys) * figures.vector_sort,
        Vector::Merge(to, _) => elements(to) / 2.0 * figures.vector_merge,
        // Both halves of the range, each by itself.
        Vector::Hist(_, _, a) => 2.0 * elements(a) / figures.vector_histogram.max(1e-9),
        // What is compared may be of fewer registers than what is moved.
        Vector::Squeeze(_, _, from, compared) => {
            let compared = compared.iter().filter_map(|operand| operand.tile());
            let compared: f64 = compared.map(|tile| self::registers(figures, tile)).sum();
            self::registers(figures, from) * figures.vector_squeeze + compared * figures.vector_add
        }
        Vector::DequantMx(to, ..) => {
            self::registers(figures, &to.of(Elem::BF16)) * (figures.vector_cast + figures.vector_mul)
        }
        Vector::Fused(all) => all.iter().map(|one| executions(figures, one)).sum(),
    }
}

fn elements(tile: &Tile) -> f64 {
    tile.count() as f64
}

fn binary(figures: &Figures, op: Bin) -> f64 {
    match op {
        Bin::Mul => figures.vector_mul,
        Bin::Div => figures.vector_div,
        _ => figures.vector_add,
    }
}

fn unary(figures: &Figures, op: Un, elem: Elem) -> f64 {
    // Twice the lanes, of a unit that works on as many at a time as of f32.
    let halves = if elem.bits() == 16 { 2.0 } else { 1.0 };
    match op {
        Un::Exp | Un::Ln => figures.vector_exp * halves,
        Un::Sqrt | Un::Rcp => figures.vector_div * halves,
        Un::Rsqrt => figures.vector_rsqrt * halves,
        _ => figures.vector_add,
    }
}

/// Along rows: registers of a row are taken together, then the lanes of the last. Along columns: rows are taken together.
fn reduction(figures: &Figures, red: Red, axis: Axis, to: &Tile, a: &Tile) -> f64 {
    let together = registers(figures, a) * figures.vector_add;
    let both = if red == Red::ArgMax { 2.0 } else { 1.0 };
    match axis {
        Axis::Row => both * (together + f64::from(to.rows) * figures.vector_reduce),
        Axis::Col => both * together,
    }
}

fn latency(figures: &Figures, one: &Vector) -> f64 {
    match one {
        Vector::Un(Un::Exp | Un::Ln | Un::Sqrt | Un::Rsqrt | Un::Rcp, ..) | Vector::Bin(Bin::Div, ..) => {
            figures.vector_latency * 2.0
        }
        Vector::Red(..) => figures.vector_latency * 3.0,
        _ => figures.vector_latency,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::isa::{Cmp, Operand};
    use crate::machine::{Profile, Space};

    /// 64 registers are compared and squeezed; marks of a byte each are of a quarter as many to be compared.
    #[test]
    fn what_is_squeezed_and_what_is_compared_are_paid_for() {
        let tile = |at, elem| Tile::rows_of(Space::Ub, at, elem, 1, 4096);
        let [from, marks] = [(0, Elem::I32), (65_536, Elem::U8)].map(|(at, elem)| tile(at, elem));
        let to = Tile { cols: 64, ..tile(131_072, Elem::I32) };
        let squeeze = |compared: Tile| Vector::Squeeze(Cmp::Ne, to, from, [compared.into(), Operand::Integer(0)]);
        for (profile, by_itself, by_marks) in [
            ("950dt", 23.0 + 9.0 + 8.0 + (64.0 * 2.0 + 64.0) / 2.0 + 12.0, 52.0 + (64.0 * 2.0 + 16.0) / 2.0),
            ("910b", 25.0 + 64.0 * 14.0 + 64.0, 25.0 + 64.0 * 14.0 + 16.0),
        ] {
            let figures = Profile::open(profile).unwrap().figures;
            assert_eq!(cycles(&figures, &squeeze(from)), by_itself, "{profile}");
            assert_eq!(cycles(&figures, &squeeze(marks)), by_marks, "{profile}");
        }
    }
}

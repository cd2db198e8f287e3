//! Vectors as a kernel writes them.

use super::Context;
use crate::isa::{Axis, Bin, Body, Cmp, Count, Operand, Red, Round, Tile, Un, Vector};
use crate::machine::Arch;

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl Context<'_> {
            $($(#[$doc])*
            #[track_caller]
            pub fn $name(&mut self, to: Tile, a: impl Into<Operand>, b: impl Into<Operand>) {
                self.vector(Vector::Bin(Bin::$op, to, a.into(), b.into()));
            })*
        }
    };
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl Context<'_> {
            $($(#[$doc])*
            #[track_caller]
            pub fn $name(&mut self, to: Tile, a: Tile) {
                self.vector(Vector::Un(Un::$op, to, a));
            })*
        }
    };
}

binary! {
    /// `to = a + b`.
    add Add;
    /// `to = a - b`.
    sub Sub;
    /// `to = a * b`.
    mul Mul;
    /// `to = a / b`.
    div Div;
    /// The larger of both.
    max Max;
    /// The smaller of both.
    min Min;
    /// Bits of both.
    and And;
    /// Bits of either.
    or Or;
    /// Bits of one.
    xor Xor;
    /// Bits moved up.
    shl Shl;
    /// Bits moved down.
    shr Shr;
}

unary! {
    /// e to the power of `a`.
    exp Exp;
    /// Natural logarithm.
    ln Ln;
    /// Square root.
    sqrt Sqrt;
    /// One over the square root.
    rsqrt Rsqrt;
    /// One over `a`.
    rcp Rcp;
    /// Without its sign.
    abs Abs;
    /// With the other sign.
    neg Neg;
    /// Zero where it is below.
    relu Relu;
    /// As it is.
    copy Copy;
}

impl Context<'_> {
    /// Records an operation of the vector unit, or adds it to the function that is being fused.
    #[track_caller]
    pub fn vector(&mut self, vector: Vector) {
        match &mut self.fused {
            Some(fused) => fused.push(vector),
            None => self.push(Body::Vector(vector)),
        }
    }

    /// Operations that the 950 runs as one function (`VF`), with what they hand on in registers; the 910B runs each alone.
    #[track_caller]
    pub fn fused(&mut self, f: impl FnOnce(&mut Self)) {
        if self.profile.arch != Arch::V3510 || self.fused.is_some() {
            return f(self);
        }
        self.fused = Some(Vec::new());
        f(self);
        match self.fused.take() {
            Some(all) if all.len() > 1 => self.push(Body::Vector(Vector::Fused(all))),
            all => {
                for one in all.into_iter().flatten() {
                    self.push(Body::Vector(one));
                }
            }
        }
    }

    /// To another type.
    #[track_caller]
    pub fn cast(&mut self, to: Tile, a: Tile, round: Round) {
        self.vector(Vector::Cast(to, a, round));
    }

    /// Rows or columns to one element each.
    #[track_caller]
    pub fn reduce(&mut self, red: Red, axis: Axis, to: Tile, a: Tile) {
        self.vector(Vector::Red(red, axis, to, a));
    }

    /// One row, one column or one number for all.
    #[track_caller]
    pub fn bcast(&mut self, to: Tile, a: impl Into<Operand>) {
        self.vector(Vector::Bcast(to, a.into()));
    }

    /// `start`, `start + step` and so on in each row.
    #[track_caller]
    pub fn ramp(&mut self, to: Tile, start: i32, step: i32) {
        self.vector(Vector::Ramp(to, start, step));
    }

    /// `to = x where a cmp b, else y`.
    #[track_caller]
    pub fn select(
        &mut self,
        to: Tile,
        (a, cmp, b): (impl Into<Operand>, Cmp, impl Into<Operand>),
        x: impl Into<Operand>,
        y: impl Into<Operand>,
    ) {
        self.vector(Vector::Select(cmp, to, [a.into(), b.into(), x.into(), y.into()]));
    }

    /// `to[i] = from[index[i]]`.
    #[track_caller]
    pub fn gather(&mut self, to: Tile, from: Tile, index: Tile) {
        self.vector(Vector::Gather(to, from, index));
    }

    /// `to[index[i]] = from[i]`.
    #[track_caller]
    pub fn scatter(&mut self, to: Tile, from: Tile, index: Tile) {
        self.vector(Vector::Scatter(to, from, index));
    }

    /// Rows to columns.
    #[track_caller]
    pub fn transpose(&mut self, to: Tile, a: Tile) {
        self.vector(Vector::Trans(to, a));
    }

    /// Each 32 numbers descending, with their integers, as rows of pairs.
    #[track_caller]
    pub fn sort32(&mut self, to: Tile, keys: Tile, integers: Tile) {
        self.vector(Vector::Sort32(to, keys, integers));
    }

    /// Up to four descending lists of pairs to one.
    #[track_caller]
    pub fn merge(&mut self, to: Tile, lists: &[Tile]) {
        self.vector(Vector::Merge(to, lists.to_vec()));
    }

    /// How often each byte value comes in each row, or how often one comes that is no higher.
    #[track_caller]
    pub fn histogram(&mut self, to: Tile, a: Tile, count: Count) {
        self.vector(Vector::Hist(count, to, a));
    }

    /// Elements of `from` for which `a cmp b`, one behind the other from the front of `to`; the rest of it stays.
    #[track_caller]
    pub fn squeeze(&mut self, to: Tile, from: Tile, (a, cmp, b): (impl Into<Operand>, Cmp, impl Into<Operand>)) {
        self.vector(Vector::Squeeze(cmp, to, from, [a.into(), b.into()]));
    }

    /// Codes times the scale of each 32 of a row.
    #[track_caller]
    pub fn dequant_mx(&mut self, to: Tile, codes: Tile, scales: Tile) {
        self.vector(Vector::DequantMx(to, codes, scales));
    }
}

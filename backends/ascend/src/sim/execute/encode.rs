//! Numbers as elements of a type: rounded as a conversion asks for, and saturated where the type has no infinity.

use crate::isa::{Elem, Round, e5m2, hif8};
use anychip_core::formats::{e2m1, e4m3, scale};
use half::{bf16, f16};

/// Stores a number; gives it back where it was more than the type has. A 4-bit code takes a byte here: whoever stores rows
/// of them packs them.
pub(super) fn encode(elem: Elem, value: f32, round: Round, out: &mut Vec<u8>) -> Option<f32> {
    let mut lost = false;
    match elem {
        Elem::F32 => out.extend(value.to_le_bytes()),
        Elem::F16 => {
            let decode = |code| f16::from_bits(code).to_f32();
            let most = f16::INFINITY.to_bits();
            out.extend(directed(value, f16::from_f32(value).to_bits(), most, decode, round).to_le_bytes());
        }
        Elem::BF16 => {
            let decode = |code| bf16::from_bits(code).to_f32();
            let most = bf16::INFINITY.to_bits();
            out.extend(directed(value, bf16::from_f32(value).to_bits(), most, decode, round).to_le_bytes());
        }
        Elem::E4M3 => {
            lost = value.abs() > e4m3::MAX;
            let (nearest, most) = (e4m3::encode(value), e4m3::encode(e4m3::MAX));
            out.push(directed(value, nearest.into(), most.into(), |code| e4m3::decode(code as u8), round) as u8);
        }
        Elem::E5M2 => {
            lost = value.abs() > e5m2::MAX;
            let (nearest, most) = (e5m2::encode(value), e5m2::encode(e5m2::MAX));
            out.push(directed(value, nearest.into(), most.into(), |code| e5m2::decode(code as u8), round) as u8);
        }
        // It has one way of rounding: see `Round::suits`.
        Elem::HiF8 => {
            lost = value.abs() > hif8::MAX;
            out.push(hif8::encode(value));
        }
        Elem::E2M1 => {
            lost = value.abs() > e2m1::MAX;
            let (nearest, most) = (e2m1::encode(value), e2m1::encode(e2m1::MAX));
            out.push(directed(value, nearest.into(), most.into(), |code| e2m1::decode(code as u8), round) as u8);
        }
        // No conversion goes to scales. What is no power of two becomes the next one, as a block's scale is chosen.
        Elem::E8M0 => {
            let code = match value {
                _ if value == scale::decode(0) => 0,
                _ if value > 0.0 => scale::encode_ceil(value),
                _ => scale::NAN,
            };
            lost = scale::decode(code) != value && !value.is_nan();
            out.push(code);
        }
        Elem::I4 => {
            let whole = whole(value, round);
            lost = !(-8.0..=7.0).contains(&whole);
            out.push(whole.clamp(-8.0, 7.0) as i8 as u8 & 15);
        }
        Elem::I8 => {
            let whole = whole(value, round);
            lost = !(-128.0..=127.0).contains(&whole);
            out.push(whole as i8 as u8);
        }
        Elem::U8 => {
            let whole = whole(value, round);
            lost = !(0.0..=255.0).contains(&whole);
            out.push(whole as u8);
        }
        Elem::I32 => {
            let whole = whole(value, round);
            // The end is 2^31, the next f32 above the largest integer that is one.
            lost = !(i32::MIN as f32..-(i32::MIN as f32)).contains(&whole);
            out.extend((whole as i32).to_le_bytes());
        }
    }
    lost.then_some(value)
}

fn whole(value: f32, round: Round) -> f32 {
    match round {
        Round::Even => value.round_ties_even(),
        Round::Zero => value.trunc(),
        Round::Floor => value.floor(),
        Round::Ceil => value.ceil(),
        Round::Away => value.round(),
    }
}

/// The code of a number that is rounded in a direction, from the nearest one. Codes of a sign ascend with the magnitude, up to
/// `most`, which is the largest number or infinity.
fn directed(value: f32, nearest: u16, most: u16, decode: impl Fn(u16) -> f32, round: Round) -> u16 {
    let there = decode(nearest).abs();
    let outwards = match round {
        // Only types that round so by themselves do.
        Round::Even | Round::Away => return nearest,
        Round::Zero => false,
        Round::Floor => value.is_sign_negative(),
        Round::Ceil => value.is_sign_positive(),
    };
    if outwards && there < value.abs() && there < decode(most) {
        nearest + 1
    } else if !outwards && there > value.abs() {
        nearest - 1
    } else {
        nearest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn code(elem: Elem, value: f32, round: Round) -> f32 {
        let mut bytes = Vec::new();
        let _ = encode(elem, value, round, &mut bytes);
        assert_eq!(bytes.len(), elem.bits().div_ceil(8), "{elem}");
        elem.number(&bytes, 0)
    }

    /// All finite numbers of a type, ascending.
    fn numbers(elem: Elem) -> Vec<f32> {
        let codes = 0..1u32 << elem.bits();
        let all = codes.map(|code| elem.number(&code.to_le_bytes(), 0));
        let mut all: Vec<f32> = all.filter(|number| number.is_finite()).collect();
        all.sort_by(f32::total_cmp);
        all
    }

    proptest! {
        /// The number at or below, at or above, or that of both which is nearer to zero.
        #[test]
        fn directions_are_those_of_the_numbers_beside(bits in any::<u32>(), small in -600f32..600.0, kind in 0usize..4) {
            let elem = [Elem::F16, Elem::BF16, Elem::E4M3, Elem::E2M1][kind];
            let all = numbers(elem);
            for value in [f32::from_bits(bits), small, small / 4096.0].into_iter().filter(|value| !value.is_nan()) {
                let saturates = matches!(elem, Elem::E4M3 | Elem::E2M1);
                let (least, most) = (*all.first().unwrap(), *all.last().unwrap());
                let below = match all.partition_point(|number| *number <= value) {
                    0 if saturates => least,
                    0 => f32::NEG_INFINITY,
                    // Infinity is a number of these as well.
                    _ if value == f32::INFINITY && !saturates => value,
                    end => all[end - 1],
                };
                let above = match all.partition_point(|number| *number < value) {
                    end if end == all.len() && saturates => most,
                    end if end == all.len() => f32::INFINITY,
                    _ if value == f32::NEG_INFINITY && !saturates => value,
                    end => all[end],
                };
                prop_assert_eq!(code(elem, value, Round::Floor), below, "{} of {}", elem, value);
                prop_assert_eq!(code(elem, value, Round::Ceil), above, "{} of {}", elem, value);
                let inwards = if value < 0.0 { above } else { below };
                prop_assert_eq!(code(elem, value, Round::Zero), inwards, "{} of {}", elem, value);
            }
        }
    }

    #[test]
    fn what_a_type_has_not_is_said() {
        let lost = |elem, value, round| encode(elem, value, round, &mut Vec::new()).is_some();
        assert!(!lost(Elem::U8, 255.5, Round::Floor) && lost(Elem::U8, 255.5, Round::Ceil));
        assert!(!lost(Elem::I8, -128.5, Round::Zero) && lost(Elem::I8, -128.5, Round::Floor));
        assert!(!lost(Elem::I32, -2147483648.0, Round::Even) && lost(Elem::I32, 2147483648.0, Round::Even));
        assert!(lost(Elem::I32, f32::NAN, Round::Even));
        assert!(lost(Elem::E8M0, 3.0, Round::Even) && !lost(Elem::E8M0, 4.0, Round::Even));
        assert_eq!(code(Elem::E8M0, 1.0, Round::Even), 1.0);
        assert_eq!(code(Elem::I32, -2.5, Round::Ceil), -2.0);
        assert!(code(Elem::BF16, f32::from_bits(0x7F80_0001), Round::Zero).is_nan());
        assert!(code(Elem::E4M3, f32::NAN, Round::Floor).is_nan());
    }
}

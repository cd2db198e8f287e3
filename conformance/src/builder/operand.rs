//! Operands in buffers of their own, between guard bands.

use anychip_core::{DType, DeviceInfo, Error, Invalid, KvPool, Result, Tensor};

/// Bytes of a guard band at least; a band is as long as the device's alignment calls for.
const BAND: u64 = 256;

/// A tensor of a case, and what lay in its buffer before the operation ran.
///
/// Before and after the tensor lie guard bands. Their pattern is NaN as f32, bf16 and f16 and depends on the place: what
/// a device reads there shows in its results, and what it writes or moves there shows in the band.
pub(crate) struct Operand {
    tensor: Tensor,
    whole: Tensor,
    before: Vec<u8>,
}

/// Where a byte was changed that was not to be.
pub(crate) struct Changed {
    /// Byte within the band, or within the tensor.
    pub(crate) at: usize,
    pub(crate) got: u8,
    pub(crate) want: u8,
}

impl Operand {
    /// Memory for a tensor with `bytes` as its contents. Nothing is written yet.
    pub(crate) fn new(
        device: &dyn anychip_core::Device,
        dtype: DType,
        sizes: &[usize],
        bytes: &[u8],
    ) -> Result<Operand> {
        let (band, len) = (band(&device.info()), bytes.len() as u64);
        let buffer = device.allocate(band + len + band)?;
        let tensor = Tensor::new(&buffer, band, dtype, sizes)?;
        if tensor.bytes() != len {
            return Err(Error::Invalid(Invalid::WrongLength { want: tensor.bytes(), got: len }));
        }
        let total = (band + len + band) as usize;
        let whole = Tensor::new(&buffer, 0, DType::U8, &[total])?;
        let mut before = Vec::with_capacity(total);
        before.extend((0..band as usize).map(guard_byte));
        before.extend_from_slice(bytes);
        before.extend((before.len()..total).map(guard_byte));
        Ok(Operand { tensor, whole, before })
    }

    /// The tensor.
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The tensor's bytes before the operation.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.within(&self.before)
    }

    /// The whole buffer, bands included.
    pub(crate) fn whole(&self) -> &Tensor {
        &self.whole
    }

    /// What the whole buffer held before the operation.
    pub(crate) fn before(&self) -> &[u8] {
        &self.before
    }

    /// Changes what a view of this operand held before the operation. Nothing is written yet.
    pub(crate) fn set(&mut self, view: &Tensor, bytes: &[u8]) {
        let place = self.before.get_mut(view.offset() as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.into_iter().for_each(|place| place.copy_from_slice(bytes));
    }

    /// The part of a copy of the buffer that a view of this operand covers.
    pub(crate) fn view<'a>(&self, buffer: &'a [u8], view: &Tensor) -> &'a [u8] {
        buffer.get(view.offset() as usize..).and_then(|b| b.get(..view.bytes() as usize)).unwrap_or_default()
    }

    /// The tensor's part of a copy of the buffer.
    pub(crate) fn within<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        self.view(buffer, &self.tensor)
    }

    /// The first byte that differs in the bands, and whether it lies behind the tensor.
    pub(crate) fn band_change(&self, after: &[u8]) -> Option<(bool, Changed)> {
        let (start, len) = (self.tensor.offset() as usize, self.tensor.bytes() as usize);
        let end = start + len;
        // The bytes next to the tensor first: those say how far a kernel went.
        if let Some(c) = first_change(&self.before[end..], &after[end..]) {
            return Some((true, c));
        }
        first_change(&self.before[..start], &after[..start]).map(|c| (false, c))
    }

    /// The first byte of the tensor that differs.
    pub(crate) fn change(&self, after: &[u8]) -> Option<Changed> {
        first_change(self.bytes(), self.within(after))
    }
}

fn first_change(before: &[u8], after: &[u8]) -> Option<Changed> {
    // Equal it is nearly always, which is found out much faster of all at once.
    if before == after {
        return None;
    }
    let at = before.iter().zip(after).position(|(a, b)| a != b)?;
    Some(Changed { at, got: after[at], want: before[at] })
}

/// Bytes of a guard band: the tensor behind it begins where the device takes operands, and pools.
fn band(info: &DeviceInfo) -> u64 {
    let step = info.alignment.max(1);
    let mut band = step;
    while band < BAND || !band.is_multiple_of(KvPool::ALIGNMENT) {
        band += step;
    }
    band
}

/// NaN as f32, bf16 and f16 wherever such an element may begin, and another byte at each place.
fn guard_byte(at: usize) -> u8 {
    let mixed = (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 57;
    if at.is_multiple_of(2) { 0x80 | (1 + mixed as u8 % 127) } else { 0x7F | (mixed as u8) << 7 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn a_guard_is_nan_wherever_it_is_read() {
        let bytes: Vec<u8> = (0..1024).map(guard_byte).collect();
        for b in bytes.chunks_exact(4) {
            assert!(f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_nan());
            assert!(bf16::from_le_bytes([b[0], b[1]]).is_nan() && f16::from_le_bytes([b[2], b[3]]).is_nan());
        }
        let moved = bytes.iter().zip(&bytes[64..]).filter(|(a, b)| a != b).count();
        assert!(moved > 400, "a band that was moved by a line looks the same in {} places", 960 - moved);
    }

    #[test]
    fn a_write_past_the_end_is_found_where_it_is() {
        let device = anychip_reference::open(1 << 20);
        let operand = Operand::new(&*device, DType::BF16, &[3], &[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(operand.tensor().offset() % 64, 0);
        let mut after = operand.before().to_vec();
        assert!(operand.band_change(&after).is_none() && operand.change(&after).is_none());
        let end = (operand.tensor().offset() + 6) as usize;
        after[end + 2] ^= 1;
        assert!(matches!(operand.band_change(&after), Some((true, Changed { at: 2, .. }))));
        after[end - 1] ^= 1;
        assert!(matches!(operand.change(&after), Some(Changed { at: 5, want: 6, .. })));
    }

    #[test]
    fn bytes_that_do_not_fill_the_tensor_are_refused() {
        let device = anychip_reference::open(1 << 20);
        assert!(Operand::new(&*device, DType::F32, &[3], &[0; 16]).is_err());
    }
}

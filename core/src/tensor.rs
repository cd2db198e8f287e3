//! Tensors: a type, a shape and a place in device memory.

use crate::{DType, Invalid};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One opened device. Buffers carry it, so that an operation whose operands live on two devices cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(u64);

impl DeviceId {
    /// An identity that no other opened device has. Called once when a device is opened.
    pub fn unique() -> DeviceId {
        DeviceId(next_id())
    }
}

/// What a backend keeps for one allocation: a driver handle, an address, a host vector.
///
/// `impl Memory for Mine {}` is all there is to write: the contract only stores it and hands it back to the backend that
/// made it. Its `Drop` frees the memory. It runs when no queued work needs it any more, on whichever thread lets go last,
/// possibly after the `Device` value is gone; it must not wait for the device and must not panic.
pub trait Memory: Any + Send + Sync {}

/// A run of device memory. Cloning shares it; the last clone frees it.
#[derive(Clone)]
pub struct Buffer(Arc<Allocation>);

struct Allocation {
    device: DeviceId,
    id: u64,
    bytes: u64,
    memory: Box<dyn Memory>,
}

impl Buffer {
    /// Wraps an allocation of `bytes` bytes; called by [`Device::allocate`](crate::Device::allocate).
    pub fn new(device: DeviceId, bytes: u64, memory: Box<dyn Memory>) -> Buffer {
        Buffer(Arc::new(Allocation { device, id: next_id(), bytes, memory }))
    }

    /// A buffer that holds nothing, for building operations that are only asked about
    /// ([`Device::supports`](crate::Device::supports), [`Op::cost`](crate::Op::cost)). A device refuses to run on it.
    pub fn phantom(bytes: u64) -> Buffer {
        struct Phantom;
        impl Memory for Phantom {}
        Buffer::new(DeviceId(0), bytes, Box::new(Phantom))
    }

    /// The device that the memory belongs to.
    pub fn device(&self) -> DeviceId {
        self.0.device
    }

    /// An identity that no other buffer of this process has or had.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Bytes that were asked for.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// The backend's own record, if `M` is its type.
    pub fn memory<M: Memory>(&self) -> Option<&M> {
        let any: &dyn Any = &*self.0.memory;
        any.downcast_ref()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer#{}({} bytes)", self.id(), self.bytes())
    }
}

/// Up to four sizes, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    sizes: [usize; 4],
    rank: usize,
}

impl Shape {
    /// A shape; zero sizes are allowed and mean an empty tensor.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] beyond 4 sizes or 2^48 elements.
    pub fn new(sizes: &[usize]) -> Result<Shape, Invalid> {
        let too_large = || Invalid::TooLarge { got: format!("{sizes:?}") };
        // Zero sizes are left out of the product, or an empty tensor could hide a size that overflows later.
        let count = sizes.iter().filter(|&&n| n > 0).try_fold(1u64, |all, &n| all.checked_mul(n as u64));
        if sizes.len() > 4 || count.is_none_or(|n| n > 1 << 48) {
            return Err(too_large());
        }
        let mut own = [1; 4];
        own[..sizes.len()].copy_from_slice(sizes);
        Ok(Shape { sizes: own, rank: sizes.len() })
    }

    /// The sizes.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.sizes().iter().product()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.sizes())
    }
}

/// Elements of one type in device memory, row-major without gaps.
///
/// A tensor is a view: slicing and reshaping make another one over the same [`Buffer`]. Its bytes are read and written
/// through a [`Stream`](crate::Stream) only.
#[derive(Clone, Debug)]
pub struct Tensor {
    buffer: Buffer,
    offset: u64,
    dtype: DType,
    shape: Shape,
}

impl Tensor {
    /// A tensor at `offset` bytes into `buffer`.
    ///
    /// # Errors
    /// [`Invalid::OutOfBounds`] past the end, [`Invalid::Misaligned`] when the offset is no multiple of the element
    /// size, [`Invalid::TooLarge`] for the shape.
    pub fn new(buffer: &Buffer, offset: u64, dtype: DType, sizes: &[usize]) -> Result<Tensor, Invalid> {
        let shape = Shape::new(sizes)?;
        let need = dtype.bytes(shape.count() as u64).ok_or_else(|| Invalid::TooLarge { got: format!("{sizes:?}") })?;
        let have = buffer.bytes();
        if offset.checked_add(need).is_none_or(|end| end > have) {
            return Err(Invalid::OutOfBounds { need, offset, have });
        }
        let align = dtype.bits().div_ceil(8);
        if !offset.is_multiple_of(align) {
            return Err(Invalid::Misaligned { dtype, offset, align });
        }
        Ok(Tensor { buffer: buffer.clone(), offset, dtype, shape })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes, outermost first.
    pub fn sizes(&self) -> &[usize] {
        self.shape.sizes()
    }

    /// Size `axis`, or 1 beyond the rank.
    pub fn size(&self, axis: usize) -> usize {
        self.shape.sizes.get(axis).copied().unwrap_or(1)
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.count()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        // The constructor has shown that this does not overflow.
        self.dtype.bytes(self.shape.count() as u64).unwrap_or(u64::MAX)
    }

    /// First byte within the buffer.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The memory.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// `len` entries of the outermost axis, from `start`.
    ///
    /// # Errors
    /// [`Invalid::BadView`] past the end of the axis, or where a packed type would start inside a byte.
    pub fn slice(&self, start: usize, len: usize) -> Result<Tensor, Invalid> {
        let sizes = self.sizes();
        let bad = || Invalid::BadView { what: format!("rows {start}..{start}+{len}"), shape: format!("{sizes:?}") };
        let outer = *sizes.first().ok_or_else(bad)?;
        if start.checked_add(len).is_none_or(|end| end > outer) {
            return Err(bad());
        }
        let inner = sizes[1..].iter().product::<usize>() as u64;
        let skipped_bits = (start as u64 * inner).checked_mul(self.dtype.bits()).ok_or_else(bad)?;
        if !skipped_bits.is_multiple_of(8) {
            return Err(bad());
        }
        let mut shape = self.shape;
        shape.sizes[0] = len;
        Ok(Tensor { buffer: self.buffer.clone(), offset: self.offset + skipped_bits / 8, dtype: self.dtype, shape })
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`Invalid::BadView`] when the number of elements differs.
    pub fn reshape(&self, sizes: &[usize]) -> Result<Tensor, Invalid> {
        let shape = Shape::new(sizes)?;
        if shape.count() != self.count() {
            return Err(Invalid::BadView { what: format!("shape {sizes:?}"), shape: format!("{:?}", self.sizes()) });
        }
        Ok(Tensor { shape, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Nothing;
    impl Memory for Nothing {}

    fn buffer(bytes: u64) -> Buffer {
        Buffer::new(DeviceId::unique(), bytes, Box::new(Nothing))
    }

    #[test]
    fn a_tensor_lies_within_its_buffer() {
        let b = buffer(64);
        assert!(Tensor::new(&b, 0, DType::F32, &[4, 4]).is_ok());
        assert!(matches!(Tensor::new(&b, 4, DType::F32, &[4, 4]), Err(Invalid::OutOfBounds { .. })));
        assert!(matches!(Tensor::new(&b, u64::MAX - 3, DType::F32, &[4]), Err(Invalid::OutOfBounds { .. })));
        assert!(matches!(Tensor::new(&b, 2, DType::F32, &[4]), Err(Invalid::Misaligned { .. })));
        assert!(matches!(Tensor::new(&b, 0, DType::F32, &[1; 5]), Err(Invalid::TooLarge { .. })));
        assert!(matches!(Tensor::new(&b, 0, DType::U8, &[0, usize::MAX, 2]), Err(Invalid::TooLarge { .. })));
    }

    #[test]
    fn views_stay_inside() {
        let t = Tensor::new(&buffer(64), 0, DType::F32, &[4, 4]).unwrap();
        let rows = t.slice(1, 2).unwrap();
        assert_eq!((rows.offset(), rows.sizes()), (16, &[2, 4][..]));
        assert!(t.slice(3, 2).is_err());
        assert!(t.slice(usize::MAX, 2).is_err());
        assert!(t.reshape(&[2, 8]).is_ok());
        assert!(t.reshape(&[3, 5]).is_err());
        let packed = Tensor::new(&buffer(8), 0, DType::E2M1, &[5, 3]).unwrap();
        assert_eq!(packed.bytes(), 8);
        assert!(packed.slice(1, 1).is_err(), "row 1 starts inside a byte");
        assert_eq!(packed.slice(2, 1).unwrap().offset(), 3);
    }
}

//! The operations of frontier sparse models, each a value that can only be run once it has been checked.
//!
//! An operation is described by a plain struct of its own name with public fields, [`Linear`] or [`SparseAttention`].
//! [`Operation::build`] checks the description once, on the host, and turns it into an [`Op`]: streams take nothing
//! else, so a backend never checks again what the type proves. [`Op::kind`] gives the description back to the backend.
//!
//! Rules that every operation keeps, checked in `build`:
//! - all operands live on one device;
//! - an operand that is written shares its buffer with no other operand;
//! - types and shapes are those that the operation's own page lists.
//!
//! `T` is rows (tokens of all sequences of a batch, one behind the other), `d` hidden size, `H` heads, `D` head size.
//! A NaN in an element that a result depends on gives NaN in that result and in no other row: minimum, maximum and clamps
//! pass it on. [`TopK`] and [`Route`] say where a NaN ranks. Where an operation rounds in steps ([`Rounding::Bf16`]), a
//! result may differ by what a flipped step makes of it: the suite's tolerance follows each step.
//!
//! "float" is f32, bf16 or f16: the value is read exactly and the result is rounded once, to nearest even, on the store.

mod check;
pub(crate) use check::Check;

use crate::{Cost, DType, DeviceId, Invalid, Matrix, Result, Tensor};
use std::sync::Arc;

/// How an operation uses an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Overwrites all of it: what it held before does not matter, and every byte is defined afterwards.
    Write,
    /// Reads it and changes parts of it: carried state, pages of a pool.
    ReadWrite,
}

/// Called with each operand's name, its use and the tensor.
pub type Visitor<'a> = dyn FnMut(&'static str, Access, &mut Tensor) -> Result<()> + 'a;

/// A rounding of intermediate results that the model's definition asks for, beyond the types of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// None: f32 or better between operands.
    None,
    /// To bf16, at the places that the operation's page names.
    Bf16,
}

/// A description of an operation.
pub trait Operation: Clone + Sized + Into<OpKind> {
    /// The operation's one name.
    const NAME: &'static str;

    /// Checks what is this operation's own: types, shapes, parameters.
    ///
    /// # Errors
    /// The first broken rule.
    fn check(&self) -> Result<(), Invalid>;

    /// Shows each operand to `f`, which may replace it.
    ///
    /// # Errors
    /// The first that `f` returns.
    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()>;

    /// The least work that computes it.
    fn cost(&self) -> Cost;

    /// Checks the description and makes it an operation that a stream takes.
    ///
    /// # Errors
    /// [`Invalid`], naming the rule, the limit and what was given.
    fn build(mut self) -> Result<Op> {
        self.check()?;
        let mut seen: Vec<(&'static str, Access, Tensor)> = Vec::new();
        self.visit(&mut |name, access, tensor| {
            if let Some((first, _, one)) = seen.first()
                && one.buffer().device() != tensor.buffer().device()
            {
                let (operand, first) = (name.into(), (*first).into());
                return Err(Invalid::MixedDevices { op: Self::NAME, operand, first }.into());
            }
            for (other, other_access, one) in &seen {
                let (written, read) = if access == Access::Read { (*other, name) } else { (name, *other) };
                let clash = access != Access::Read || *other_access != Access::Read;
                if clash && one.buffer().id() == tensor.buffer().id() {
                    let (written, other) = (written.into(), read.into());
                    return Err(Invalid::Aliased { op: Self::NAME, written, other }.into());
                }
            }
            seen.push((name, access, tensor.clone()));
            Ok(())
        })?;
        Ok(Op { device: seen.first().map(|(_, _, tensor)| tensor.buffer().device()), kind: Arc::new(self.into()) })
    }
}

/// An operation that was checked. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Op {
    kind: Arc<OpKind>,
    device: Option<DeviceId>,
}

impl Op {
    /// The description.
    pub fn kind(&self) -> &OpKind {
        &self.kind
    }

    /// The device that the operands live on; `None` for an operation without operands.
    pub fn device(&self) -> Option<DeviceId> {
        self.device
    }

    /// Name, use and tensor of each operand, in the order of the operation's page.
    pub fn operands(&self) -> Vec<(&'static str, Access, Tensor)> {
        let mut all = Vec::new();
        // The visitor returns no error, so neither does the visit.
        let _ = self.kind().clone().visit(&mut |name, access, tensor| {
            all.push((name, access, tensor.clone()));
            Ok(())
        });
        all
    }

    /// The same operation over other tensors: `f` gives the replacement of each operand, for instance on another
    /// device.
    ///
    /// # Errors
    /// Those of `f`; [`Invalid::BadView`] when a replacement has another type or shape.
    pub fn rebind(&self, f: &mut dyn FnMut(&'static str, Access, &Tensor) -> Result<Tensor>) -> Result<Op> {
        let mut kind = self.kind().clone();
        kind.visit(&mut |name, access, tensor| {
            let other = f(name, access, tensor)?;
            if other.dtype() != tensor.dtype() || other.sizes() != tensor.sizes() {
                let what = format!("{} {:?} as {name}", other.dtype(), other.sizes());
                return Err(Invalid::BadView { what, shape: format!("{} {:?}", tensor.dtype(), tensor.sizes()) }.into());
            }
            *tensor = other;
            Ok(())
        })?;
        kind.build()
    }
}

macro_rules! ops {
    ($($module:ident $Kind:ident),* $(,)?) => {
        $(mod $module; pub use $module::*;)*

        /// A checked description, one variant per operation.
        // Always behind the `Arc` of an `Op`: a large variant costs nothing.
        #[allow(clippy::large_enum_variant)]
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum OpKind { $(#[doc = concat!("See [`", stringify!($Kind), "`].")] $Kind($Kind)),* }

        $(impl From<$Kind> for OpKind {
            fn from(op: $Kind) -> OpKind { OpKind::$Kind(op) }
        })*

        /// Every operation's name, in the order of the contract.
        pub const NAMES: &[&str] = &[$($Kind::NAME),*];

        impl Op {
            /// The operation's one name.
            pub fn name(&self) -> &'static str {
                match self.kind() { $(OpKind::$Kind(_) => $Kind::NAME),* }
            }

            /// The least work that computes it.
            pub fn cost(&self) -> Cost {
                match self.kind() { $(OpKind::$Kind(op) => op.cost()),* }
            }
        }

        impl OpKind {
            fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
                match self { $(OpKind::$Kind(op) => op.visit(f)),* }
            }

            fn build(self) -> Result<Op> {
                match self { $(OpKind::$Kind(op) => op.build()),* }
            }
        }
    };
}

ops! {
    sparse_attention SparseAttention,
    dense_attention DenseAttention,
    kv_compress KvCompress,
    index_scores IndexScores,
    top_k TopK,
    kv_store KvStore,
    route Route,
    expert_gemm ExpertGemm,
    expert_ffn ExpertFfn,
    linear Linear,
    embed Embed,
    rms_norm RmsNorm,
    rope Rope,
    swiglu Swiglu,
    quantize Quantize,
    dequantize Dequantize,
    hadamard Hadamard,
    hyper_pre HyperPre,
    hyper_post HyperPost,
    hyper_head HyperHead,
    newton_schulz NewtonSchulz,
}

/// Types that an operation computes on directly.
const FLOAT: &[DType] = &[DType::F32, DType::BF16, DType::F16];

/// A product of sizes as a cost, saturating.
fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1u64, |all, &n| all.saturating_mul(n as u64))
}

fn bytes(tensors: &[&Tensor]) -> u64 {
    tensors.iter().map(|t| t.bytes()).sum()
}

impl Matrix {
    fn visit(&mut self, names: [&'static str; 2], access: Access, f: &mut Visitor<'_>) -> Result<()> {
        f(names[0], access, &mut self.codes)?;
        self.scales.as_mut().map_or(Ok(()), |scales| f(names[1], access, scales))
    }
}

impl crate::Paged {
    fn visit(&mut self, names: [&'static str; 3], access: Access, f: &mut Visitor<'_>) -> Result<()> {
        f(names[0], access, &mut self.pool.pages)?;
        f(names[1], Access::Read, &mut self.table)?;
        f(names[2], Access::Read, &mut self.sequence)
    }
}

//! anychip's WGSL kernels, one file per operation, and how a kernel's text is put together.
//!
//! A kernel is written once, over operands whose storage format it does not know: it says `x_load(i)` and `out_store(i, v)`.
//! A [`Spec`] says what is bound in this call (the formats, how many bindings each operand needs) and the constants that the
//! text leaves open (tile sizes, variants); [`Spec::source`] puts generated accessors, the shared [`prelude`](PRELUDE) and
//! the kernel's own file together. Sizes that change from call to call are immediates, so that one pipeline serves them.
//!
//! Nothing here needs a driver: the sources are data.
#![forbid(unsafe_code)]

mod accessors;

use std::fmt::Write;

/// How the elements of an operand lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// IEEE binary32, read as `f32`.
    F32,
    /// bfloat16, two to a word, read as `f32`.
    BF16,
    /// IEEE binary16, two to a word, read as `f32`.
    F16,
    /// FP8 e4m3 codes, four to a word, read as `f32`.
    E4M3,
    /// FP4 e2m1 codes, eight to a word, read as `f32`.
    E2M1,
    /// Scale exponents, four to a word, read as the `f32` factor.
    UE8M0,
    /// Signed integers, read as `i32`.
    I32,
    /// Bytes, four to a word, read as `u32`.
    Bytes,
    /// An operand that this call does not have. Nothing is bound; every element reads as this f32, given by its bits.
    Absent(u32),
    /// The same of integers, which read as -1.
    NoIntegers,
}

impl Storage {
    /// Bits of an element.
    pub const fn bits(self) -> u64 {
        match self {
            Storage::F32 | Storage::I32 | Storage::Absent(_) | Storage::NoIntegers => 32,
            Storage::BF16 | Storage::F16 => 16,
            Storage::E4M3 | Storage::UE8M0 | Storage::Bytes => 8,
            Storage::E2M1 => 4,
        }
    }
}

/// What a kernel does with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Loads from it.
    Read,
    /// Stores into it.
    Write,
    /// Both.
    ReadWrite,
}

/// One operand of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Its name in the kernel's text.
    pub name: &'static str,
    /// Its elements.
    pub storage: Storage,
    /// What is done with it.
    pub access: Access,
    /// Bindings that it takes, each of [`Window`] bytes but the last; 0 where it is absent.
    pub windows: u32,
    /// Words of the first window that lie before it.
    pub skipped: u32,
    /// For a matrix, how its rows are read: makes `NAME_at` and `NAME_quad`.
    pub matrix: Option<MatrixRead>,
    /// For a paged pool, how its entries lie: makes `NAME_locate`, `NAME_entry` and `NAME_entries`.
    pub pool: Option<PoolRead>,
}

impl Slot {
    /// Words that one load takes: as many as four elements of a matrix, or of an entry, lie in, where they begin at multiples
    /// of that. Matters where each load costs, however wide it is.
    pub(crate) fn together(&self) -> u32 {
        let in_fours = self.access == Access::Read && self.matrix.as_ref().is_some_and(|matrix| matrix.aligned);
        match (self.storage, self.pool.map(|pool| pool.form)) {
            (Storage::F32, _) if in_fours => 4,
            (Storage::BF16 | Storage::F16, _) if in_fours => 2,
            (Storage::Bytes, Some(PoolForm::F32(dim))) if self.access == Access::Read && dim.is_multiple_of(4) => 4,
            _ => 1,
        }
    }
}

/// How the entries of a paged pool lie. The kernel has the page table as `NAME_table` and defines `NAME_sequences()`,
/// `NAME_table_pages()`, the pages of a sequence, and `NAME_pages()`, those of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolRead {
    /// How the elements of an entry are stored.
    pub form: PoolForm,
    /// Bytes of an entry's elements, of its scales, and of a page.
    pub data_bytes: u32,
    /// See `data_bytes`.
    pub scale_bytes: u32,
    /// See `data_bytes`.
    pub page_bytes: u32,
}

/// How the elements of an entry are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolForm {
    /// So many f32.
    F32(u32),
    /// So many e4m3 codes in blocks of 64, then so many bf16.
    Fp8(u32, u32),
    /// So many e2m1 codes in blocks of 32.
    Fp4(u32),
    /// This call does not have the pool.
    Absent,
}

/// How an operand is read as a matrix, in `NAME_at(group, row, col)` and, four columns at a time, in `NAME_quad`. The kernel
/// defines `NAME_rows()` and `NAME_cols()`, the sizes of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatrixRead {
    /// Rows and columns that share a scale, whose operand is called `NAME_scale`; `None` for plain elements.
    pub block: Option<(u32, u32)>,
    /// Whether rows, and blocks of columns, begin at multiples of four elements.
    pub aligned: bool,
}

/// A constant that a kernel's text leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constant {
    /// A number.
    Number(u32),
    /// A switch.
    Flag(bool),
}

/// Bytes of a window: a power of two, at most what the adapter lets one binding have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window(pub u64);

/// One specialisation of a kernel: what a pipeline is made from, and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The kernel's name, which is its file's.
    pub kernel: &'static str,
    /// Which of several [`VARIANTS`] of a part it is built on, where its text leaves that open.
    pub variant: Option<&'static str>,
    /// Its operands, in the order of their bindings.
    pub slots: Vec<Slot>,
    /// Its constants.
    pub constants: Vec<(&'static str, Constant)>,
    /// Bytes of a window of operands that take several bindings.
    pub window: Window,
}

/// One binding of a kernel, in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Place of its operand in [`Spec::slots`].
    pub slot: usize,
    /// Which window of it.
    pub window: u32,
    /// Whether the kernel stores into it.
    pub writes: bool,
}

impl Spec {
    /// Every binding, number by number.
    pub fn bindings(&self) -> Vec<Binding> {
        let of = |(slot, s): (usize, &Slot)| {
            let writes = s.access != Access::Read;
            (0..s.windows).map(move |window| Binding { slot, window, writes })
        };
        self.slots.iter().enumerate().flat_map(of).collect()
    }

    /// The WGSL text; `None` where there is no kernel, or no variant, of that name.
    pub fn source(&self) -> Option<String> {
        let kernel = KERNELS.iter().find(|kernel| kernel.name == self.kernel)?;
        // Writing into a string does not fail.
        let mut text = String::with_capacity(1 << 14);
        if self.variant == Some(COOPERATIVE) {
            let is_16 = self.constants.contains(&("SIDE", Constant::Number(16)));
            let shape = if is_16 { "coop_mat16x16" } else { "coop_mat8x8" };
            let _ = writeln!(
                text,
                "enable f16;\nenable wgpu_cooperative_matrix;\n\
                 alias Left = {shape}<f16, A>;\nalias Right = {shape}<f16, B>;\nalias Sum = {shape}<f32, C>;"
            );
        }
        for (name, value) in &self.constants {
            let _ = match value {
                Constant::Number(n) => writeln!(text, "const {name}: u32 = {n}u;"),
                Constant::Flag(b) => writeln!(text, "const {name}: bool = {b};"),
            };
        }
        accessors::write(&mut text, self);
        PRELUDE.iter().chain(kernel.parts).for_each(|part| text.push_str(part));
        if let Some(variant) = self.variant {
            let (_, part) = VARIANTS.iter().find(|(name, _)| *name == variant)?;
            text.push_str(part);
        }
        text.push_str(kernel.text);
        Some(text)
    }
}

/// A kernel's text.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Its name: that of its file.
    pub name: &'static str,
    /// Texts that it shares with other kernels.
    pub parts: &'static [&'static str],
    /// Its own.
    pub text: &'static str,
}

/// What every kernel may use: number formats, functions with known errors, and reductions over a workgroup.
pub const PRELUDE: &[&str] = &[
    include_str!("prelude/formats.wgsl"),
    include_str!("prelude/functions.wgsl"),
    include_str!("prelude/groups.wgsl"),
];

/// The variant that multiplies by cooperative matrices; its constant `SIDE`, 8 or 16, is the adapter's tile.
pub const COOPERATIVE: &str = "product_cooperative";

/// Parts that stand for each other: a plan picks one by what the adapter has.
pub const VARIANTS: &[(&str, &str)] = &[
    (COOPERATIVE, include_str!("parts/product_cooperative.wgsl")),
    ("listed_lanes", include_str!("parts/listed_lanes.wgsl")),
    ("listed_tiles", include_str!("parts/listed_tiles.wgsl")),
    ("product_lanes", include_str!("parts/product_lanes.wgsl")),
    ("product_rows", include_str!("parts/product_rows.wgsl")),
    ("product_tiles", include_str!("parts/product_tiles.wgsl")),
];

/// The kernels, each with the parts of `parts/` that it shares with others.
macro_rules! kernels {
    ($($name:literal $(with $($part:literal),+)?;)*) => {
        &[$(Kernel {
            name: $name,
            parts: &[$($(include_str!(concat!("parts/", $part, ".wgsl"))),+)?],
            text: include_str!(concat!($name, ".wgsl")),
        }),*]
    };
}

/// Every kernel.
pub const KERNELS: &[Kernel] = kernels! {
    "attention_join" with "softmax";
    "copy_bytes";
    "dense_attention" with "softmax", "attention_task", "attention_store";
    "dense_attention_few" with "softmax", "attention_task", "attention_store";
    "dequantize" with "elements", "pair";
    "embed" with "elements", "pair";
    "expert_ffn_down" with "experts", "pairs";
    "expert_ffn_in" with "experts", "pairs";
    "expert_ffn_out" with "ascending";
    "expert_ffn_round";
    "expert_ffn_sum" with "ascending", "pair";
    "expert_gemm" with "experts";
    "expert_owners";
    "expert_sort";
    "hadamard";
    "hyper_head" with "mix", "collapse", "pair";
    "hyper_mix" with "mix";
    "hyper_post" with "pair";
    "hyper_pre" with "mix", "collapse", "pair";
    "index_scores";
    "kv_compress" with "slots";
    "kv_compress_entries" with "slots", "windows";
    "kv_compress_state" with "slots", "windows";
    "kv_store";
    "linear";
    "newton_schulz";
    "newton_schulz_norm" with "norm_parts";
    "newton_schulz_scale" with "norm_parts";
    "quantize";
    "rms_norm" with "pair";
    "rope" with "elements", "pair";
    "route" with "order";
    "sparse_attention" with "softmax", "listed";
    "swiglu" with "elements", "pair";
    "top_k" with "order";
    "top_k_one" with "order";
};

use super::*;
use anychip_core::ops::KvStore;
use anychip_core::{KvPool, Paged};

/// Random bytes of a pool at most; a larger one has them over and over. A prime, so that no two pages are the same.
const MOST_RANDOM: usize = 33_554_393;

#[derive(Clone, Copy)]
struct Spec {
    format: KvFormat,
    x: DType,
    family: Family,
    size: f32,
    /// Page table of each sequence; all tables are equally wide.
    table: &'static [&'static [i32]],
    pages: usize,
    /// Sequence and entry of each row.
    rows: &'static [(i32, i32)],
    /// Whether some elements are NaN or infinite.
    poisoned: bool,
}

impl Spec {
    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let (rows, dim) = (self.rows.len(), self.format.dim());
        let mut values = self.family.fill(b.random(), rows * dim, dim);
        values.iter_mut().for_each(|x| *x *= self.size);
        if self.poisoned {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let at = b.random().below(values.len());
                values[at] = bad;
            }
        }
        let x = b.floats(self.x, &[rows, dim], &values)?;
        // What was in the pool before may be anything, and most of it stays.
        let len = self.pages * self.format.page_bytes();
        let random: Vec<u8> = (0..len.min(MOST_RANDOM)).map(|_| b.random().byte()).collect();
        let before: Vec<u8> = if len > MOST_RANDOM { random.repeat(len.div_ceil(MOST_RANDOM)) } else { random };
        let before = &before[..len];
        let pages = b.tensor(DType::U8, &[self.pages, self.format.page_bytes()], before)?;
        let table = b.integers(&[self.table.len(), self.table.first().map_or(0, |t| t.len())], &self.table.concat())?;
        let (sequence, entries): (Vec<i32>, Vec<i32>) = self.rows.iter().copied().unzip();
        let sequence = b.integers(&[rows], &sequence)?;
        let kv = Paged { pool: KvPool::new(self.format, &pages)?, table, sequence };
        KvStore { x, kv, entries: b.integers(&[rows], &entries)? }.build()
    }
}

pub(super) fn list(cases: &mut Cases) {
    const FLASH: KvFormat = KvFormat::Fp8 { nope: 448, rope: 64 };
    /// Two sequences with their pages among each other's; the second ends sooner.
    const TABLE: &[&[i32]] = &[&[2, 0, 3], &[1, -1, 9]];
    const PLAIN: &[(i32, i32)] = &[(0, 0), (0, 63), (0, 64), (1, 5), (0, 191), (1, 63)];
    const OUTSIDE: &[(i32, i32)] =
        &[(0, -1), (0, 192), (1, 64), (1, 128), (2, 0), (-1, 0), (0, 70), (i32::MAX, 1), (0, i32::MAX), (1, i32::MIN)];
    const TWICE: &[(i32, i32)] = &[(0, 7), (1, 7), (0, 7), (0, 8), (0, 7)];
    /// Entry 999_999 of a sequence whose table has but one page, at the end.
    const FAR: &[&[i32]] = &[&{
        let mut table = [-1; 15625];
        table[15624] = 1;
        table
    }];
    let fp8 = Spec {
        format: FLASH,
        x: DType::BF16,
        family: Normal,
        size: 1.0,
        table: TABLE,
        pages: 4,
        rows: PLAIN,
        poisoned: false,
    };
    for (profile, variant, spec) in [
        (Quick, "plain", fp8),
        (Quick, "plain", Spec { x: DType::F32, family: Outliers, ..fp8 }),
        (Quick, "outside", Spec { rows: OUTSIDE, format: KvFormat::Fp8 { nope: 80, rope: 16 }, ..fp8 }),
        (Quick, "twice", Spec { rows: TWICE, format: KvFormat::Fp4 { dim: 48 }, ..fp8 }),
        (Quick, "plain", Spec { format: KvFormat::Fp4 { dim: 128 }, x: DType::F32, family: Quiet, ..fp8 }),
        (Quick, "plain", Spec { format: KvFormat::F32 { dim: 33 }, x: DType::F32, ..fp8 }),
        (Quick, "plain", Spec { format: KvFormat::F32 { dim: 64 }, x: DType::F32, ..fp8 }),
        (Quick, "poisoned", Spec { poisoned: true, ..fp8 }),
        (Quick, "poisoned", Spec { poisoned: true, format: KvFormat::Fp4 { dim: 128 }, x: DType::F32, ..fp8 }),
        (Quick, "far", Spec { table: FAR, pages: 2, rows: &[(0, 999_999), (0, 999_936), (0, 5)], ..fp8 }),
        (Quick, "nowhere", Spec { rows: &[(0, -1), (0, -1), (9, 0)], ..fp8 }),
        // Both ends of the scales; what is subnormal is below every scale's floor.
        (Quick, "large", Spec { x: DType::F32, size: 1e37, ..fp8 }),
        (Quick, "small", Spec { x: DType::F32, size: 1e-6, ..fp8 }),
        (Quick, "subnormal", Spec { x: DType::F32, size: 1e-39, ..fp8 }),
        (Quick, "large", Spec { format: KvFormat::Fp4 { dim: 128 }, x: DType::F32, size: 1e37, ..fp8 }),
        (Quick, "small", Spec { format: KvFormat::Fp4 { dim: 128 }, x: DType::F32, size: 1e-37, ..fp8 }),
        (Quick, "subnormal", Spec { format: KvFormat::Fp4 { dim: 128 }, x: DType::F32, size: 1e-39, ..fp8 }),
        (Quick, "offset", Spec { format: KvFormat::Fp8 { nope: 66, rope: 15 }, family: Offset, ..fp8 }),
        (Quick, "tile", Spec { format: KvFormat::Fp8 { nope: 62, rope: 17 }, ..fp8 }),
        (Quick, "tile", Spec { format: KvFormat::Fp4 { dim: 34 }, ..fp8 }),
        (Quick, "tile", Spec { format: KvFormat::Fp4 { dim: 30 }, x: DType::F16, ..fp8 }),
        (Full, "far", Spec { table: FAR, pages: 512, rows: &[(0, 999_999)], ..fp8 }),
    ] {
        let Spec { x, pages, rows, .. } = spec;
        let format = kv_tag(spec.format);
        let name = format!("{variant}/{x}-{format}/{}/p{pages}-t{}", spec.family.name(), rows.len());
        cases.add(profile, name, move |b| spec.build(b));
    }
    // Pages at both ends of the pool, and the two that the byte lies between which no signed 32-bit number names.
    const PAGES: usize = BEYOND_2GIB / FLASH.page_bytes();
    const EDGE: i32 = ((1usize << 31) / FLASH.page_bytes()) as i32;
    const ENDS: &[&[i32]] = &[&[PAGES as i32 - 1, 0, EDGE, EDGE - 1]];
    const ROWS: &[(i32, i32)] = &[(0, 5), (0, 63), (0, 64), (0, 130), (0, 191), (0, 192), (0, 255)];
    let spec = Spec { table: ENDS, pages: PAGES, rows: ROWS, ..fp8 };
    cases.beyond_2gib(format!("bf16-{}/p{PAGES}-t{}", kv_tag(FLASH), ROWS.len()), move |b| spec.build(b));
}

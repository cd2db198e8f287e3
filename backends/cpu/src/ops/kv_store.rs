use crate::load::{Floats, Work, par_rows};
use crate::pages;
use anychip_core::{Result, host, ops::KvStore};

/// Row `t` becomes entry `entries[t]` of its sequence, in the pool's format.
pub(crate) fn run(op: &KvStore) -> Result<()> {
    let format = op.kv.pool.format();
    let (x, dim) = (Floats::of(&op.x)?, format.dim());
    let (entries, sequence, table) =
        (host::read(&op.entries)?, host::read(&op.kv.sequence)?, host::read(&op.kv.table)?);
    let (entries, sequence): (&[i32], &[i32]) = (entries.as_slice(), sequence.as_slice());
    let mut encoded = vec![0; op.x.size(0) * format.entry_bytes()];
    par_rows(
        &mut encoded,
        format.entry_bytes(),
        Work::of(op),
        || vec![0.0; dim],
        |row, t, bytes| {
            let (data, scales) = bytes.split_at_mut(format.data_bytes());
            x.read(t * dim, row);
            pages::encode(format, row, data, scales);
        },
    );
    let mut pool = host::write(op.kv.pool.pages())?;
    let pool = pool.bytes_mut();
    // One after the other: of two rows that name one entry the later must stay.
    for (t, bytes) in encoded.chunks(format.entry_bytes()).enumerate() {
        if let Some((page, place)) = op.kv.locate(table.as_slice(), sequence[t], entries[t]) {
            let (data, scales) = bytes.split_at(format.data_bytes());
            let page = &mut pool[page * format.page_bytes()..][..format.page_bytes()];
            page[format.data_offset(place)..][..data.len()].copy_from_slice(data);
            page[format.scale_offset(place)..][..scales.len()].copy_from_slice(scales);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, golden, golden_floats, noise};
    use anychip_core::formats::round_bf16;
    use anychip_core::{DType, KvFormat, KvPool, Paged, Tensor};

    /// A pool of `pages` pages full of 0xFF, and one sequence over them.
    fn paged(lab: &Lab, format: KvFormat, table: &[i32], pages: usize, rows: usize) -> Paged {
        let pool = KvPool::new(format, &lab.output(DType::U8, &[pages, format.page_bytes()])).unwrap();
        let table = lab.ints(&[1, table.len()], table);
        Paged { pool, table, sequence: lab.ints(&[rows], &vec![0; rows]) }
    }

    fn store(lab: &Lab, x: Tensor, kv: &Paged, entries: &[i32]) -> Vec<u8> {
        lab.run(KvStore { x, kv: kv.clone(), entries: lab.ints(&[entries.len()], entries) });
        lab.raw(kv.pool.pages())
    }

    /// Whether the entries `0..4` of a page are those of `want`, and all bytes that belong to no entry are 0xFF.
    fn assert_page(format: KvFormat, got: &[u8], want: &[u8]) {
        let mut rest = got.to_vec();
        for entry in 0..4 {
            let spans =
                [(format.data_offset(entry), format.data_bytes()), (format.scale_offset(entry), format.scale_bytes())];
            for (start, len) in spans {
                assert_eq!(got[start..start + len], want[start..start + len], "entry {entry}");
                rest[start..start + len].fill(0xFF);
            }
        }
        assert!(rest.iter().all(|&byte| byte == 0xFF), "a byte was written that belongs to no entry");
    }

    #[test]
    fn the_golden_kv_page() {
        let (lab, format) = (Lab::new(), KvFormat::Fp8 { nope: 448, rope: 64 });
        for dtype in [DType::F32, DType::BF16] {
            let x = lab.floats(dtype, &[4, 512], &golden_floats("kv.x"));
            let got = store(&lab, x, &paged(&lab, format, &[0], 1, 4), &[0, 1, 2, 3]);
            assert_page(format, &got, &golden("kv.page64"));
        }
    }

    #[test]
    fn the_golden_indexer_page() {
        let (lab, format) = (Lab::new(), KvFormat::Fp4 { dim: 128 });
        let x = lab.floats(DType::F32, &[4, 128], &golden_floats("had.y"));
        let got = store(&lab, x, &paged(&lab, format, &[0], 1, 4), &[0, 1, 2, 3]);
        assert_page(format, &got, &golden("idx.page64"));
    }

    #[test]
    fn later_rows_stay_and_rows_without_a_place_vanish() {
        let (lab, format) = (Lab::new(), KvFormat::F32 { dim: 3 });
        let values = noise(1, 18);
        let x = lab.floats(DType::F32, &[6, 3], &values);
        // Page 1 of the sequence is page 0 of the pool, page 0 is nowhere, and page 2 lies outside the pool.
        let kv = paged(&lab, format, &[-1, 0, 9], 1, 6);
        let got = store(&lab, x, &kv, &[64 + 5, -1, 64 + 5, 3, 128, 192]);
        let mut want = vec![0xFF; format.page_bytes()];
        want[5 * 12..6 * 12].copy_from_slice(bytemuck::cast_slice(&values[6..9]));
        assert_eq!(got, want);
    }

    #[test]
    fn packed_forms_round_to_bf16_first() {
        // 247.999 is nearer to 240 than to 256, but in bf16 it is 248, which ties to the even code.
        let (lab, format) = (Lab::new(), KvFormat::Fp8 { nope: 2, rope: 1 });
        let x = [247.999, 448.0, 1.0 + 1.0 / 512.0];
        let got = store(&lab, lab.floats(DType::F32, &[1, 3], &x), &paged(&lab, format, &[0], 1, 1), &[0]);
        let mut rounded = x.map(round_bf16);
        assert_eq!(rounded[0], 248.0);
        let (mut data, mut scales) = (vec![0; 4], vec![0; 8]);
        pages::encode(format, &mut rounded, &mut data, &mut scales);
        assert_eq!(got[..4], data);
        assert_eq!(anychip_core::formats::e4m3::decode(got[0]), 256.0);
    }
}

use crate::operands::{bytes, floats, integers};
use crate::real::Grid;
use crate::{Output, Real};
use anychip_core::formats::{e2m1, round_bf16, scale};
use anychip_core::ops::KvStore;
use anychip_core::{KvFormat, Result};
use half::bf16;

/// Row `t` becomes entry `entries[t]` of its sequence; of two rows for one entry the later stays.
pub(crate) fn evaluate<R: Real>(op: &KvStore, _units: R::Units) -> Result<Vec<Output<R>>> {
    let pool = &op.kv.pool;
    let (format, dim) = (pool.format(), op.x.size(1));
    let (x, entries) = (floats(&op.x)?, integers(&op.entries)?);
    let (table, sequence) = (integers(&op.kv.table)?, integers(&op.kv.sequence)?);
    let mut pages = bytes(pool.pages())?;
    for t in 0..op.x.size(0) {
        let Some((page, place)) = op.kv.locate(&table, sequence[t], entries[t]) else { continue };
        let (data, scales) = packed(&x[t * dim..][..dim], format);
        let page = &mut pages[page * format.page_bytes()..][..format.page_bytes()];
        page[format.data_offset(place)..][..format.data_bytes()].copy_from_slice(&data);
        page[format.scale_offset(place)..][..format.scale_bytes()].copy_from_slice(&scales);
    }
    Ok(vec![Output::bytes("pool", pool.pages(), pages)])
}

/// An entry's elements and its scales, padding included.
fn packed(row: &[f32], format: KvFormat) -> (Vec<u8>, Vec<u8>) {
    let rounded: Vec<f32> = row.iter().map(|&x| round_bf16(x)).collect();
    let (data, mut scales) = match format {
        KvFormat::Fp8 { nope, .. } => {
            let (front, back) = rounded.split_at(nope);
            let (mut data, scales) = codes(front, KvFormat::FP8_BLOCK, Grid::E4M3);
            data.extend(back.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()));
            (data, scales)
        }
        KvFormat::Fp4 { .. } => {
            let (codes, scales) = codes(&rounded, KvFormat::FP4_BLOCK, Grid::E2M1);
            (codes.chunks_exact(2).map(|pair| e2m1::pack(pair[0], pair[1])).collect(), scales)
        }
        _ => (row.iter().flat_map(|x| x.to_le_bytes()).collect(), Vec::new()),
    };
    scales.resize(format.scale_bytes(), 0);
    (data, scales)
}

/// Codes one to a byte, and a scale per block.
fn codes(row: &[f32], block: usize, grid: Grid) -> (Vec<u8>, Vec<u8>) {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for block in row.chunks(block) {
        let byte = grid.scale_byte(scale::amax(block));
        codes.extend(block.iter().map(|&x| grid.code(x, byte)));
        scales.push(byte);
    }
    (codes, scales)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::operands::Entries;
    use crate::testing::*;
    use anychip_core::DType::{BF16, F32, U8};
    use anychip_core::ops::KvStore;
    use anychip_core::{KvFormat, KvPool, Paged, Tensor};

    const FLASH: KvFormat = KvFormat::Fp8 { nope: 448, rope: 64 };

    /// Pages of 0xAA, one table, one sequence number for all rows.
    fn paged(format: KvFormat, pages: usize, table: &Tensor, sequence: &[i32]) -> Paged {
        let bytes = vec![0xAA; pages * format.page_bytes()];
        let pool = KvPool::new(format, &raw(U8, &[pages, format.page_bytes()], &bytes)).unwrap();
        Paged { pool, table: table.clone(), sequence: int_tensor(&[sequence.len()], sequence) }
    }

    fn store(x: &Tensor, kv: &Paged, entries: &[i32]) -> Vec<u8> {
        run(KvStore { x: x.clone(), kv: kv.clone(), entries: int_tensor(&[entries.len()], entries) });
        bytes_of(kv.pool.pages())
    }

    /// Whether both agree where `stored` says so, and `page` was left alone elsewhere.
    fn assert_page(format: KvFormat, page: &[u8], golden: &[u8], stored: impl Fn(usize) -> bool) {
        for i in 0..64 {
            for (offset, len) in
                [(format.data_offset(i), format.data_bytes()), (format.scale_offset(i), format.scale_bytes())]
            {
                let got = &page[offset..offset + len];
                if stored(i) {
                    assert_eq!(got, &golden[offset..offset + len], "entry {i} at {offset}");
                } else {
                    assert!(got.iter().all(|&b| b == 0xAA), "entry {i} was not to be touched");
                }
            }
        }
        assert!(page[64 * format.entry_bytes()..].iter().all(|&b| b == 0xAA), "the page's padding was touched");
    }

    #[test]
    fn the_golden_kv_page() {
        let table = int_tensor(&[1, 1], &[0]);
        for dtype in [F32, BF16] {
            let kv = paged(FLASH, 1, &table, &[0; 4]);
            let page = store(&golden("kv.x").tensor(dtype), &kv, &[0, 1, 2, 3]);
            assert_page(FLASH, &page, &golden("kv.page64").bytes, |i| i < 4);
            let entries = Entries::<f64>::read("pool", &kv, ()).unwrap();
            let got: Vec<f32> = (0..4).flat_map(|e| entries.get(0, e).unwrap()).map(|x| x as f32).collect();
            assert_eq!(got, golden("kv.dq").floats());
        }
    }

    #[test]
    fn the_golden_indexer_page() {
        // The rotated keys before they were rounded to bf16: the store does that itself.
        let format = KvFormat::Fp4 { dim: 128 };
        let kv = paged(format, 1, &int_tensor(&[1, 1], &[0]), &[0; 4]);
        let page = store(&golden("had.y").tensor(F32), &kv, &[0, 1, 2, 3]);
        assert_page(format, &page, &golden("idx.page64").bytes, |i| i < 4);
        let entries = Entries::<f64>::read("pool", &kv, ()).unwrap();
        let got: Vec<f32> = (0..4).flat_map(|e| entries.get(0, e).unwrap()).map(|x| x as f32).collect();
        assert_eq!(got, golden("idx.k_dq").floats());
    }

    #[test]
    fn entries_find_their_page_and_bad_ones_go_nowhere() {
        let (format, table) = (KvFormat::F32 { dim: 1 }, int_tensor(&[2, 2], &[2, 0, -1, 9]));
        // Sequence, entry and the place it lands on: rows of two sequences over three pages.
        let rows = [
            (0, 63, Some(2 * 64 + 63)),
            (0, 64, Some(0)),
            (0, 128, None),
            (0, -1, None),
            (1, 0, None),
            (1, 64, None),
            (2, 0, None),
            (-1, 0, None),
            (0, 65, Some(1)),
            (0, i32::MAX, None),
        ];
        let kv = paged(format, 3, &table, &rows.map(|r| r.0));
        let x: Vec<f32> = (1..=rows.len()).map(|i| i as f32).collect();
        let pages = store(&tensor(F32, &[rows.len(), 1], &x), &kv, &rows.map(|r| r.1));
        let mut want = vec![0xAA; pages.len()];
        for (x, (.., place)) in x.iter().zip(rows) {
            if let Some(place) = place {
                want[place * 4..][..4].copy_from_slice(&x.to_le_bytes());
            }
        }
        assert_eq!(pages, want);
    }

    #[test]
    fn the_later_row_stays_and_padding_becomes_zero() {
        let format = KvFormat::Fp8 { nope: 24, rope: 8 };
        let kv = paged(format, 1, &int_tensor(&[1, 1], &[0]), &[0, 0]);
        let x: Vec<f32> = [vec![1.0; 32], vec![-448.0; 32]].concat();
        let page = store(&tensor(F32, &[2, 32], &x), &kv, &[5, 5]);
        assert_eq!(page[format.data_offset(5)..][..24], [0xFE; 24]);
        assert_eq!(page[format.scale_offset(5)..][..8], [127, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_nan_poisons_its_block_only() {
        let format = KvFormat::Fp4 { dim: 48 };
        let kv = paged(format, 1, &int_tensor(&[1, 1], &[0]), &[0]);
        let mut x = vec![3.0; 48];
        x[40] = f32::NAN;
        let page = store(&tensor(F32, &[1, 48], &x), &kv, &[0]);
        assert_eq!(page[..24], [[0x77; 16].as_slice(), &[0; 8]].concat());
        assert_eq!(page[format.scale_offset(0)..][..2], [126, 255]);
    }
}

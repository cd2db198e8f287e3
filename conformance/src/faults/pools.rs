//! Paged pools: page tables, sequences, and the layout of a page.

use super::Fault;
use super::bench::Bench;
use anychip_core::ops::{KvStore, OpKind};
use anychip_core::{KvFormat, Op, PAGE_ENTRIES, Result};

const PAGED: &[&str] = &["sparse_attention", "index_scores"];
const STORE: &[&str] = &["kv_store"];
const TABLES: &[&str] = &["page table", "second page table"];
const SEQUENCES: &[&str] = &["sequence numbers", "second sequence numbers"];

const fn fault(name: &'static str, ops: &'static [&'static str], bug: &'static str, run: super::Run) -> Fault {
    Fault::new("pools", name, ops, bug, run)
}

/// Each stored entry's page and place, seen after the store.
fn stored(b: &mut Bench<'_>, op: &Op, f: fn(KvFormat, &mut [u8], usize)) -> Result<()> {
    let OpKind::KvStore(KvStore { kv, entries, .. }) = op.kind() else { return b.run(op) };
    b.run(op)?;
    let [table, sequence, entries] = [b.integers(&kv.table)?, b.integers(&kv.sequence)?, b.integers(entries)?];
    let places: Vec<_> = sequence.iter().zip(&entries).filter_map(|(&s, &e)| kv.locate(&table, s, e)).collect();
    let format = kv.pool.format();
    b.change(kv.pool.pages(), |pages| {
        for (page, place) in places {
            f(format, &mut pages[page * format.page_bytes()..][..format.page_bytes()], place);
        }
    })
}

pub(super) const FAULTS: &[Fault] = &[
    fault("page_table_ignored", PAGED, "Pages are taken in order, without the table.", |b, op| {
        b.with_integers(op, TABLES, |t, table| {
            let width = t.size(1).max(1);
            table
                .iter_mut()
                .enumerate()
                .filter(|(_, page)| (0..64).contains(*page))
                .for_each(|(i, page)| *page = (i % width) as i32);
        })
    }),
    fault("first_page_for_all", PAGED, "Entries beyond the first page are read from it.", |b, op| {
        b.with_integers(op, TABLES, |t, table| {
            table.chunks_mut(t.size(1).max(1)).for_each(|row| (1..row.len()).for_each(|i| row[i] = row[0]));
        })
    }),
    fault("table_of_the_first_sequence", PAGED, "All rows use the first sequence's table.", |b, op| {
        b.with_integers(op, SEQUENCES, |_, s| s.iter_mut().filter(|s| **s > 0).for_each(|s| *s = 0))
    }),
    fault("sequence_clamped", PAGED, "A row of no sequence reads the first one's entries.", |b, op| {
        b.with_integers(op, SEQUENCES, |_, s| s.iter_mut().filter(|s| **s < 0).for_each(|s| *s = 0))
    }),
    fault("neighbouring_page", PAGED, "Page numbers are off by one.", |b, op| {
        b.with_integers(op, TABLES, |_, t| t.iter_mut().filter(|p| **p > 0).for_each(|p| *p -= 1))
    }),
    fault("store_ignores_page_table", STORE, "Entries are stored without the table.", |b, op| {
        let OpKind::KvStore(store) = op.kind() else { return b.run(op) };
        let mut store = store.clone();
        let (table, width) = (store.kv.table.clone(), store.kv.table.size(1).max(1));
        let other = b.device.tensor(table.dtype(), table.sizes())?;
        let pages: Vec<i32> = (0..table.count()).map(|i| (i % width) as i32).collect();
        b.put(&other, &super::bench::bytes_of(&pages))?;
        store.kv.table = other;
        b.run(&anychip_core::Operation::build(store)?)
    }),
    fault("store_off_by_one", STORE, "A row is stored at the place after its own.", |b, op| {
        b.with_integers(op, &["entries"], |_, e| {
            e.iter_mut().filter(|e| **e >= 0).for_each(|e| *e = e.saturating_add(1))
        })
    }),
    fault("minus_one_stores_at_zero", STORE, "A row of entry -1 is stored over entry 0.", |b, op| {
        b.with_integers(op, &["entries"], |_, e| e.iter_mut().for_each(|e| *e = (*e).max(0)))
    }),
    fault("first_of_two_rows_stays", STORE, "Where two rows name one entry the first one wins the race.", |b, op| {
        let OpKind::KvStore(store) = op.kind() else { return b.run(op) };
        let sequence = b.integers(&store.kv.sequence)?;
        b.with_integers(op, &["entries"], |_, e| {
            for i in (1..e.len()).rev() {
                if (0..i).any(|j| (sequence[j], e[j]) == (sequence[i], e[i])) {
                    e[i] = -1;
                }
            }
        })
    }),
    fault("padding_not_zeroed", STORE, "The byte behind an entry's scales keeps what it was.", |b, op| {
        let OpKind::KvStore(store) = op.kind() else { return b.run(op) };
        let before = b.bytes(store.kv.pool.pages())?;
        let format = store.kv.pool.format();
        b.run(op)?;
        let KvFormat::Fp8 { nope, .. } = format else { return Ok(()) };
        b.change(store.kv.pool.pages(), |after| {
            for page in 0..store.kv.pool.page_count() {
                for place in 0..PAGE_ENTRIES {
                    let start = page * format.page_bytes() + format.scale_offset(place);
                    let padding = start + nope.div_ceil(KvFormat::FP8_BLOCK)..start + format.scale_bytes();
                    after[padding.clone()].copy_from_slice(&before[padding]);
                }
            }
        })
    }),
    fault("scales_beside_the_data", STORE, "Scales of an entry are stored at the next entry's place.", |b, op| {
        stored(b, op, |format, page, place| {
            let (from, size) = (format.scale_offset(place), format.scale_bytes());
            if size > 0 && place + 1 < PAGE_ENTRIES {
                page.copy_within(from..from + size, from + size);
                page[from..from + size].fill(0);
            }
        })
    }),
    fault(
        "stored_nibbles_swapped",
        STORE,
        "FP4 entries are packed with the even element in the high nibble.",
        |b, op| {
            stored(b, op, |format, page, place| {
                if let KvFormat::Fp4 { .. } = format {
                    page[format.data_offset(place)..][..format.data_bytes()]
                        .iter_mut()
                        .for_each(|c| *c = c.rotate_left(4));
                }
            })
        },
    ),
    fault("page_cleared", STORE, "Storing one entry clears the entry after it.", |b, op| {
        stored(b, op, |format, page, place| {
            let size = format.data_bytes();
            if place + 1 < PAGE_ENTRIES {
                page[(place + 1) * size..][..size].fill(0);
            }
        })
    }),
    fault("stored_without_bf16_first", STORE, "An f32 row is quantised without its rounding to bf16.", |b, op| {
        let OpKind::KvStore(store) = op.kind() else { return b.run(op) };
        let (KvFormat::Fp8 { nope, .. }, x) = (store.kv.pool.format(), b.floats(&store.x)?) else { return b.run(op) };
        b.run(op)?;
        let dim = store.kv.pool.format().dim();
        let [table, sequence, entries] =
            [b.integers(&store.kv.table)?, b.integers(&store.kv.sequence)?, b.integers(&store.entries)?];
        let format = store.kv.pool.format();
        b.change(store.kv.pool.pages(), |pages| {
            for (row, x) in x.chunks(dim).enumerate() {
                let Some((page, place)) = store.kv.locate(&table, sequence[row], entries[row]) else { continue };
                let page = &mut pages[page * format.page_bytes()..][..format.page_bytes()];
                for i in 0..nope {
                    use anychip_core::formats::{e4m3, scale};
                    let byte = page[format.scale_offset(place) + i / KvFormat::FP8_BLOCK];
                    if byte != scale::NAN {
                        page[format.data_offset(place) + i] = e4m3::encode(x[i] as f32 / scale::decode(byte));
                    }
                }
            }
        })
    }),
];

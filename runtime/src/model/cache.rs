//! What a model remembers of its sequences, on the device: window and compressed entries in paged pools, indexer keys,
//! and the compressors' unfinished windows.

use super::pages::Pages;
use super::{Options, Precision};
use crate::config::{Compression, Config};
use crate::{Error, Result};
use anychip_core::{DType, Device, KvFormat, KvPool, PAGE_ENTRIES, Stream, Tensor};
use std::collections::BTreeMap;

/// One layer's memory.
pub(crate) struct LayerCache {
    pub(crate) window: KvPool,
    pub(crate) compressed: Option<Compressed>,
}

/// A compressing layer's memory.
pub(crate) struct Compressed {
    pub(crate) ratio: usize,
    pub(crate) entries: KvPool,
    /// f32 `[sequences, 2, slots, channels]`.
    pub(crate) state: Tensor,
    pub(crate) indexer: Option<IndexerCache>,
}

pub(crate) struct IndexerCache {
    pub(crate) keys: KvPool,
    pub(crate) state: Tensor,
}

/// Pages of one ratio, and their table on the device.
pub(crate) struct Group {
    pub(crate) pages: Pages,
    pub(crate) table: Tensor,
}

/// One sequence's place in the cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) open: bool,
    /// Tokens seen.
    pub(crate) len: usize,
    /// Counts the sequences that had this place, so that a handle outlives its own in no other's name.
    pub(crate) generation: u64,
}

pub(crate) struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) mtp: Option<KvPool>,
    /// Window pages: a ring of `ring` entries per sequence, all there from the start.
    pub(crate) ring: usize,
    pub(crate) window_table: Tensor,
    /// By ratio.
    pub(crate) groups: BTreeMap<usize, Group>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) context: usize,
}

impl Cache {
    /// Allocates all pools for `options.sequences` sequences.
    pub(crate) fn new(
        device: &dyn Device,
        stream: &mut dyn Stream,
        config: &Config,
        options: &Options,
        mtp: bool,
    ) -> Result<Cache> {
        let Options { sequences, context, precision, .. } = *options;
        // The oldest key that the first token of a chunk sees must survive storing the whole chunk.
        let ring = (config.sliding_window - 1 + options.chunk).next_multiple_of(PAGE_ENTRIES);
        let ring_pages = ring / PAGE_ENTRIES;
        let entry = entry_format(precision, config.head_dim, config.rope_dim);
        let key = match precision {
            Precision::Exact => KvFormat::F32 { dim: config.index_head_dim },
            Precision::Served => KvFormat::Fp4 { dim: config.index_head_dim },
        };
        let mut groups = BTreeMap::new();
        let mut totals = BTreeMap::new();
        for ratio in config.layers.iter().filter_map(|layer| layer.compression.ratio()) {
            let entries = context / ratio;
            let full = sequences * entries.div_ceil(PAGE_ENTRIES).max(1);
            // Every sequence may leave its last page partly empty.
            let shared = |tokens: usize| (tokens / ratio).div_ceil(PAGE_ENTRIES) + sequences;
            let total = options.pool_tokens.map_or(full, |tokens| shared(tokens).min(full));
            let pages = Pages::new(ratio, sequences, entries, total);
            let table = device.tensor(DType::I32, &pages.sizes())?;
            groups.insert(ratio, Group { pages, table });
            totals.insert(ratio, total);
        }
        let mut layers = Vec::with_capacity(config.layers.len());
        for layer in &config.layers {
            let window = pool(device, entry, sequences * ring_pages)?;
            let compressed = match layer.compression.ratio() {
                None => None,
                Some(ratio) => {
                    let overlap = layer.compression.has_indexer();
                    let pages = totals[&ratio];
                    let state = |dim: usize| {
                        let (slots, channels) = if overlap { (2 * ratio, 2 * dim) } else { (ratio, dim) };
                        device.tensor(DType::F32, &[sequences, 2, slots, channels])
                    };
                    let indexer = match layer.compression {
                        Compression::Overlap(_) => {
                            Some(IndexerCache { keys: pool(device, key, pages)?, state: state(config.index_head_dim)? })
                        }
                        _ => None,
                    };
                    let entries = pool(device, entry, pages)?;
                    Some(Compressed { ratio, entries, state: state(config.head_dim)?, indexer })
                }
            };
            layers.push(LayerCache { window, compressed });
        }
        let mtp = if mtp { Some(pool(device, entry, sequences * ring_pages)?) } else { None };
        let window_table = device.tensor(DType::I32, &[sequences, ring_pages])?;
        let ring_table: Vec<u8> = (0..(sequences * ring_pages) as i32).flat_map(i32::to_le_bytes).collect();
        stream.write(&window_table, &ring_table)?;
        Ok(Cache { layers, mtp, ring, window_table, groups, slots: vec![Slot::default(); sequences], context })
    }

    /// Takes a free slot and clears its compressors' state.
    pub(crate) fn open(&mut self, stream: &mut dyn Stream) -> Result<usize> {
        let limit = self.slots.len();
        let free = self.slots.iter().position(|slot| !slot.open).ok_or(Error::TooManySequences { limit })?;
        for compressed in self.layers.iter().filter_map(|layer| layer.compressed.as_ref()) {
            clear_state(stream, &compressed.state, free)?;
            if let Some(indexer) = &compressed.indexer {
                clear_state(stream, &indexer.state, free)?;
            }
        }
        let generation = self.slots[free].generation + 1;
        self.slots[free] = Slot { open: true, len: 0, generation };
        Ok(free)
    }

    pub(crate) fn release(&mut self, sequence: usize) {
        self.slots[sequence].open = false;
        self.groups.values_mut().for_each(|group| group.pages.release(sequence));
    }

    /// Tokens of an open sequence.
    pub(crate) fn len(&self, sequence: usize, generation: u64) -> Result<usize> {
        let slot = self.slots.get(sequence).filter(|slot| slot.open && slot.generation == generation);
        slot.map(|slot| slot.len).ok_or(Error::UnknownSequence { sequence })
    }

    /// Makes room for sequences to grow to the given lengths, or changes nothing.
    pub(crate) fn reserve(&mut self, stream: &mut dyn Stream, lengths: &[(usize, usize)]) -> Result<()> {
        for (ratio, group) in &self.groups {
            let lacking = lengths.iter().map(|&(sequence, len)| group.pages.lacking(sequence, len / ratio));
            group.pages.require(lacking.sum())?;
        }
        for (ratio, group) in &mut self.groups {
            lengths.iter().for_each(|&(sequence, len)| group.pages.grow(sequence, len / ratio));
            if let Some(table) = group.pages.take_changes() {
                let bytes: Vec<u8> = table.iter().flat_map(|page| page.to_le_bytes()).collect();
                stream.write(&group.table, &bytes)?;
            }
        }
        Ok(())
    }
}

fn entry_format(precision: Precision, dim: usize, rope: usize) -> KvFormat {
    match precision {
        Precision::Exact => KvFormat::F32 { dim },
        Precision::Served => KvFormat::Fp8 { nope: dim - rope, rope },
    }
}

/// A pool whose contents are undefined: an entry is listed only after it was stored.
fn pool(device: &dyn Device, format: KvFormat, pages: usize) -> Result<KvPool> {
    let tensor = device.tensor(DType::U8, &[pages, format.page_bytes()])?;
    Ok(KvPool::new(format, &tensor).map_err(anychip_core::Error::from)?)
}

/// Values 0 and scores -inf: an empty slot weighs exactly nothing.
fn clear_state(stream: &mut dyn Stream, state: &Tensor, sequence: usize) -> Result<()> {
    let half = state.size(2) * state.size(3);
    let values = std::iter::repeat_n(0f32, half).chain(std::iter::repeat_n(f32::NEG_INFINITY, half));
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    Ok(stream.write(&state.slice(sequence, 1).map_err(anychip_core::Error::from)?, &bytes)?)
}

//! Columns of a row whose blocks have a scale each, cut into what UB has room for.

use crate::device::Npu;
use crate::isa::Elem;
use anychip_core::{Format, Support};

/// Blocks of a step.
pub(super) const BLOCKS: u32 = 1024;
/// Rows of a step: each takes 32 bytes for its scales, and as much for its codes.
const ROWS: u32 = 256;

/// Columns that are taken together: whole blocks, the last of a row perhaps short, or a part of one long block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) col: u32,
    pub(super) cols: u32,
    /// Number of the first block.
    pub(super) first: u32,
    pub(super) blocks: u32,
    /// Columns of each block, or of the part of one.
    pub(super) block: u32,
}

impl Span {
    /// Columns with the last block made up to its size.
    pub(super) fn padded(&self) -> u32 {
        self.blocks * self.block
    }
}

/// Whether rows of a format can be cut into spans of whole bytes: two packed codes share one.
pub(super) fn whole_bytes(parameter: &'static str, format: Format, cols: usize, most: u32) -> Support {
    let long = format.layout().map_or(0, |layout| layout.cols.min(cols));
    let packed = matches!(format, Format::E2M1(_));
    if packed && long < cols && long > most as usize && long % 2 == 1 {
        let rule = format!("fp4 blocks of an even number of columns, or of at most {most}");
        return Support::unsupported(parameter, rule, format.to_string());
    }
    Support::Native
}

/// Rows that are taken together: as many as UB has room for, but no more than leaves all cores something.
pub(super) fn rows_of_step(npu: &Npu, spans: &[Span], rows: u32, step: u32) -> u32 {
    let most = spans.iter().map(Span::padded).max().unwrap_or(1);
    let blocks = spans.iter().map(|span| span.blocks).max().unwrap_or(1);
    // Rows that do not begin at multiples of 32 bytes come one by one.
    let fits = if most % 8 == 0 { (step / most).min(BLOCKS / blocks).clamp(1, ROWS) } else { 1 };
    let fair = (u64::from(rows) * spans.len() as u64).div_ceil(4 * npu.profile().figures.cube_cores as u64);
    fits.min(fair.max(1) as u32).min(rows.max(1))
}

/// Spans of a row: of at most `most` columns and [`BLOCKS`] blocks. Those of packed codes begin at even columns.
pub(super) fn spans(cols: u32, block: u32, codes: Elem, most: u32) -> Vec<Span> {
    let block = block.clamp(1, cols.max(1));
    let mut all = Vec::new();
    if block > most {
        for first in 0..cols.div_ceil(block) {
            let end = cols.min((first + 1) * block);
            for col in (first * block..end).step_by(most as usize) {
                let part = most.min(end - col);
                all.push(Span { col, cols: part, first, blocks: 1, block: part });
            }
        }
        return all;
    }
    let pair = if codes == Elem::E2M1 && block % 2 == 1 { 2 } else { 1 };
    let some = ((most / block).min(BLOCKS) / pair * pair).max(1);
    for first in (0..cols.div_ceil(block)).step_by(some as usize) {
        let col = first * block;
        let cols = (some * block).min(cols - col);
        all.push(Span { col, cols, first, blocks: cols.div_ceil(block), block });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_one_another() {
        for (cols, block, codes) in [
            (300, 128, Elem::E4M3),
            (7168, 128, Elem::E4M3),
            (9, 1000, Elem::E4M3),
            (99, 5, Elem::E2M1),
            (70, 40, Elem::E4M3),
        ] {
            let mut next = 0;
            for span in spans(cols, block, codes, 32) {
                assert_eq!(span.col, next, "{span:?}");
                assert!(span.padded() <= 32 && span.padded() - span.cols < span.block, "{span:?}");
                assert_eq!(span.col / block, span.first, "{span:?}");
                assert!(codes != Elem::E2M1 || span.col % 2 == 0, "{span:?}");
                next += span.cols;
            }
            assert_eq!(next, cols);
        }
    }
}

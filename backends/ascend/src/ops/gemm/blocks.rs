//! Which blocks a product is made of, and which core computes which.

use crate::isa::Global;
use crate::kernel::Context;

/// How rows, columns and weights belong together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Split {
    /// All rows meet one weight, or each of several weights meets columns of its own: `x` has one group of K columns for each
    /// weight, the result one group of N.
    Columns(u32),
    /// Each of so many weights meets a range of rows; `offsets` has their first rows, and the end.
    Rows {
        /// Integers in global memory, one more than weights.
        offsets: Global,
        /// Weights.
        count: u32,
    },
}

/// Rows that meet one weight, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) first: u64,
    pub(crate) rows: u64,
    pub(crate) weight: Option<u32>,
}

/// A block of the result, within what one weight gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) row: u64,
    pub(crate) rows: u32,
    pub(crate) col: u32,
    pub(crate) cols: u32,
    pub(crate) weight: u32,
}

impl Split {
    /// What all rows meet, in ascending order.
    pub(crate) fn sections(&self, cx: &mut Context<'_>, rows: u64) -> Vec<Section> {
        match *self {
            Split::Columns(count) => {
                (0..count).map(|weight| Section { first: 0, rows, weight: Some(weight) }).collect()
            }
            Split::Rows { offsets, count } => {
                let offsets: Vec<u64> = (0..=u64::from(count))
                    .map(|at| u64::from(cx.load_i32(offsets.region, offsets.at + 4 * at).max(0) as u32).min(rows))
                    .collect();
                paint(&offsets, rows)
            }
        }
    }
}

/// Ranges of rows by their weights; where ranges overlap, the later one stays.
fn paint(offsets: &[u64], rows: u64) -> Vec<Section> {
    let mut free = vec![(0, rows)];
    let mut all = Vec::new();
    for (weight, range) in offsets.windows(2).enumerate().rev() {
        let (first, end) = (range[0], range[1].max(range[0]));
        let mut left = Vec::with_capacity(free.len() + 1);
        for (from, to) in free {
            let (low, high) = (from.max(first), to.min(end));
            if low >= high {
                left.push((from, to));
                continue;
            }
            all.push(Section { first: low, rows: high - low, weight: Some(weight as u32) });
            left.extend([(from, low), (high, to)].into_iter().filter(|(from, to)| from < to));
        }
        free = left;
    }
    all.extend(free.into_iter().filter(|(from, to)| from < to).map(|(from, to)| Section {
        first: from,
        rows: to - from,
        weight: None,
    }));
    all.sort_by_key(|section| section.first);
    all
}

/// The blocks of one core. Blocks that run at the same time are neighbours in both directions, so that L2 has their operands.
pub(crate) fn blocks(sections: &[Section], cols: u64, [high, wide]: [u32; 2], core: usize, cores: usize) -> Vec<Block> {
    let panel = (1..).find(|panel| panel * panel >= cores as u64).unwrap_or(1);
    let mut all = Vec::new();
    let mut turn = 0;
    for section in sections {
        let Some(weight) = section.weight else { continue };
        // Tiles of equal height rather than a short last one.
        let down = section.rows.div_ceil(high.into());
        let high = section.rows.div_ceil(down.max(1)).next_multiple_of(16);
        let down = section.rows.div_ceil(high.max(1));
        let across = cols.div_ceil(wide.into());
        for top in (0..down).step_by(panel as usize) {
            let bottom = down.min(top + panel);
            for col in 0..across {
                for row in top..bottom {
                    turn += 1;
                    if (turn - 1) % cores != core {
                        continue;
                    }
                    let (first, left) = (row * high, col * u64::from(wide));
                    all.push(Block {
                        row: section.first + first,
                        rows: (section.rows - first).min(high) as u32,
                        col: left as u32,
                        cols: (cols - left).min(wide.into()) as u32,
                        weight,
                    });
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(first: u64, end: u64, weight: Option<u32>) -> Section {
        Section { first, rows: end - first, weight }
    }

    #[test]
    fn later_ranges_stay_and_the_rest_is_nobodys() {
        assert_eq!(paint(&[0, 3, 3, 5], 5), [section(0, 3, Some(0)), section(3, 5, Some(2))]);
        assert_eq!(paint(&[2, 4], 5), [section(0, 2, None), section(2, 4, Some(0)), section(4, 5, None)]);
        assert_eq!(
            paint(&[0, 6, 3, 8], 8),
            [section(0, 3, Some(0)), section(3, 8, Some(2))],
            "6..3 is empty, and 3..8 comes behind 0..6"
        );
        assert_eq!(paint(&[4, 2, 4], 6), [section(0, 2, None), section(2, 4, Some(1)), section(4, 6, None)]);
        assert_eq!(paint(&[0], 0), []);
    }

    #[test]
    fn every_element_is_in_one_block_of_one_core() {
        let sections = [section(0, 100, Some(2)), section(100, 110, None), section(110, 111, Some(0))];
        let mut seen = vec![0; 111 * 70];
        for core in 0..5 {
            for block in blocks(&sections, 70, [32, 16], core, 5) {
                assert!(block.rows <= 32 && block.cols <= 16);
                for row in block.row..block.row + u64::from(block.rows) {
                    for col in block.col..block.col + block.cols {
                        seen[row as usize * 70 + col as usize] += 1;
                    }
                }
            }
        }
        assert!(seen.iter().enumerate().all(|(at, &count)| count == i32::from(!(100..110).contains(&(at / 70)))));
    }
}

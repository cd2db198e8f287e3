//! Likely causes: the pattern of what is wrong often names the bug. A guess for the reader, never a verdict.

/// An output beside what it should be, as numbers in row-major order.
pub(crate) struct Pattern<'a> {
    /// Sizes, outermost first.
    pub(crate) sizes: &'a [usize],
    pub(crate) got: &'a [f64],
    pub(crate) want: &'a [f64],
    /// What each element may be off by; all of it counts as equal.
    pub(crate) tolerance: &'a [f64],
    /// Whether an element's bytes are those from before the operation.
    pub(crate) unchanged: &'a [bool],
}

/// Blocks of columns that share a scale, in the formats of the contract.
const BLOCKS: [usize; 2] = [32, 128];

impl Pattern<'_> {
    /// What probably happened, if the pattern is known.
    pub(crate) fn cause(&self) -> Option<String> {
        let all = self.got.len();
        if all == 0 || [self.want.len(), self.tolerance.len(), self.unchanged.len()] != [all; 3] {
            return None;
        }
        let wrong: Vec<usize> = (0..all).filter(|&i| !self.near(i, i)).collect();
        if wrong.is_empty() {
            return None;
        }
        self.unwritten(&wrong)
            .or_else(|| self.poisoned(&wrong))
            .or_else(|| self.moved(&wrong))
            .or_else(|| self.scaled(&wrong))
            .or_else(|| self.in_blocks(&wrong))
            .or_else(|| self.at_an_edge(&wrong))
    }

    /// Rows and columns: the last axis is the columns'.
    fn rows_cols(&self) -> [usize; 2] {
        let cols = self.sizes.last().copied().unwrap_or(1).max(1);
        [self.got.len() / cols, cols]
    }

    /// Whether what is at `at` is right for the place `of`.
    fn near(&self, at: usize, of: usize) -> bool {
        let (got, want) = (self.got[at], self.want[of]);
        got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= self.tolerance[of]
    }

    fn unwritten(&self, wrong: &[usize]) -> Option<String> {
        let stale = wrong.iter().filter(|&&i| self.unchanged[i]).count();
        match stale {
            0 => None,
            // What is right as it was may be so by chance.
            _ if self.unchanged.iter().all(|&unchanged| unchanged) => {
                Some("all of it is as it was before the operation: it was not written, or written elsewhere".into())
            }
            n if n == wrong.len() => Some(format!(
                "all that is wrong ({n} elements) is as it was before the operation: a tail or a tile is not written, or was read too soon"
            )),
            _ => None,
        }
    }

    fn poisoned(&self, wrong: &[usize]) -> Option<String> {
        let nan = |&i: &usize| self.got[i].is_nan() && !self.want[i].is_nan();
        wrong.iter().all(nan).then(|| {
            "all that is wrong is NaN: an unused slot, a padded place or memory beside an operand takes part".into()
        })
    }

    /// The right numbers in the wrong places.
    fn moved(&self, wrong: &[usize]) -> Option<String> {
        let [rows, cols] = self.rows_cols();
        // Where neighbours are alike, a few wrong elements look moved by chance.
        let clear = wrong.len() * 2 > self.got.len();
        let shifted = |by: usize, len: usize, place: &dyn Fn(usize) -> usize| {
            let fits = |from: usize, to: usize| self.near(place(from), place(to));
            let ahead = (by..len).all(|i| fits(i - by, i));
            (ahead, (by..len).all(|i| fits(i, i - by)))
        };
        if clear && rows >= 3 {
            let each = |col: usize| shifted(1, rows, &|row| row * cols + col);
            let (ahead, behind) = (0..cols).map(each).fold((true, true), |(a, b), (x, y)| (a && x, b && y));
            if ahead || behind {
                let whose = if ahead { "the next" } else { "the one before" };
                return Some(format!("each row holds what belongs into {whose}: a row index is off by one"));
            }
        }
        if clear && cols >= 3 {
            let each = |row: usize| shifted(1, cols, &|col| row * cols + col);
            let (ahead, behind) = (0..rows).map(each).fold((true, true), |(a, b), (x, y)| (a && x, b && y));
            if ahead || behind {
                let whose = if ahead { "the next" } else { "the one before" };
                return Some(format!("each column holds what belongs into {whose}: a column index is off by one"));
            }
        }
        self.transposed(cols).then(|| "it is the transpose of what it should be: rows and columns are swapped".into())
    }

    fn transposed(&self, cols: usize) -> bool {
        let rows = match self.sizes {
            [.., rows, _] if *rows > 1 && cols > 1 => *rows,
            _ => return false,
        };
        // A matrix of the stack at a time; a transpose of rows x cols lies in memory as cols x rows.
        let one = |base: usize| {
            (0..rows).all(|row| (0..cols).all(|col| self.near(base + col * rows + row, base + row * cols + col)))
        };
        (0..self.got.len()).step_by(rows * cols).all(one)
    }

    /// Every number is the same multiple of what it should be.
    fn scaled(&self, wrong: &[usize]) -> Option<String> {
        let factor = self.common_factor(0..self.got.len())?;
        let of = wrong.len();
        (of * 2 > self.got.len()).then(|| format!("all of it is {}", times(factor)))
    }

    /// The factor between right and wrong, where it is the same for several elements that are clearly not zero.
    fn common_factor(&self, places: impl Iterator<Item = usize>) -> Option<f64> {
        let clear: Vec<usize> = places.filter(|&i| self.want[i].abs() > 16.0 * self.tolerance[i]).collect();
        let largest = *clear.iter().max_by(|&&a, &&b| self.want[a].abs().total_cmp(&self.want[b].abs()))?;
        let factor = self.got[largest] / self.want[largest];
        let fits = |&i: &usize| {
            let allowed = self.tolerance[i] * factor.abs().max(1.0) + (factor * self.want[i]).abs() / 64.0;
            (self.got[i] - factor * self.want[i]).abs() <= allowed
        };
        let known = factor.is_finite() && (factor - 1.0).abs() > 1.0 / 32.0;
        (known && clear.len() >= 3 && clear.iter().all(fits)).then_some(factor)
    }

    /// Whole blocks of columns, and nothing else.
    fn in_blocks(&self, wrong: &[usize]) -> Option<String> {
        let [rows, cols] = self.rows_cols();
        for block in BLOCKS.into_iter().rev().filter(|&block| cols > block) {
            let per_row = cols.div_ceil(block);
            let mut bad = vec![0; rows * per_row];
            wrong.iter().for_each(|&i| bad[i / cols * per_row + i % cols / block] += 1);
            let width = |at: usize| block.min(cols - at % per_row * block);
            // An element of a wrong block may be right by chance, or because it is zero.
            let whole = |(at, &bad): (usize, &usize)| bad == 0 || bad * 10 >= width(at) * 8;
            let hit: Vec<usize> = (0..bad.len()).filter(|&at| bad[at] > 0).collect();
            let (Some(&first), false) = (hit.first(), hit.len() == bad.len()) else { continue };
            if !bad.iter().enumerate().all(whole) {
                continue;
            }
            let start = first % per_row * block;
            let (row, end) = (first / per_row, start + width(first));
            let factor = self.common_factor(row * cols + start..row * cols + end);
            let factor = factor.map_or(String::new(), |f| format!(", where it is {}", times(f)));
            return Some(format!(
                "whole blocks of {block} columns are wrong ({} of {}, first row {row} columns {start}..{end}{factor}) and nothing else: \
                 a scale from the wrong place (scale layout)",
                hit.len(),
                bad.len()
            ));
        }
        None
    }

    fn at_an_edge(&self, wrong: &[usize]) -> Option<String> {
        let [rows, cols] = self.rows_cols();
        let edge = |what: &str| Some(format!("only the {what} wrong: a bound is off by one, or the rest of a tile"));
        if rows > 2 && wrong.iter().all(|i| i / cols == rows - 1) {
            return edge("last row is");
        }
        if cols > 2 && rows > 1 && wrong.len() > 1 && wrong.iter().all(|i| i % cols == cols - 1) {
            return edge("last column is");
        }
        None
    }
}

/// A factor in words.
fn times(factor: f64) -> String {
    let power = factor.abs().log2();
    match (factor < 0.0, (power - power.round()).abs() < 1e-2) {
        (true, _) if (factor + 1.0).abs() < 1.0 / 32.0 => "of the opposite sign".into(),
        _ if factor == 0.0 => "zero: nothing was added, or all was masked".into(),
        (false, true) => format!("2^{} times what it should be: a scale is missing or applied twice", power.round()),
        _ => format!("{factor:.4} times what it should be: a factor is missing or applied twice"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Numbers that no shift and no transpose repeats.
    fn right(count: usize) -> Vec<f64> {
        (0..count).map(|i| 1.0 + (i * i % 977) as f64 + i as f64 / 1024.0).collect()
    }

    fn cause_of(sizes: &[usize], got: &[f64], stale: &[usize]) -> Option<String> {
        let want = right(got.len());
        let unchanged: Vec<bool> = (0..got.len()).map(|i| stale.contains(&i)).collect();
        let tolerance = vec![1e-6; got.len()];
        Pattern { sizes, got, want: &want, tolerance: &tolerance, unchanged: &unchanged }.cause()
    }

    fn says(sizes: &[usize], got: &[f64], stale: &[usize], words: &str) {
        let cause = cause_of(sizes, got, stale).unwrap();
        assert!(cause.contains(words), "`{words}` is not in: {cause}");
    }

    #[test]
    fn what_was_not_written() {
        says(&[4, 5], &[f64::NAN; 20], &(0..20).collect::<Vec<_>>(), "was not written");
        let mut got = right(20);
        got[18..].fill(-7.0);
        says(&[4, 5], &got, &[18, 19], "(2 elements) is as it was before");
    }

    #[test]
    fn numbers_in_the_wrong_places() {
        let want = right(35);
        let mut up = want.clone();
        up.rotate_left(7);
        says(&[5, 7], &up, &[], "belongs into the next: a row");
        let mut down = want.clone();
        down.rotate_right(7);
        says(&[5, 7], &down, &[], "belongs into the one before: a row");
        let mut left = want.clone();
        left.chunks_mut(7).for_each(|row| row.rotate_left(1));
        says(&[5, 7], &left, &[], "belongs into the next: a column");
        let across: Vec<f64> = (0..35).map(|i| want[i % 5 * 7 + i / 5]).collect();
        says(&[5, 7], &across, &[], "transpose");
        let stack = right(2 * 9);
        let across: Vec<f64> = (0..18).map(|i| stack[i / 9 * 9 + i % 3 * 3 + i % 9 / 3]).collect();
        says(&[2, 3, 3], &across, &[], "transpose");
    }

    #[test]
    fn factors() {
        let by = |f: f64| right(30).iter().map(|x| x * f).collect::<Vec<_>>();
        says(&[5, 6], &by(4.0), &[], "2^2 times");
        says(&[5, 6], &by(0.5), &[], "2^-1 times");
        says(&[5, 6], &by(1.5), &[], "1.5000 times");
        says(&[5, 6], &by(-1.0), &[], "opposite sign");
        says(&[5, 6], &by(0.0), &[], "zero");
    }

    #[test]
    fn blocks_of_columns() {
        let mut got = right(3 * 300);
        got[300 + 128..300 + 256].iter_mut().for_each(|x| *x *= 2.0);
        says(
            &[3, 300],
            &got,
            &[],
            "blocks of 128 columns are wrong (1 of 9, first row 1 columns 128..256, where it is 2^1",
        );
        let mut got = right(2 * 80);
        got[80 + 64..].iter_mut().for_each(|x| *x += 3.0);
        says(&[2, 80], &got, &[], "blocks of 32 columns are wrong (1 of 6, first row 1 columns 64..80)");
    }

    #[test]
    fn edges_and_poison() {
        let mut got = right(20);
        got[16] += 1.0;
        says(&[4, 5], &got, &[], "only the last row");
        let mut got = right(20);
        [4, 9, 19].into_iter().for_each(|i| got[i] += 1.0);
        says(&[4, 5], &got, &[], "only the last column");
        got = right(20);
        got[7] = f64::NAN;
        says(&[4, 5], &got, &[], "is NaN");
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(cause_of(&[4, 5], &right(20), &[]), None, "nothing is wrong");
        let mut got = right(20);
        got[7] += 1.0;
        assert_eq!(cause_of(&[4, 5], &got, &[]), None);
        let scattered: Vec<f64> = (0..20).map(|i| right(20)[i] + ((i * 7 % 5) as f64 - 1.7)).collect();
        assert_eq!(cause_of(&[4, 5], &scattered, &[]), None);
        assert_eq!(cause_of(&[0, 5], &[], &[]), None);
    }
}

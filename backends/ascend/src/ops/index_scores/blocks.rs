//! Which pages are multiplied for which tokens, as far as sequences, page tables and what rows may see say so.

use super::{IndexScores, KEYS};
use crate::kernel::Context;
use std::ops::Range;

/// Tokens that follow one another and are of one sequence.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) token: u64,
    /// How many entries each of them may see.
    pub(super) visible: Vec<i64>,
}

/// Keys of a page, for a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) group: usize,
    /// The first entry, and how many.
    pub(super) entry: u64,
    pub(super) keys: u32,
    /// The page that they lie in.
    pub(super) page: u64,
    pub(super) first: bool,
    pub(super) last: bool,
}

/// Entries that no token of some sees.
#[derive(Clone, Debug)]
pub(super) struct Unseen {
    pub(super) token: u64,
    pub(super) tokens: u64,
    pub(super) entries: Range<u64>,
}

/// What a core has to do.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) groups: Vec<Group>,
    pub(super) blocks: Vec<Block>,
    pub(super) unseen: Vec<Unseen>,
}

impl IndexScores {
    /// Pieces of work: some tokens and some pages.
    pub(super) fn items(&self) -> u64 {
        self.sizes.tokens.div_ceil(self.sizes.together.into()) * self.sizes.all_pages().div_ceil(self.sizes.pages)
    }

    /// A core's blocks. All of its units come to the same.
    pub(super) fn blocks(&self, cx: &mut Context<'_>) -> Blocks {
        let mut all = Blocks::default();
        let pieces = self.sizes.all_pages().div_ceil(self.sizes.pages);
        for item in (cx.core() as u64..self.items()).step_by(cx.cores()) {
            let token = item / pieces * u64::from(self.sizes.together);
            let tokens = token..self.sizes.tokens.min(token + u64::from(self.sizes.together));
            let page = item % pieces * self.sizes.pages;
            let pages = page..self.sizes.all_pages().min(page + self.sizes.pages);
            self.item(cx, tokens, pages, &mut all);
        }
        all
    }

    fn item(&self, cx: &mut Context<'_>, tokens: Range<u64>, pages: Range<u64>, all: &mut Blocks) {
        let mut of: Vec<(i32, Group)> = Vec::new();
        for token in tokens {
            let sequence = cx.load_i32(self.scope.sequence, 4 * token);
            let visible = i64::from(cx.load_i32(self.visible, 4 * token));
            match of.last_mut() {
                Some((known, group)) if *known == sequence => group.visible.push(visible),
                _ => of.push((sequence, Group { token, visible: vec![visible] })),
            }
        }
        for (sequence, group) in of {
            let limit = group.visible.iter().copied().max().unwrap_or(0).clamp(0, self.sizes.entries as i64) as u64;
            let (number, begin) = (all.groups.len(), all.blocks.len());
            let mut done = pages.start * u64::from(KEYS);
            let end = self.sizes.entries.min(pages.end * u64::from(KEYS));
            let unseen =
                |entries: Range<u64>| Unseen { token: group.token, tokens: group.visible.len() as u64, entries };
            for number_of_page in pages.clone() {
                let entry = number_of_page * u64::from(KEYS);
                let keys = limit.saturating_sub(entry).min(KEYS.into()) as u32;
                let page = if keys > 0 { self.page(cx, sequence, number_of_page) } else { None };
                let Some(page) = page else { continue };
                if done < entry {
                    all.unseen.push(unseen(done..entry));
                }
                all.blocks.push(Block { group: number, entry, keys, page, first: false, last: false });
                done = entry + u64::from(keys);
            }
            if done < end {
                all.unseen.push(unseen(done..end));
            }
            if let Some(block) = all.blocks.get_mut(begin) {
                block.first = true;
                if let Some(block) = all.blocks.last_mut() {
                    block.last = true;
                }
                all.groups.push(group);
            }
        }
    }

    /// Which page of the pool a sequence's page is, if there is one.
    fn page(&self, cx: &mut Context<'_>, sequence: i32, page: u64) -> Option<u64> {
        let table = &self.scope.table;
        let sequence = u64::try_from(sequence).ok().filter(|sequence| *sequence < table.rows.into())?;
        if page >= table.cols.into() {
            return None;
        }
        let found = cx.load_i32(table.region, 4 * (sequence * u64::from(table.cols) + page));
        u64::try_from(found).ok().filter(|page| *page < self.scope.pool.2)
    }
}

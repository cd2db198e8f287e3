//! Rows on their way from place to place, as they are or in another type.

use crate::isa::{Elem, Global, Pipe, Round, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;

/// Buffers for rows that move. Of one type they go by the transfer engines alone, bit by bit.
pub(super) struct Moves {
    loads: Queue,
    /// What they become, if they change.
    stores: Option<Queue>,
    from: Elem,
    to: Elem,
}

impl Moves {
    /// For steps of at most `rows` x `cols`.
    pub(super) fn new(cx: &mut Context<'_>, from: Elem, to: Elem, rows: u32, cols: u32) -> Moves {
        let bytes = |elem| Tile::rows_of(Space::Ub, 0, elem, rows, cols).end().next_multiple_of(32) as u32;
        if from == to {
            let loads = Queue::new(cx, Pipe::Mte2, Pipe::Mte3, Space::Ub, bytes(from), 2);
            return Moves { loads, stores: None, from, to };
        }
        let loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(from), 2);
        let stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(to), 2);
        Moves { loads, stores: Some(stores), from, to }
    }

    /// Moves rows, which come from one place or several. To each place of `to` go as many as it has, from the row on that
    /// is given with it. All are equally wide.
    pub(super) fn run(&mut self, cx: &mut Context<'_>, from: &[Global], to: &[(u32, Global)]) {
        self.run_with(cx, from, to, |cx, to, from| cx.cast(to, from, Round::Even));
    }

    /// As [`run`](Moves::run), with another way from type to type.
    pub(super) fn run_with(
        &mut self,
        cx: &mut Context<'_>,
        from: &[Global],
        to: &[(u32, Global)],
        convert: impl FnOnce(&mut Context<'_>, Tile, Tile),
    ) {
        let (rows, cols) = (from.iter().map(|part| part.rows).sum(), from.first().map_or(0, |part| part.cols));
        let loaded = Tile::rows_of(Space::Ub, self.loads.alloc(cx), self.from, rows, cols);
        let mut row = 0;
        for part in from {
            cx.load_ub(*part, loaded.row_range(row, part.rows));
            row += part.rows;
        }
        self.loads.push(cx);
        let mut tile = loaded;
        self.loads.pop(cx);
        if let Some(stores) = &mut self.stores {
            tile = Tile::rows_of(Space::Ub, stores.alloc(cx), self.to, rows, cols);
            convert(cx, tile, loaded);
            self.loads.free(cx);
            stores.push(cx);
            stores.pop(cx);
        }
        for (row, to) in to {
            cx.store(tile.row_range(*row, to.rows), *to);
        }
        self.stores.as_mut().unwrap_or(&mut self.loads).free(cx);
    }

    /// No more move.
    pub(super) fn close(self, cx: &mut Context<'_>) {
        self.loads.close(cx);
        if let Some(stores) = self.stores {
            stores.close(cx);
        }
    }
}

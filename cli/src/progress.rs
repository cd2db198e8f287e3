//! Progress on standard error, where that is a terminal; elsewhere nothing is drawn.

use anychip_runtime::model::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// A line that is overdrawn while work goes on, and gone afterwards.
pub(crate) struct Line(ProgressBar);

impl Line {
    /// Bytes of a known total.
    pub(crate) fn bytes(what: &str) -> Line {
        Line::new(what, "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}")
    }

    /// Items of a known total.
    pub(crate) fn items(what: &str, total: usize) -> Line {
        let line = Line::new(what, "{msg} [{bar:30}] {pos}/{len}");
        line.0.set_length(total as u64);
        line
    }

    /// Work of unknown length.
    pub(crate) fn spinner(what: &str) -> Line {
        let line = Line::new(what, "{spinner} {msg} {elapsed}");
        line.0.enable_steady_tick(Duration::from_millis(100));
        line
    }

    fn new(what: &str, template: &str) -> Line {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // The templates are constants; the plain style would do as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Line(bar)
    }

    /// One more item is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }

    /// `done` of `total`.
    pub(crate) fn at(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Progress for Line {
    fn loaded(&self, done: u64, total: u64) {
        self.at(done, total);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

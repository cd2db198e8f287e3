//! A launch as a trace for Perfetto, with names as the vendor's profiler has them.
//!
//! A process is a core, a thread an engine of one of its units. Arrows are flags; counters are what the memory moves and what
//! of a core's own memories holds something that is still read. Times are simulated.

use crate::isa::{Blocks, Body, Instr, Pipe, Place, Unit};
use crate::kernel::Program;
use crate::machine::Profile;
use crate::sim::{Span, Timing};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Points of a counter over the whole launch.
const POINTS: usize = 500;

/// The trace of a launch, of its first `cores` cores, as `traceEvents`.
pub fn perfetto(profile: &Profile, programs: &[Program], timing: &Timing, cores: usize) -> Value {
    let us = |cycles: f64| cycles / profile.figures.clock / 1e3;
    let mut events = Vec::new();
    for core in 0..cores.min(programs.len()) {
        events.push(json!({"ph": "M", "name": "process_name", "pid": core, "args": {"name": format!("core {core}")}}));
        for unit in Unit::ALL {
            for pipe in unit.pipes() {
                let name = format!("{unit} {}", pipe);
                events.push(json!({"ph": "M", "name": "thread_name", "pid": core, "tid": thread(unit, *pipe), "args": {"name": name}}));
            }
        }
    }
    let shown = |core: usize| core < cores;
    for span in timing.spans.iter().filter(|span| shown(span.core)) {
        events.push(event(span, &programs[span.core].unit(span.unit)[span.index], us(span.began), us(span.ended)));
    }
    for (id, arrow) in timing.arrows.iter().enumerate().filter(|(_, arrow)| shown(arrow.core)) {
        let end = |ph: &str, (unit, pipe): (Unit, Pipe), cycles: f64| json!({"ph": ph, "name": "flag", "cat": "flag", "id": id, "pid": arrow.core, "tid": thread(unit, pipe), "ts": us(cycles), "bp": "e"});
        events.push(end("s", arrow.from, arrow.set));
        events.push(end("f", arrow.to, arrow.seen));
    }
    bandwidth(timing, profile, &mut events);
    for (core, program) in programs.iter().enumerate().take(cores) {
        live_bytes(core, program, timing, &us, &mut events);
    }
    json!({
        "displayTimeUnit": "ns",
        "otherData": {
            "modelled on": profile.title, "profile": profile.name, "profile_hash": profile.hash(), "clock": "simulated",
            "silicon": "not used", "simulated_us": timing.us, "cycles": timing.cycles, "bound": timing.bound(),
        },
        "traceEvents": events,
    })
}

fn thread(unit: Unit, pipe: Pipe) -> usize {
    unit as usize * Pipe::ALL.len() + pipe as usize
}

fn event(span: &Span, instr: &Instr, ts: f64, end: f64) -> Value {
    let mut args = json!({
        "cycle_start": span.began.round(), "cycles": (span.ended - span.began).round(),
        "line": format!("{}:{}", instr.line.file(), instr.line.line()),
    });
    if span.bytes > 0.0 {
        args["bytes"] = json!(span.bytes);
        args["hit_bytes"] = json!((span.bytes - span.missed).max(0.0));
    }
    let mut touched = |key: &str, write: bool| {
        let mut text = Vec::new();
        instr.accesses(span.unit, &mut |access| {
            if access.write == write {
                text.push(shown(access.place, &access.blocks));
            }
        });
        if !text.is_empty() {
            args[key] = json!(text.join(", "));
        }
    };
    touched("src", false);
    touched("dst", true);
    if let Body::Mmad(mmad) = &instr.body {
        args["product"] = json!(format!("{} x {} x {} of {}", mmad.a.rows, mmad.a.cols, mmad.b.cols, mmad.a.elem));
    }
    json!({
        "ph": "X", "name": instr.name(), "cat": "instr", "pid": span.core, "tid": thread(span.unit, span.pipe),
        "ts": ts, "dur": end - ts, "args": args,
    })
}

fn shown(place: Place, blocks: &Blocks) -> String {
    let name = match place {
        Place::Gm(region) => format!("gm[{region}]"),
        Place::Local(space, _) => space.to_string(),
    };
    format!("{name} {}..{}", blocks.at, blocks.end())
}

/// What all cores move, as gigabytes per second.
fn bandwidth(timing: &Timing, profile: &Profile, events: &mut Vec<Value>) {
    let step = (timing.cycles / POINTS as f64).max(1.0);
    let mut moved = vec![[0.0; 2]; POINTS + 1];
    for span in timing.spans.iter().filter(|span| span.bytes > 0.0) {
        let (first, last) = ((span.began / step) as usize, ((span.ended / step) as usize).min(POINTS));
        let parts = (last - first.min(last) + 1) as f64;
        for point in &mut moved[first.min(last)..=last] {
            point[0] += span.bytes / parts;
            point[1] += span.missed / parts;
        }
    }
    let rate = |bytes: f64| bytes / step * profile.figures.clock;
    for (point, [all, behind]) in moved.into_iter().enumerate() {
        let ts = point as f64 * step / profile.figures.clock / 1e3;
        events.push(json!({"ph": "C", "name": "GB/s", "pid": 0, "ts": ts, "args": {"L2": rate(all).round(), "HBM": rate(behind).round()}}));
    }
}

/// Bytes of a core's memories that hold something that is still read: from the first byte that is written to the last read.
fn live_bytes(core: usize, program: &Program, timing: &Timing, us: &dyn Fn(f64) -> f64, events: &mut Vec<Value>) {
    struct Held {
        since: f64,
        until: f64,
        bytes: u64,
    }
    let mut spans: Vec<&Span> = timing.spans.iter().filter(|span| span.core == core).collect();
    spans.sort_by(|a, b| a.began.total_cmp(&b.began));
    let mut held: BTreeMap<(Place, u64), Held> = BTreeMap::new();
    let mut changes: Vec<(Place, f64, i64)> = Vec::new();
    let mut end = |place: Place, held: Held| {
        changes.push((place, held.since, held.bytes as i64));
        changes.push((place, held.until, -(held.bytes as i64)));
    };
    for span in spans {
        program.unit(span.unit)[span.index].accesses(span.unit, &mut |access| {
            let key = (access.place, access.blocks.at);
            if matches!(access.place, Place::Gm(_)) {
                return;
            }
            if access.write {
                let now = Held { since: span.began, until: span.ended, bytes: access.blocks.bytes() };
                if let Some(before) = held.insert(key, now) {
                    end(access.place, before);
                }
            } else {
                let inside = held.iter_mut().filter(|((place, at), held)| {
                    *place == access.place && *at <= access.blocks.at && access.blocks.at < at + held.bytes
                });
                inside.for_each(|(_, held)| held.until = held.until.max(span.ended));
            }
        });
    }
    held.into_iter().for_each(|((place, _), held)| end(place, held));
    changes.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.2.cmp(&a.2)));
    let mut now: BTreeMap<Place, i64> = BTreeMap::new();
    for (place, time, bytes) in changes {
        let Place::Local(space, unit) = place else { continue };
        let live = now.entry(place).or_default();
        *live += bytes;
        let name = format!("live {space} {unit}");
        events.push(json!({"ph": "C", "name": name, "pid": core, "ts": us(time), "args": {"bytes": (*live).max(0)}}));
    }
}

/// A drawing of a core's engines over a launch's time, or its first `cycles`: a lane an engine, a bar an instruction.
pub fn drawing(profile: &Profile, timing: &Timing, core: usize, cycles: f64, title: &str) -> String {
    let end = timing.cycles.min(cycles).max(1.0);
    let (left, width, lane) = (110.0, 860.0, 22.0);
    let lanes: Vec<(Unit, Pipe)> = Unit::ALL
        .into_iter()
        .flat_map(|unit| unit.pipes().iter().map(move |pipe| (unit, *pipe)))
        .filter(|(_, pipe)| *pipe != Pipe::S)
        .filter(|lane| timing.spans.iter().any(|span| span.core == core && (span.unit, span.pipe) == *lane))
        .collect();
    let height = 60.0 + lane * lanes.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1000\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\"><rect width=\"1000\" height=\"{height}\" fill=\"white\"/><text x=\"8\" y=\"16\" \
         font-weight=\"bold\">{title}</text>\n"
    );
    for (number, (unit, pipe)) in lanes.iter().enumerate() {
        let y = 28.0 + lane * number as f64;
        out += &format!("<text x=\"8\" y=\"{}\">{unit} {pipe}</text>\n", y + 14.0);
        let spans = timing.spans.iter().filter(|span| (span.core, span.unit, span.pipe) == (core, *unit, *pipe));
        // Bars that are drawn over one another are one bar.
        let mut bars: Vec<(f64, f64)> = Vec::new();
        for span in spans.filter(|span| span.began < end) {
            let bar = (left + width * span.began / end, left + width * span.ended.min(end) / end);
            match bars.last_mut() {
                Some(last) if bar.0 - last.1 < 0.3 && last.1 - last.0 < 3.0 => last.1 = bar.1,
                _ => bars.push(bar),
            }
        }
        for (from, to) in bars {
            let wide = (to - from - 0.2).max(0.3);
            out += &format!(
                "<rect x=\"{from:.1}\" y=\"{y:.0}\" width=\"{wide:.1}\" height=\"18\" fill=\"{}\"/>\n",
                colour(*pipe)
            );
        }
    }
    let bottom = 28.0 + lane * lanes.len() as f64;
    for tick in 0..=8 {
        let (part, x) = (f64::from(tick) / 8.0, left + width * f64::from(tick) / 8.0);
        let us = end * part / profile.figures.clock / 1e3;
        out += &format!(
            "<line x1=\"{x:.1}\" y1=\"24\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{}\" \
             text-anchor=\"middle\">{us:.1}</text>\n",
            bottom + 14.0
        );
    }
    out + &format!("<text x=\"8\" y=\"{}\">us, simulated</text></svg>\n", bottom + 14.0)
}

fn colour(pipe: Pipe) -> &'static str {
    match pipe {
        Pipe::M => "#c0392b",
        Pipe::V => "#8e44ad",
        Pipe::Mte1 => "#2e86c1",
        Pipe::Mte2 => "#148f77",
        Pipe::Mte3 => "#b7950b",
        Pipe::Fix => "#ca6f1e",
        Pipe::S => "#7f8c8d",
    }
}

/// How long each engine worked, in microseconds and as a part of the whole, under the profiler's names.
pub fn utilisation(timing: &Timing) -> Vec<(&'static str, f64, f64)> {
    let names = [
        ("aic_mac", true, Pipe::M),
        ("aic_scalar", true, Pipe::S),
        ("aic_mte1", true, Pipe::Mte1),
        ("aic_mte2", true, Pipe::Mte2),
        ("aic_fixpipe", true, Pipe::Fix),
        ("aiv_vec", false, Pipe::V),
        ("aiv_scalar", false, Pipe::S),
        ("aiv_mte2", false, Pipe::Mte2),
        ("aiv_mte3", false, Pipe::Mte3),
    ];
    let all = names.into_iter().map(|(name, cube, pipe)| {
        let busy = if cube { &timing.cube_busy } else { &timing.vector_busy };
        let share = busy.get(&pipe).copied().unwrap_or(0.0);
        (name, share * timing.us, share)
    });
    all.collect()
}

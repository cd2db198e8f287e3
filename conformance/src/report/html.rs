//! The report as one HTML page: no scripts, nothing to fetch, so that it opens anywhere and stays readable for ever.

use super::html_formats::{self, format_id};
use super::html_plot::{histogram, strip};
use super::{CaseResult, Counts, Failure, OpSummary, Outcome, Report, Statement};
use crate::rules::bound::Nearest;
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--soft:#8881}\
body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.2rem}code,.n{font-family:ui-monospace,monospace;font-size:.92em}\
table{border-collapse:collapse;margin:.6rem 0}th,td{border:1px solid var(--line);padding:.2rem .55rem;text-align:left;\
vertical-align:top}td.n{text-align:right}td.zero{opacity:.35}thead th{background:var(--soft)}\
details{margin:.25rem 0}details details{margin-left:1rem}summary{cursor:pointer}summary code{overflow-wrap:anywhere}\
.passed{color:#15803d}.failed{color:#dc2626;font-weight:600}.unsupported,.fallback{color:#a16207}.expected{color:#7c3aed}\
.message{white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid currentColor;padding-left:.6rem;margin:.4rem 0}\
td code{overflow-wrap:anywhere}td.state{min-width:9rem}.at{scroll-margin-top:4rem}.wide{overflow-x:auto}svg{max-width:100%;height:auto;display:block;margin:.3rem 0}svg text{fill:currentColor;font:11px ui-monospace,monospace}\
.axis{stroke:currentColor;opacity:.35}.limit{stroke:#dc2626;stroke-width:1.5}.bar{fill:#2563eb}.bar.out{fill:#dc2626}\
circle{fill:#2563eb;fill-opacity:.55}circle.out{fill:#dc2626;fill-opacity:1}";

/// One self-contained page over one report per device: verdicts, the matrix of operations by outcomes by devices, each
/// operation's errors against their bounds, each case with its numbers, and the statements.
pub fn html(reports: &[Report]) -> String {
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page += "<meta name=\"viewport\" content=\"width=device-width\"><title>anychip conformance</title>";
    page += &format!("<style>{STYLE}</style></head><body>\n<h1>anychip conformance</h1>\n");
    for report in reports {
        verdict(&mut page, report);
    }
    matrix(&mut page, reports);
    html_formats::matrix(&mut page, reports);
    for (index, report) in reports.iter().enumerate() {
        device(&mut page, index, report);
    }
    page += "<h2 id=\"environment\">Environment</h2>\n";
    for report in reports {
        statement(&mut page, report);
    }
    page += "</body></html>\n";
    page
}

fn verdict(page: &mut String, report: &Report) {
    let word = if report.passed { "passed" } else { "failed" };
    let Counts { selected, passed, failed, unsupported, fallback, expected, .. } = report.counts;
    add(
        page,
        format_args!(
            "<p><strong>{}</strong> ({}), {} profile, seed {}: <strong class=\"{word}\">{}</strong>. {passed} of {selected} cases \
         passed, {failed} failed, {unsupported} unsupported, {fallback} by another device, {expected} failed as expected.</p>\n",
            text(&report.device.name),
            text(&report.device.description),
            report.profile,
            report.seed,
            if report.passed { "passed" } else { "NOT PASSED" },
        ),
    );
    for reason in &report.reasons {
        add(page, format_args!("<p class=\"failed message\">{}</p>\n", text(reason)));
    }
}

pub(super) const OUTCOMES: [&str; 5] = ["passed", "failed", "unsupported", "fallback", "expected"];

fn matrix(page: &mut String, reports: &[Report]) {
    *page += "<h2>Operations</h2>\n<div class=\"wide\"><table><thead><tr><th rowspan=\"2\">operation</th>";
    for report in reports {
        add(page, format_args!("<th colspan=\"7\">{}</th>", text(&report.device.name)));
    }
    *page += "</tr><tr>";
    for _ in reports {
        OUTCOMES.iter().for_each(|outcome| *page += &format!("<th>{outcome}</th>"));
        *page += "<th title=\"largest share of its tolerance that a case used\">largest ratio</th>";
        *page += "<th title=\"the share that the loosest case used\">loosest ratio</th>";
    }
    *page += "</tr></thead><tbody>\n";
    let mut ops: Vec<&str> = Vec::new();
    for op in reports.iter().flat_map(|report| &report.ops).map(|summary| summary.op) {
        if !ops.contains(&op) {
            ops.push(op);
        }
    }
    for op in ops {
        add(page, format_args!("<tr><th><code>{}</code></th>", text(op)));
        for (index, report) in reports.iter().enumerate() {
            match report.ops.iter().find(|summary| summary.op == op) {
                Some(summary) => cells(page, index, summary),
                None => *page += "<td colspan=\"7\">not run</td>",
            }
        }
        *page += "</tr>\n";
    }
    *page += "</tbody></table></div>\n";
}

fn cells(page: &mut String, device: usize, summary: &OpSummary) {
    let Counts { passed, failed, unsupported, fallback, expected, .. } = summary.counts;
    for (outcome, count) in OUTCOMES.into_iter().zip([passed, failed, unsupported, fallback, expected]) {
        match count {
            0 => *page += "<td class=\"n zero\">0</td>",
            n => add(
                page,
                format_args!(
                    "<td class=\"n\"><a class=\"{outcome}\" href=\"#d{device}-{}\">{n}</a></td>",
                    text(summary.op)
                ),
            ),
        }
    }
    for ratio in [summary.largest_ratio, summary.loosest_ratio] {
        add(page, format_args!("<td class=\"n\">{}</td>", ratio.map_or("exact".into(), |r| format!("{r:.4}"))));
    }
}

fn device(page: &mut String, index: usize, report: &Report) {
    add(page, format_args!("<h2>{}: case by case</h2>\n", text(&report.device.name)));
    *page += "<p>Each dot is a case, at the share of its tolerance that its worst element used. Right of the red line it is \
              outside. In a case, the bars count elements by that share; the leftmost are exact.</p>\n";
    for summary in &report.ops {
        let results: Vec<&CaseResult> = report.results.iter().filter(|result| result.op == summary.op).collect();
        let open = if summary.counts.failed > 0 { " open" } else { "" };
        let op = text(summary.op);
        // The target of links is inside: a browser opens what a target is in, not the target.
        add(page, format_args!("<details{open}><summary><code>{op}</code>: {}</summary>\n", counted(&results)));
        add(page, format_args!("<div class=\"at\" id=\"d{index}-{op}\"></div>\n"));
        let dots: Vec<(&str, f64)> =
            results.iter().filter_map(|result| Some((result.case.as_str(), ratio(&result.outcome)?))).collect();
        *page += &strip(&dots);
        for declared in &summary.declared {
            add(page, format_args!("<p>declared: {}</p>\n", text(declared)));
        }
        for (at, formats) in report.formats.iter().enumerate().filter(|(_, formats)| formats.op == summary.op) {
            let results: Vec<&CaseResult> =
                results.iter().copied().filter(|result| result.formats == formats.format).collect();
            let (open, id) = (if formats.failed > 0 { " open" } else { "" }, format_id(index, at));
            add(
                page,
                format_args!("<details{open}><summary>{}: {}</summary>\n", text(formats.name()), counted(&results)),
            );
            add(page, format_args!("<div class=\"at\" id=\"{id}\"></div>\n"));
            results.into_iter().for_each(|result| case(page, result));
            *page += "</details>\n";
        }
        *page += "</details>\n";
    }
}

/// How many came out how, in colour.
fn counted(results: &[&CaseResult]) -> String {
    let counts = OUTCOMES.iter().map(|word| (word, results.iter().filter(|r| r.outcome.word() == *word).count()));
    let some = counts.filter(|(_, count)| *count > 0);
    some.map(|(word, count)| format!("<span class=\"{word}\">{count} {word}</span>")).collect::<Vec<_>>().join(", ")
}

fn ratio(outcome: &Outcome) -> Option<f64> {
    match outcome {
        Outcome::Passed { nearest } | Outcome::Fallback { nearest, .. } => nearest.as_ref().map(|n| n.ratio),
        Outcome::Failed(failure) | Outcome::Expected { failure, .. } => failure.ratio,
        Outcome::Unsupported { .. } => None,
    }
}

fn case(page: &mut String, result: &CaseResult) {
    let (word, outcome) = (result.outcome.word(), &result.outcome);
    let open = if word == "failed" { " open" } else { "" };
    add(
        page,
        format_args!(
            "<details{open}><summary><span class=\"{word}\">{word}</span> <code>{}</code></summary>\n",
            text(&result.case)
        ),
    );
    match outcome {
        Outcome::Passed { nearest: Some(nearest) } => self::nearest(page, nearest),
        Outcome::Passed { nearest: None } => *page += "<p>Equal to the last bit, as it must be.</p>\n",
        Outcome::Failed(failure) => self::failure(page, failure),
        Outcome::Unsupported { reason } => add(page, format_args!("<p>{}</p>\n", text(reason))),
        Outcome::Fallback { ops, nearest } => {
            add(page, format_args!("<p>Another device ran {}.</p>\n", text(&ops.join(", "))));
            nearest.iter().for_each(|nearest| self::nearest(page, nearest));
        }
        Outcome::Expected { reason, failure } => {
            add(page, format_args!("<p>Expected to fail: {}</p>\n", text(reason)));
            self::failure(page, failure);
        }
    }
    *page += &histogram(&result.spread);
    add(page, format_args!("<p>{:.3} s with operands and oracle</p></details>\n", result.seconds));
}

fn nearest(page: &mut String, nearest: &Nearest) {
    let Nearest { ratio, operand, coordinate, got, want, bound } = nearest;
    add(
        page,
        format_args!(
            "<p>Nearest to its tolerance: <code>{}{coordinate:?}</code>, got {got:e}, want {want:e} &#177; {bound:.3e}: \
         {ratio:.4} of the tolerance.</p>\n",
            text(operand)
        ),
    );
}

fn failure(page: &mut String, failure: &Failure) {
    add(page, format_args!("<p class=\"message\">{}</p>\n", text(&failure.message)));
    *page += "<table><tbody>";
    let mut row = |what: &str, value: String| {
        if !value.is_empty() {
            *page += &format!("<tr><th>{what}</th><td><code>{}</code></td></tr>", text(&value));
        }
    };
    row("rule", failure.rule.to_string());
    row("operand", failure.operand.map_or(String::new(), |operand| format!("{operand}{:?}", failure.coordinate)));
    row("got", failure.got.clone());
    row("want", failure.want.clone());
    row("bound", failure.bound.map_or(String::new(), |bound| format!("{bound:e}")));
    row("error / tolerance", failure.ratio.map_or(String::new(), |ratio| format!("{ratio:.4}")));
    row("likely cause", failure.cause.clone().unwrap_or_default());
    row("saved", failure.saved.clone().unwrap_or_default());
    row("again", format!("anychip conformance --case {}", failure.case));
    *page += "</tbody></table>\n";
}

fn statement(page: &mut String, report: &Report) {
    let Statement { suite_version, suite_digest, commit, host, device, expected_failures, .. } = &report.statement;
    *page += "<table><tbody>";
    let memory = report.device.memory_bytes.map_or("unknown".into(), |bytes| format!("{bytes} bytes"));
    let queued = if report.device.asynchronous { "asynchronous" } else { "within the call" };
    for (what, value) in [
        ("device", device.clone()),
        ("memory", memory),
        ("streams", queued.into()),
        ("clock", report.device.clock.clone()),
        ("host", host.clone()),
        ("suite", suite_version.clone()),
        ("suite digest", suite_digest.clone()),
        ("commit", commit.clone().unwrap_or("unknown".into())),
        ("profile", report.profile.to_string()),
        ("seed", report.seed.to_string()),
        ("strict", report.strict.to_string()),
        ("expected failures", expected_failures.join(", ")),
    ] {
        add(page, format_args!("<tr><th>{what}</th><td><code>{}</code></td></tr>", text(&value)));
    }
    *page += "</tbody></table>\n";
}

/// A String takes everything.
pub(super) fn add(page: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(what);
}

/// Text that is not markup.
pub(super) fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            // HTML has no way to write these.
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

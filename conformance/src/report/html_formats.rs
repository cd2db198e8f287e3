//! The page's matrix of operations and formats by devices.

use super::Report;
use super::formats::{FormatSummary, State};
use super::html::{add, text};

/// The id of what the page says about one combination of formats: the device's number and the combination's.
pub(super) fn format_id(device: usize, formats: usize) -> String {
    format!("f{device}-{formats}")
}

/// A row per operation and formats, a column per device; each cell leads to its cases.
pub(super) fn matrix(page: &mut String, reports: &[Report]) {
    *page += "<h2 id=\"formats\">Operations by format</h2>\n<div class=\"wide\"><table class=\"formats\"><thead><tr>\
              <th>operation</th><th>formats</th>";
    for report in reports {
        add(page, format_args!("<th>{}</th>", text(&report.device.name)));
    }
    *page += "</tr></thead><tbody>\n";
    for (op, formats) in rows(reports) {
        for (nth, format) in formats.iter().enumerate() {
            *page += "<tr>";
            if nth == 0 {
                add(page, format_args!("<th rowspan=\"{}\"><code>{}</code></th>", formats.len(), text(op)));
            }
            add(page, format_args!("<td><code>{}</code></td>", text(format.unwrap_or("not known"))));
            for (device, report) in reports.iter().enumerate() {
                let found = report.formats.iter().position(|s| s.op == op && s.format.as_deref() == *format);
                match found {
                    Some(at) => cell(page, &format_id(device, at), &report.formats[at]),
                    None => *page += "<td class=\"state\">not run</td>",
                }
            }
            *page += "</tr>\n";
        }
    }
    *page += "</tbody></table></div>\n";
}

/// Operations of any device, in the order that they come, each with the formats that any device met.
fn rows(reports: &[Report]) -> Vec<(&'static str, Vec<Option<&str>>)> {
    let mut rows: Vec<(&'static str, Vec<Option<&str>>)> = Vec::new();
    for summary in reports.iter().flat_map(|report| &report.formats) {
        let at = rows.iter().position(|(op, _)| *op == summary.op).unwrap_or_else(|| {
            rows.push((summary.op, Vec::new()));
            rows.len() - 1
        });
        if !rows[at].1.contains(&summary.format.as_deref()) {
            rows[at].1.push(summary.format.as_deref());
        }
    }
    rows
}

fn cell(page: &mut String, id: &str, summary: &FormatSummary) {
    let FormatSummary { state, cases, failed, unsupported, fallback, expected, .. } = summary;
    let (class, word, count) = match state {
        State::Native => ("passed", "native", cases),
        State::Fallback => ("fallback", "fallback", fallback),
        State::Unsupported => ("unsupported", "unsupported", unsupported),
        State::Expected => ("expected", "expected", expected),
        State::Failed => ("failed", "FAILED", failed),
    };
    let of = if count == cases { String::new() } else { format!(" of {cases}") };
    add(page, format_args!("<td class=\"state\"><a class=\"{class}\" href=\"#{id}\">{word} {count}{of}</a>"));
    for why in &summary.reasons {
        add(page, format_args!("<br><small>{} &#215; {}</small>", why.cases, text(&why.reason)));
    }
    *page += "</td>";
}

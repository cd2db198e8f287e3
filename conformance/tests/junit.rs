//! The JUnit XML against its schema, `data/junit.xsd`, whose rules are written out here: no tool of the system is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{ExpectedFailures, Outcome, Report, Selection, junit, run};
use anychip_core::{Device, Op};
use common::{Bench, bare, faulty};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::BTreeMap;

/// What markup, terminals and XML itself take for something else.
const HOSTILE: &str =
    "a<b> & \"q\" 'x' ]]> \u{1b}[31mred \u{0}\u{8}\u{b} \u{fffe}\u{ffff} \u{1F600} \u{85}\r\n\ttab \u{202e}é";
/// What is to be left of it. A carriage return and a line feed are one line end in XML.
const KEPT: [&str; 5] = ["a<b> & \"q\" 'x' ]]>", "red", "\u{1F600}", "tab", "\u{202e}é"];

/// An element of the document.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    fn of(start: &BytesStart<'_>) -> Element {
        let mut element = Element { name: text_of(start.name().as_ref()), ..Element::default() };
        for attribute in start.attributes() {
            let attribute = attribute.expect("well-formed, and no attribute twice");
            let raw = text_of(&attribute.value);
            assert!(!raw.contains('<'), "a bare < in an attribute: {raw}");
            let value = quick_xml::escape::unescape(&raw).expect("references that are defined").into_owned();
            element.attributes.insert(text_of(attribute.key.as_ref()), legal(value));
        }
        element
    }

    fn count(&self, attribute: &str) -> usize {
        let value = &self.attributes[attribute];
        assert!(value.bytes().all(|b| b.is_ascii_digit()), "{attribute}={value}");
        value.parse().unwrap()
    }

    fn seconds(&self) -> f64 {
        let value = &self.attributes["time"];
        let (whole, part) = value.split_once('.').expect("a decimal point");
        assert!(!whole.is_empty() && part.len() == 3, "time={value}");
        assert!((whole.to_owned() + part).bytes().all(|b| b.is_ascii_digit()), "time={value}");
        value.parse().unwrap()
    }

    fn of_name<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The characters that XML 1.0 has at all, as references or not.
fn legal(text: String) -> String {
    let known = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(text.chars().all(known), "{text:?}");
    text
}

/// Parses a document: a declaration and one root.
fn parse(xml: &str) -> Element {
    legal(xml.into());
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"), "{xml}");
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let mut open = vec![Element::default()];
    loop {
        match reader.read_event().expect("well-formed") {
            Event::Start(start) => open.push(Element::of(&start)),
            Event::Empty(start) => open.last_mut().unwrap().children.push(Element::of(&start)),
            Event::End(_) => {
                let done = open.pop().unwrap();
                open.last_mut().unwrap().children.push(done);
            }
            Event::Text(text) => {
                let raw = text_of(&text);
                assert!(!raw.contains("]]>"), "the end of a section that did not begin: {raw}");
                open.last_mut().unwrap().text += &raw;
            }
            Event::GeneralRef(reference) => {
                let raw = format!("&{};", text_of(&reference));
                open.last_mut().unwrap().text += &legal(quick_xml::escape::unescape(&raw).unwrap().into_owned());
            }
            Event::Decl(_) => assert!(open.len() == 1 && open[0].children.is_empty()),
            Event::Eof => break,
            other => panic!("neither an element nor text: {other:?}"),
        }
    }
    assert_eq!(open.len(), 1, "elements are left open");
    let mut roots = open.remove(0).children;
    assert_eq!(roots.len(), 1);
    roots.remove(0)
}

/// Attributes and children, in their order, as the schema lists them.
fn check(element: &Element, attributes: &[&str], children: &[(&str, usize, usize)]) {
    let names: Vec<&str> = element.attributes.keys().map(String::as_str).collect();
    let mut want = attributes.to_vec();
    want.sort_unstable();
    assert_eq!(names, want, "attributes of {}", element.name);
    assert!(element.attributes.get("name").is_none_or(|name| !name.is_empty()));
    let mut rest = element.children.iter().map(|child| child.name.as_str()).peekable();
    for (name, least, most) in children {
        let mut found = 0;
        while rest.next_if(|next| next == name).is_some() {
            found += 1;
        }
        assert!((*least..=*most).contains(&found), "{found} {name} in {}", element.name);
    }
    assert_eq!(rest.next(), None, "out of order or unknown in {}", element.name);
}

/// The document keeps the schema, and its counts are those of its elements.
fn check_document(xml: &str) -> Element {
    const MANY: usize = usize::MAX;
    let root = parse(xml);
    assert_eq!(root.name, "testsuites");
    check(&root, &["name", "tests", "failures", "errors", "time"], &[("testsuite", 0, MANY)]);
    for suite in &root.children {
        let attributes = ["name", "tests", "failures", "errors", "skipped", "time"];
        check(suite, &attributes, &[("properties", 1, 1), ("testcase", 0, MANY)]);
        check(&suite.children[0], &[], &[("property", 1, MANY)]);
        suite.children[0].children.iter().for_each(|property| check(property, &["name", "value"], &[]));
        for test in suite.of_name("testcase") {
            check(test, &["name", "classname", "time"], &[("failure", 0, 1), ("skipped", 0, 1)]);
            test.seconds();
            assert!(test.children.len() <= 1, "failed and skipped");
            test.children.iter().for_each(|why| check(why, &["message", "type"], &[]));
        }
        let with = |what: &str| suite.of_name("testcase").filter(|test| test.of_name(what).count() > 0).count();
        assert_eq!(suite.count("tests"), suite.of_name("testcase").count());
        assert_eq!(suite.count("failures"), with("failure"));
        assert_eq!(suite.count("skipped"), with("skipped"));
        assert_eq!(suite.count("errors"), 0);
        let seconds: f64 = suite.of_name("testcase").map(Element::seconds).sum();
        assert!((suite.seconds() - seconds).abs() <= 1e-3 * (1.0 + suite.count("tests") as f64));
    }
    for count in ["tests", "failures", "errors"] {
        assert_eq!(root.count(count), root.children.iter().map(|suite| suite.count(count)).sum::<usize>(), "{count}");
    }
    root
}

fn of(ops: &[&str], list: &str, strict: bool) -> Selection {
    let ops = ops.iter().map(|op| op.to_string()).collect();
    Selection { ops, strict, expected: ExpectedFailures::parse("list", list).unwrap(), ..Selection::default() }
}

/// Panics with a message that nobody would write, in `rope` and `embed`.
fn noisy() -> impl Device {
    let fault = |bench: &mut Bench<'_>, op: &Op| match op.name() {
        "rope" | "embed" => std::panic::panic_any(HOSTILE.to_owned()),
        _ => bench.run(op),
    };
    faulty(fault)
}

fn reports() -> Vec<Report> {
    let list = "[[expected_failures]]\ncase = \"embed\"\nreason = \"<b> & \\\"known\\\" ]]>\"\n";
    let mut mixed = run(&noisy(), &of(&["rope", "embed", "hadamard"], list, false), &mut |_| true).unwrap();
    // A reason of a driver.
    let last = mixed.results.last_mut().unwrap();
    last.outcome = Outcome::Unsupported { reason: HOSTILE.into() };
    mixed.device.description = HOSTILE.into();
    let bare = |strict| {
        let device = bare();
        run(&device, &of(&["rope"], "", strict), &mut |_| true).unwrap()
    };
    vec![mixed, bare(false), bare(true)]
}

#[test]
fn the_document_keeps_the_schema() {
    let reports = reports();
    let root = check_document(&junit(&reports).unwrap());
    assert_eq!(root.children.len(), 3);
    let counts = |at: usize| ["tests", "failures", "skipped"].map(|what| root.children[at].count(what));
    let mixed = reports[0].counts;
    assert!(mixed.passed > 1 && mixed.failed > 0 && mixed.expected > 0);
    assert_eq!(counts(0), [mixed.selected, mixed.failed, mixed.expected + 1]);
    // A run that executed nothing has a failed test of its own; in a strict one it is every test.
    let none = reports[1].counts;
    assert_eq!(counts(1), [none.selected + 1, 1, none.selected]);
    assert_eq!(counts(2), [none.selected + 1, none.selected + 1, 0]);
    check_document(&junit(&[]).unwrap());
}

#[test]
fn messages_come_through_markup() {
    let root = check_document(&junit(&reports()).unwrap());
    let tests = &root.children[0];
    let failure = tests.of_name("testcase").find_map(|test| test.of_name("failure").next()).unwrap();
    let skipped = tests.of_name("testcase").last().unwrap().of_name("skipped").next().unwrap();
    let property = tests.children[0].children.iter().find(|p| p.attributes["name"] == "description").unwrap();
    let said =
        [&failure.attributes["message"], &failure.text, &skipped.attributes["message"], &property.attributes["value"]];
    for text in said {
        for part in KEPT {
            assert!(text.contains(part), "{part} in {text:?}");
        }
    }
    // Parsers make spaces of line ends in attributes.
    assert!(failure.text.contains('\n'), "{:?}", failure.text);
    assert!(failure.text.contains("anychip conformance --case rope/"), "{}", failure.text);
    assert_eq!(skipped.attributes["type"], "unsupported");
    let expected = tests.of_name("testcase").find(|test| test.attributes["classname"] == "embed").unwrap();
    assert!(expected.children[0].attributes["message"].contains("expected to fail (<b> & \"known\" ]]>)"));
}

/// Each breaks a rule that the schema has.
#[test]
fn other_documents_are_refused() {
    let xml = junit(&reports()).unwrap();
    let edits = [
        ("<testsuites name=", "<testsuites skipped=\"1\" name="),
        (" errors=\"0\"", ""),
        ("<testcase name=", "<testcase id=\"1\" name="),
        ("classname=\"rope\" time=\"", "classname=\"rope\" time=\"-"),
        ("tests=\"", "tests=\"1"),
        ("</properties>", "</properties><system-out/>"),
        ("<properties>", "<property name=\"a\" value=\"b\"/><properties>"),
        ("type=\"expected\"", ""),
        ("<skipped ", "<error message=\"\" type=\"x\"/><skipped "),
        ("again:", "]]>"),
        ("again:", "&#x1b;"),
        ("again:", "<b/>"),
        ("</testsuite>", ""),
    ];
    for (from, to) in edits {
        let edited = xml.replacen(from, to, 1);
        assert_ne!(edited, xml, "{from}");
        assert!(std::panic::catch_unwind(|| check_document(&edited)).is_err(), "{from} to {to} is taken");
    }
}

/// Where it is named, for a check by the real schema: `ANYCHIP_JUNIT=FILE cargo test -p anychip-conformance --test junit`.
#[test]
fn the_document_can_be_had_as_a_file() {
    if let Some(file) = std::env::var_os("ANYCHIP_JUNIT") {
        std::fs::write(file, junit(&reports()).unwrap()).unwrap();
    }
}

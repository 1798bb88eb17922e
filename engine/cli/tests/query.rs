//! `query`: conditions, order, bounds, and that its lines are those of `export`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod support;

use std::io::{BufRead, BufReader};
use std::time::Duration;

use support::{Place, Run, stratalog};

/// Orders and invoices with tags: of each thousand events, some have several tags, and some none.
fn shop(count: usize) -> Vec<String> {
    let line = |number: usize| {
        let (kind, step) = (["order", "invoice"][number % 2], ["made", "paid", "sent"][number % 3]);
        let tags: Vec<_> = [(3, "urgent"), (5, "abroad"), (7, "gift")]
            .into_iter()
            .filter(|(divisor, _)| number.is_multiple_of(*divisor))
            .map(|(_, tag)| format!("\"{tag}\""))
            .chain((number % 4 == 1).then(|| format!("\"customer:{}\"", number % 50)))
            .collect();
        format!(
            concat!(
                r#"{{"stream":"{}-{}","type":"{}","timestamp":"2020-02-03T04:05:06.000Z","#,
                r#""tags":[{}],"data":{{ "n" : {} }}}}"#
            ),
            kind,
            number % 40,
            step,
            tags.join(","),
            number,
        )
    };
    (0..count).map(line).collect()
}

/// A place with a store of a shop, and its export.
fn filled(count: usize) -> (Place, Vec<String>) {
    let place = Place::new();
    place.import_lines(&shop(count)).good();
    let all = place.export();
    assert_eq!(all.len(), count);
    (place, all)
}

fn query(place: &Place, words: &str) -> Run {
    place.run("query", &words.split_whitespace().collect::<Vec<_>>())
}

#[track_caller]
fn queried(place: &Place, words: &str) -> Vec<String> {
    query(place, words).good().lines().map(str::to_owned).collect()
}

fn has_tag(line: &str, tag: &str) -> bool {
    let tags = line.split_once(r#""tags":["#).and_then(|(_, rest)| rest.split_once(']'));
    tags.is_some_and(|(tags, _)| tags.split(',').any(|one| one.trim_matches('"') == tag))
}

fn has_type(line: &str, name: &str) -> bool {
    line.contains(&format!(r#""type":"{name}","#))
}

fn in_stream(line: &str, beginning: &str) -> bool {
    line.contains(&format!(r#""stream":"{beginning}"#))
}

#[test]
fn without_a_condition_everything_is_printed_as_an_export_does() {
    let (place, all) = filled(3_000);
    assert_eq!(queried(&place, ""), all);
}

#[test]
fn types_are_alternatives_and_tags_must_all_be_there() {
    type Holds = fn(&str) -> bool;
    let (place, all) = filled(3_000);
    let cases: [(&str, Holds); 9] = [
        ("--type made", |line| has_type(line, "made")),
        ("--type made --type sent", |line| has_type(line, "made") || has_type(line, "sent")),
        ("--tag urgent", |line| has_tag(line, "urgent")),
        ("--tag abroad --tag gift", |line| has_tag(line, "abroad") && has_tag(line, "gift")),
        ("--stream order-8", |line| in_stream(line, "order-8\"")),
        ("--category invoice", |line| in_stream(line, "invoice-")),
        ("--type paid --tag customer:7", |line| {
            has_type(line, "paid") && has_tag(line, "customer:7")
        }),
        ("--category order --tag gift --type made --type paid", |line| {
            in_stream(line, "order-")
                && has_tag(line, "gift")
                && (has_type(line, "made") || has_type(line, "paid"))
        }),
        ("--stream invoice-9 --category invoice --tag abroad", |line| {
            in_stream(line, "invoice-9\"") && has_tag(line, "abroad")
        }),
    ];
    for (words, holds) in cases {
        let expected: Vec<_> = all.iter().filter(|line| holds(line)).cloned().collect();
        assert!(words.starts_with("--stream invoice-9") || !expected.is_empty(), "{words}");
        assert!(expected.len() < all.len(), "{words}");
        assert_eq!(queried(&place, words), expected, "{words}");
    }
    for nothing in ["--type none", "--tag none", "--stream order-8 --category invoice"] {
        assert_eq!(queried(&place, nothing), [""; 0], "{nothing}");
    }
}

#[test]
fn a_limit_and_the_way_back_bound_and_turn_what_is_printed() {
    let (place, all) = filled(3_000);
    let mut gifts: Vec<_> = all.iter().filter(|line| has_tag(line, "gift")).cloned().collect();
    assert_eq!(queried(&place, "--tag gift --limit 5"), gifts[..5]);
    assert_eq!(queried(&place, "--tag gift --limit 1000000"), gifts);
    gifts.reverse();
    assert_eq!(queried(&place, "--tag gift --backward"), gifts);
    assert_eq!(queried(&place, "--tag gift --backward --limit 3"), gifts[..3]);
    assert_eq!(queried(&place, "--limit 0"), [""; 0]);
    let back: Vec<_> = all.iter().rev().take(700).cloned().collect();
    assert_eq!(queried(&place, "--backward --limit 700"), back);
}

/// The present as a text for `--since`, with a pause before it and behind it.
fn now() -> String {
    const PAUSE: Duration = Duration::from_millis(20);
    std::thread::sleep(PAUSE);
    let now = jiff::Timestamp::now().to_string();
    std::thread::sleep(PAUSE);
    now
}

#[test]
fn since_goes_by_when_an_event_was_recorded() {
    let place = Place::new();
    let lines = shop(2_000);
    place.import_lines(&lines[..1_200]).good();
    let between = now();
    place.import_lines(&lines).good();
    let after = now();
    let all = place.export();
    assert_eq!(queried(&place, &format!("--since {between}")), all[1_200..]);
    assert_eq!(queried(&place, "--since 2020-02-03"), all);
    let mut gifts: Vec<_> =
        all[1_200..].iter().filter(|line| has_tag(line, "gift")).cloned().collect();
    gifts.reverse();
    assert_eq!(queried(&place, &format!("--since {between} --tag gift --backward")), gifts);
    for later in [after.as_str(), "2200-01-01"] {
        assert_eq!(queried(&place, &format!("--since {later}")), [""; 0]);
        assert_eq!(queried(&place, &format!("--since {later} --limit 5 --backward")), [""; 0]);
    }
}

#[test]
fn what_is_wrong_with_a_query_is_told() {
    let (place, _) = filled(10);
    place.run("query", &["--type", ""]).bad(&["event type", "must not be empty"]);
    place.run("query", &["--tag", "a\nb"]).bad(&["tag", "control character"]);
    let many: Vec<_> = (0..65).map(|number| format!("--tag=t{number}")).collect();
    place.run("query", &many).bad(&["an item may have 64 tags"]);
    let run = place.run("query", &["--since", "2010-02-30"]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("--since") && run.stderr.contains("no such day"), "{}", run.stderr);
}

#[test]
fn a_query_whose_reader_goes_away_ends_quietly() {
    let (place, all) = filled(20_000);
    let arguments = ["query", "--backward", "--type", "made", "--type", "paid", "--type", "sent"];
    let mut child = stratalog(arguments).arg(place.store()).spawn().unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    drop(out);
    let run: Run = child.wait_with_output().unwrap().into();
    assert_eq!(run.good(), "");
    assert_eq!(first.trim_end(), all[19_999]);
}

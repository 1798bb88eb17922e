//! `snapshots`: list, verify, compact and drop, and what `stats` says of snapshots.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet, Expect, Fold, State, Store};
use support::{Place, Run, stratalog};

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "added", version = 1)]
struct Added {
    amount: u64,
    note: String,
}

#[derive(EventSet)]
enum Counted {
    Added(Added),
}

/// Long enough for a compaction to free something.
#[derive(State, Archive, Serialize, Deserialize, Debug, Default, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "sum", version = 3, first)]
struct Sum {
    sum: u64,
    notes: Vec<String>,
}

/// A second state of the same streams.
#[derive(State, Archive, Serialize, Deserialize, Debug, Default)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "most", version = 1)]
struct Most {
    amount: u64,
}

struct Sums;

impl Fold for Sums {
    type State = Sum;
    type Events = Counted;

    fn initial() -> Sum {
        Sum::default()
    }

    fn evolve(sum: &mut Sum, event: CountedRef<'_>) {
        let CountedRef::Added(added) = event;
        sum.sum += added.amount.to_native();
        sum.notes.push(added.note.to_string());
    }
}

struct Mosts;

impl Fold for Mosts {
    type State = Most;
    type Events = Counted;

    fn initial() -> Most {
        Most::default()
    }

    fn evolve(most: &mut Most, event: CountedRef<'_>) {
        let CountedRef::Added(added) = event;
        most.amount = most.amount.max(added.amount.to_native());
    }
}

fn open(place: &Place) -> Store {
    Store::open(place.store()).unwrap()
}

/// Appends an event to a stream, and takes a snapshot of its sum.
fn add(store: &Store, stream: &str, amount: u64) {
    let added = Added { amount, note: "n".repeat(4_000) };
    let receipt = store.append(stream, Expect::Any, [added]).wait().unwrap();
    let taken = store.folded::<Sums>().take(stream).wait().unwrap();
    assert_eq!(taken, Some(receipt.version()));
}

/// A closed store in which the streams `sum-1` to `sum-3` have three snapshots each, of which two are kept, and `sum-2`
/// one of another state: the versions 1 and 2 of each, and 8 bytes of the other.
fn filled() -> Place {
    let place = Place::new();
    let store = open(&place);
    for amount in 1..=3 {
        for stream in ["sum-1", "sum-2", "sum-3"] {
            add(&store, stream, amount);
        }
    }
    store.folded::<Mosts>().take("sum-2").wait().unwrap();
    store.close().unwrap();
    place
}

fn run(place: &Place, words: &str) -> Run {
    place.run("snapshots", &words.split_whitespace().collect::<Vec<_>>())
}

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

/// Stream, state and version of each snapshot that is listed, sorted.
#[track_caller]
fn listed(place: &Place, words: &str) -> Vec<(String, String, u64)> {
    let text = run(place, &format!("list --json {words}")).good();
    let mut snapshots: Vec<_> = text
        .lines()
        .map(|line| {
            let line = json(line);
            let name = |field| line[field].as_str().unwrap().to_owned();
            (name("stream"), name("state"), line["version"].as_u64().unwrap())
        })
        .collect();
    snapshots.sort();
    snapshots
}

fn snapshot(stream: &str, state: &str, version: u64) -> (String, String, u64) {
    (stream.into(), state.into(), version)
}

fn all() -> Vec<(String, String, u64)> {
    vec![
        snapshot("sum-1", "sum", 1),
        snapshot("sum-1", "sum", 2),
        snapshot("sum-2", "most", 2),
        snapshot("sum-2", "sum", 1),
        snapshot("sum-2", "sum", 2),
        snapshot("sum-3", "sum", 1),
        snapshot("sum-3", "sum", 2),
    ]
}

fn snapshot_files(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.store()).unwrap().map(|entry| entry.unwrap().path());
    let is_it =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("snapshots-");
    let mut files: Vec<_> = entries.filter(is_it).collect();
    files.sort();
    files
}

/// Flips a bit of the only file of snapshots, and says which file that is.
fn flip_bit(place: &Place, at: usize) -> String {
    let files = snapshot_files(place);
    let [path] = &files[..] else { panic!("there is not one file: {files:?}") };
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn each_kept_snapshot_is_a_line_and_the_last_line_has_totals() {
    let place = filled();
    let text = run(&place, "list").good();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 8);
    let of_most: Vec<_> = lines.iter().filter(|fields| fields.contains(&"most")).collect();
    let [fields] = &of_most[..] else { panic!("{text}") };
    let [stream, state, state_version, fingerprint, version, position, taken_at, bytes] =
        fields[..]
    else {
        panic!("{text}");
    };
    assert_eq!((stream, state, state_version), ("sum-2", "most", "1"));
    assert!(fingerprint.len() == 32 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!((version, position, bytes), ("2", "8", "8"));
    let age = jiff::Timestamp::now().duration_since(taken_at.parse().unwrap());
    assert!(!age.is_negative() && age.as_secs() < 600, "{taken_at}");

    let bytes: u64 = lines[..7].iter().map(|fields| fields[7].parse::<u64>().unwrap()).sum();
    let totals = lines[7].concat().replace(',', "");
    assert_eq!(totals, format!("7 snapshots {bytes} bytes"));

    let line = json(&run(&place, "list --json --state most").good());
    let expected = serde_json::json!({
        "stream": "sum-2",
        "state": "most",
        "state_version": 1,
        "fingerprint": fingerprint,
        "version": 2,
        "position": 8,
        "taken_at": taken_at,
        "bytes": 8,
    });
    assert_eq!(line, expected);
}

#[test]
fn a_list_is_of_a_stream_a_state_or_both() {
    let place = filled();
    assert_eq!(listed(&place, ""), all());
    let of = |take: fn(&(String, String, u64)) -> bool| {
        all().into_iter().filter(take).collect::<Vec<_>>()
    };
    assert_eq!(listed(&place, "--stream sum-2"), of(|(stream, ..)| stream == "sum-2"));
    assert_eq!(listed(&place, "--state sum"), of(|(_, state, _)| state == "sum"));
    let expected = [snapshot("sum-2", "most", 2)];
    assert_eq!(listed(&place, "--stream sum-2 --state most"), expected);
    assert_eq!(listed(&place, "--kept 1 --stream sum-3"), [snapshot("sum-3", "sum", 2)]);
    assert_eq!(listed(&place, "--kept 3 --stream sum-3").len(), 3);
    assert_eq!(listed(&place, "--stream sum"), []);
    assert_eq!(run(&place, "list --state none").good(), "0 snapshots, 0 bytes\n");
}

#[test]
fn a_list_whose_reader_has_gone_away_ends_quietly() {
    let place = filled();
    for words in [&["list"][..], &["list", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = stratalog(["snapshots"]);
        let run: Run =
            command.arg(place.store()).args(words).stdout(writer).output().unwrap().into();
        run.good();
    }
}

#[test]
fn sound_snapshots_are_verified_without_changing_them() {
    let place = filled();
    let files = || -> Vec<_> {
        snapshot_files(&place)
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    };
    let before = files();
    let report = json(&run(&place, "verify --json").good());
    let bytes: usize = before.iter().map(|(_, bytes)| bytes.len()).sum();
    // The three that are not kept are sound as well.
    let expected = serde_json::json!({
        "clean": true,
        "snapshots": 10,
        "bytes": bytes,
        "findings": [],
    });
    assert_eq!(report, expected);
    let text = run(&place, "verify").good();
    assert!(text.starts_with("clean: 10 snapshots are good, "), "{text}");
    assert!(files() == before, "verifying changed a file");
}

#[test]
fn a_damaged_snapshot_is_found_and_its_file_is_named_and_the_others_are_listed() {
    let place = filled();
    let bytes = fs::read(&snapshot_files(&place)[0]).unwrap();
    // The last snapshot is the other state's, and the only one that has its name.
    let at = bytes.windows(9).rposition(|window| window == b"sum-2most" || window == b"mostsum-2");
    let file = flip_bit(&place, at.unwrap());

    let damaged = run(&place, "verify");
    assert_eq!(damaged.status, 1);
    let lines: Vec<_> = damaged.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", damaged.stdout);
    assert!(lines[0].starts_with(&format!("{file}: ")), "{}", lines[0]);
    assert!(lines[1].starts_with("not clean: 9 snapshots are good, "), "{}", lines[1]);

    let damaged = run(&place, "verify --json");
    assert_eq!(damaged.status, 1);
    let report = json(&damaged.stdout);
    assert_eq!((&report["clean"], &report["snapshots"]), (&Value::Bool(false), &Value::from(9)));
    assert_eq!(report["findings"][0], lines[0]);

    let rest: Vec<_> = all().into_iter().filter(|(_, state, _)| state != "most").collect();
    assert_eq!(listed(&place, ""), rest);
    place.assert_clean();
}

#[test]
fn any_damaged_part_of_a_file_is_found() {
    let bytes = fs::read(&snapshot_files(&filled())[0]).unwrap().len();
    // Header, first snapshot, index and footer.
    for at in [16, 4096 + 40, bytes - 8192, bytes - 4096 + 16] {
        let place = filled();
        let file = flip_bit(&place, at);
        let damaged = run(&place, "verify");
        assert_eq!(damaged.status, 1, "{at}");
        assert!(damaged.stdout.contains(&format!("{file}: ")), "{at}: {}", damaged.stdout);
        assert_eq!(run(&place, "list").status, 0, "{at}");
        assert_eq!(open(&place).load::<Sums>("sum-1").unwrap().state().sum, 6, "{at}");
    }
}

#[test]
fn a_compaction_moves_what_is_kept_and_frees_the_rest() {
    let place = filled();
    let figures = |text: &str| json(text)["snapshots"].clone();
    let before = figures(&place.run("stats", &["--json"]).good());
    let compacted = json(&run(&place, "compact --json").good());
    assert_eq!(compacted["snapshots"], figures(&place.run("stats", &["--json"]).good()));
    let bytes = |of: &Value, name: &str| of[name].as_u64().unwrap();
    assert_eq!(bytes(&compacted, "moved_bytes"), bytes(&before, "live_bytes"));
    let freed = bytes(&before, "disk_bytes") - bytes(&compacted["snapshots"], "disk_bytes");
    assert_eq!(bytes(&compacted, "freed_bytes"), freed);
    // Three sums with one, two and three notes had one that is not kept.
    assert!(freed > 3 * 4_000 - 4_096, "{freed}");
    assert_eq!(snapshot_files(&place).len(), 1);
    assert_eq!(listed(&place, ""), all());

    let text = run(&place, "compact").good();
    assert!(text.starts_with("0 bytes were moved, 0 bytes were freed\n\nsnapshots\n"), "{text}");

    run(&place, "compact --kept 1").good();
    let newest: Vec<_> = all().into_iter().filter(|(.., version)| *version == 2).collect();
    assert_eq!(listed(&place, ""), newest);
    let store = open(&place);
    let loaded = store.load::<Sums>("sum-2").unwrap();
    assert_eq!((loaded.snapshot_version(), loaded.state().sum), (Some(2), 6));
}

#[test]
fn dropped_snapshots_of_a_stream_are_gone_also_after_the_store_was_opened_again() {
    let place = filled();
    let dropped = json(&run(&place, "drop --stream sum-2 --json").good());
    assert_eq!(dropped, serde_json::json!({ "dropped": 3 }));
    let rest: Vec<_> = all().into_iter().filter(|(stream, ..)| stream != "sum-2").collect();
    assert_eq!(listed(&place, ""), rest);
    let store = open(&place);
    assert!(store.latest_snapshot::<Sums>("sum-2").unwrap().is_none());
    assert!(store.latest_snapshot::<Mosts>("sum-2").unwrap().is_none());
    let loaded = store.load::<Sums>("sum-2").unwrap();
    assert_eq!((loaded.snapshot_version(), loaded.state().sum), (None, 6));
    store.close().unwrap();
    run(&place, "compact").good();
    assert_eq!(listed(&place, ""), rest);
    assert_eq!(run(&place, "drop --stream sum-2").good(), "0 snapshots were dropped\n");

    // New ones are kept as ever.
    let store = open(&place);
    add(&store, "sum-2", 4);
    store.close().unwrap();
    assert_eq!(listed(&place, "--stream sum-2"), [snapshot("sum-2", "sum", 3)]);
    place.assert_clean();
    assert_eq!(run(&place, "verify").status, 0);
}

#[test]
fn dropping_all_snapshots_leaves_no_file_of_them_damaged_ones_among_them() {
    for damage_at in [None, Some(16), Some(4096 + 40)] {
        let place = filled();
        if let Some(at) = damage_at {
            flip_bit(&place, at);
        }
        let run_of = run(&place, "drop --all");
        assert_eq!(run_of.status, 0, "{}", run_of.stderr);
        assert!(run_of.stdout.ends_with(" snapshots were dropped\n"), "{}", run_of.stdout);
        assert!(damage_at.is_some() || run_of.stdout.starts_with("7 "), "{}", run_of.stdout);
        assert_eq!(snapshot_files(&place), [""; 0].map(PathBuf::from));
        assert_eq!(run(&place, "list").good(), "0 snapshots, 0 bytes\n");
        assert!(run(&place, "verify").good().starts_with("clean: 0 snapshots are good, "));
        assert_eq!(open(&place).load::<Sums>("sum-1").unwrap().state().sum, 6);
        place.assert_clean();
    }
}

#[test]
fn what_changes_snapshots_fails_where_the_store_is_open_for_writing_elsewhere() {
    let place = filled();
    let store = open(&place);
    let before = snapshot_files(&place);
    for words in ["compact", "compact --json", "drop --all", "drop --stream sum-1"] {
        let refused = run(&place, words);
        assert_eq!(refused.stdout, "", "{words}");
        refused.bad(&["is open for writing elsewhere"]);
    }
    assert_eq!(snapshot_files(&place), before);
    // What only looks at them works beside it.
    assert_eq!(listed(&place, ""), all());
    assert_eq!(run(&place, "verify").status, 0);
    store.close().unwrap();
    run(&place, "compact").good();
}

#[test]
fn stats_has_a_section_on_snapshots_where_there_are_some() {
    let place = filled();
    let figures = json(&place.run("stats", &["--json"]).good())["snapshots"].clone();
    let bytes: u64 = snapshot_files(&place).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!((&figures["segments"], &figures["keys"]), (&Value::from(1), &Value::from(4)));
    assert_eq!(figures["disk_bytes"], bytes);
    let live = figures["live_bytes"].as_u64().unwrap();
    assert!(live > 3 * (2 + 3) * 4_000 && live < bytes, "{live} of {bytes}");
    let table = place.run::<&str>("stats", &[]).good();
    let section = table.split("\n\n").find(|section| section.starts_with("snapshots\n")).unwrap();
    assert_eq!(section.lines().count(), 5, "{section}");

    run(&place, "drop --all").good();
    let table = place.run::<&str>("stats", &[]).good();
    assert!(!table.contains("snapshots"), "{table}");
    let figures = json(&place.run("stats", &["--json"]).good())["snapshots"].clone();
    let none = serde_json::json!({ "segments": 0, "keys": 0, "live_bytes": 0, "disk_bytes": 0 });
    assert_eq!(figures, none);
}

#[test]
fn a_store_that_is_not_there_is_told_and_not_made() {
    let place = Place::new();
    for words in ["list", "verify", "compact", "drop --all", "drop --stream s"] {
        let missing = run(&place, words);
        assert_eq!(missing.stdout, "", "{words}");
        missing.bad(&["there is no store in", "store"]);
        assert!(!place.store().exists(), "{words}");
    }
}

#[test]
fn a_store_without_snapshots_has_none_to_list_verify_compact_or_drop() {
    let place = Place::new();
    place.import_lines(&support::help_desk(41, 10)).good();
    assert_eq!(run(&place, "list").good(), "0 snapshots, 0 bytes\n");
    assert_eq!(run(&place, "list --json").good(), "");
    run(&place, "verify").good();
    run(&place, "compact").good();
    for words in ["drop --all", "drop --stream ticket-1"] {
        assert_eq!(run(&place, words).good(), "0 snapshots were dropped\n");
    }
    run(&place, "drop --stream a\u{7}b").bad(&["control character"]);
    assert_eq!(snapshot_files(&place), [""; 0].map(PathBuf::from));
}

#[test]
fn wrong_usage_ends_with_2() {
    for words in [
        "",
        "frobnicate",
        "list --stream",
        "list --kept 0",
        "verify --stream s",
        "compact --kept 17",
        "drop",
        "drop --json",
        "drop --all --stream s",
    ] {
        let place = Place::new();
        assert_eq!(run(&place, words).status, 2, "{words:?}");
    }
    for words in ["--help", "list --help", "drop --help"] {
        assert_eq!(run(&Place::new(), words).status, 0, "{words}");
    }
}

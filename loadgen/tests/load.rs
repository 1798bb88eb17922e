//! The whole command, on real files: what it writes, what it refuses, and what it finds again.

#![expect(
    clippy::unwrap_used,
    reason = "tests may, but these helpers are not seen as part of them"
)]

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;

use self::common::{fails, folder, json, succeeds};

mod common;

/// An event of the protocol: its stream, version and checksum, as they are written.
type Told = (String, u64, String);

fn told(line: &str) -> (String, Told) {
    let words: Vec<_> = line.split(' ').collect();
    let [what, stream, version, checksum] = words[..] else { panic!("{line:?}") };
    assert!(checksum.len() == 8 && checksum.chars().all(|digit| digit.is_ascii_hexdigit()));
    (what.into(), (stream.into(), version.parse().unwrap(), checksum.into()))
}

/// What the lines of the protocol say was acknowledged, each after it was sent.
fn acknowledged(text: &str) -> Vec<Told> {
    let (mut sent, mut acknowledged) = (HashMap::new(), Vec::new());
    for line in text.lines() {
        match told(line) {
            (what, (stream, version, checksum)) if what == "S" => {
                let before = sent.insert((stream, version), checksum);
                assert_eq!(before, None, "sent twice: {line}");
            }
            (what, event) => {
                assert_eq!(what, "A");
                assert_eq!(sent.get(&(event.0.clone(), event.1)), Some(&event.2), "{line}");
                acknowledged.push(event);
            }
        }
    }
    acknowledged
}

/// What `dump` prints, held to its own rules: dense versions, and an end.
fn dumped(text: &str) -> Vec<Told> {
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.pop(), Some("END"));
    let mut next = HashMap::new();
    let events: Vec<_> = lines.into_iter().map(told).collect();
    for (what, (stream, version, _)) in &events {
        assert_eq!(what, "R");
        let next: &mut u64 = next.entry(stream.clone()).or_default();
        assert_eq!(version, next, "{stream}");
        *next += 1;
    }
    events.into_iter().map(|(_, event)| event).collect()
}

/// Runs with these words, and holds the protocol, the store, the figures and each other to one another.
fn assert_consistent(words: &str) -> Value {
    let folder = folder();
    let run = format!(
        "run --dir store --verify --json out.json --acks acks --hdr hdr --duration 0.5 --warmup 0.1 {words}"
    );
    let table = succeeds(folder.path(), &run);
    assert!(table.contains("events/s") && table.contains("verified"), "{table}");
    let acks = std::fs::read_to_string(folder.path().join("acks")).unwrap();
    let (mut acknowledged, mut found) =
        (acknowledged(&acks), dumped(&succeeds(folder.path(), "dump store")));
    acknowledged.sort();
    found.sort();
    assert!(!found.is_empty());
    assert!(acknowledged == found, "{words}: what was acknowledged is not what is there");
    let hdr = std::fs::read_to_string(folder.path().join("hdr")).unwrap();
    assert!(hdr.contains("Percentile") && hdr.contains("#[Max"));
    let report = json(folder.path().join("out.json"));
    assert_eq!(report["verified"], true);
    assert!(report["append"]["events"].as_u64().unwrap() <= found.len() as u64);
    report
}

#[test]
fn a_run_of_writers_writes_its_figures_and_what_it_acknowledged() {
    let report = assert_consistent("--writers 4 --streams 100 --readers 1");
    for name in [
        "/append/events",
        "/append/conflicts",
        "/append/seconds",
        "/append/events_per_second",
        "/append/bytes_per_second",
        "/append/latency_ns/p50",
        "/append/latency_ns/p90",
        "/append/latency_ns/p99",
        "/append/latency_ns/p999",
        "/append/latency_ns/max",
        "/append/batch_events_mean",
        "/append/write_amplification",
        "/append/log_bytes_per_event",
        "/read/events_per_second",
        "/read/bytes_per_second",
        "/read/stream_p50_ns",
        "/resources/cpu_seconds",
        "/resources/rss_peak_bytes",
        "/ceiling/write_4k_p50_ns",
        "/ceiling/write_4k_per_second",
        "/ceiling/write_256k_qd4_bytes_per_second",
        "/ratio/p50_to_ceiling",
        "/ratio/events_to_ceiling_writes",
        "/ratio/bandwidth_to_ceiling",
    ] {
        assert!(report.pointer(name).is_some_and(Value::is_number), "{name}: {report:#}");
    }
    assert!(report["ceiling"]["stable"].is_boolean());
    for name in
        ["/read/open_ns", "/ceiling/memory_sum_bytes_per_second", "/ratio/scan_to_memory_sum"]
    {
        assert_eq!(report.pointer(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(report["store"], "stratalog");
    assert_eq!(report["append"]["conflicts"], 0);
}

/// The figures of queries that were made.
#[track_caller]
fn assert_queried(report: &Value) {
    for name in ["per_second", "events_per_second", "p50_ns", "p99_ns"] {
        assert!(report["query"][name].as_f64().is_some_and(|figure| figure > 0.0), "{report:#}");
    }
}

#[test]
fn tags_are_found_again_and_queried_beside_the_appends() {
    for clients in ["--writers 8", "--producers 1 --batch 5"] {
        let report = assert_consistent(&format!(
            "{clients} --tags 2 --queries 1 --streams 100 --no-ceiling"
        ));
        assert_queried(&report);
        assert_eq!(report["workload"]["tags"], 2);
        assert_eq!(report["workload"]["queries"], 1);
    }
    let report = assert_consistent("--writers 2 --tags 64 --no-ceiling");
    assert_eq!(report["query"]["per_second"], Value::Null);
    assert_eq!(report["workload"]["queries"], 0);
}

#[test]
fn conditions_are_judged_and_hold_where_nobody_else_uses_the_tag() {
    for (words, may_conflict) in [
        ("--writers 8 --condition after", true),
        ("--tasks 16 --condition exists --tags 2", false),
        ("--producers 1 --inflight 64 --condition after --batch 3", false),
    ] {
        let report = assert_consistent(&format!("{words} --streams 100 --no-ceiling"));
        let condition = |name: &str| report["condition"][name].as_u64().unwrap();
        let (checked, conflicts) = (condition("checked"), condition("conflicts"));
        let batch = if words.contains("--batch 3") { 3 } else { 1 };
        // What was judged before it counted is in it, too.
        assert!(batch * (checked - conflicts) >= report["append"]["events"].as_u64().unwrap());
        assert!(may_conflict || conflicts == 0, "{words}: {conflicts} conflicts");
    }
    let report = assert_consistent("--writers 2 --no-ceiling");
    assert_eq!(report["condition"]["checked"], Value::Null);

    let folder = folder();
    let run = "run --fill 1000 --condition exists --json out.json --duration 0.3 --no-ceiling";
    succeeds(folder.path(), run);
    let report = json(folder.path().join("out.json"));
    assert!(report["condition"]["checked"].as_u64().unwrap() > 0);
    let error = fails(folder.path(), "run --condition after --tags 64 --no-ceiling");
    assert!(error.contains("a tag of its own"), "{error}");
}

#[test]
fn appends_that_are_sent_twice_are_recognised_and_there_once() {
    for words in [
        "--writers 8 --retries 50 --condition after",
        "--tasks 16 --retries 100 --batch 3 --condition exists",
        "--producers 1 --inflight 64 --retries 30 --batch 3",
    ] {
        let report = assert_consistent(&format!("{words} --streams 100 --no-ceiling"));
        let retry = |name: &str| report["retry"][name].as_u64().unwrap();
        assert!(retry("sent") > 0);
        assert_eq!(retry("sent"), retry("recognised"), "{words}");
    }
    let report = assert_consistent("--writers 2 --no-ceiling");
    assert_eq!(report["retry"]["recognised"], Value::Null);
    let error = fails(folder().path(), "run --retries 10 --store none --no-ceiling");
    assert!(error.contains("recognises repeated appends"), "{error}");
    let error = fails(folder().path(), "run --retries 101 --no-ceiling");
    assert!(error.contains("from 0 to 100"), "{error}");
}

#[test]
fn queries_without_tags_are_refused() {
    let folder = folder();
    let error = fails(folder.path(), "run --queries 1 --no-ceiling --duration 0.2");
    assert!(error.contains("give --tags 1 or more"), "{error}");
    let error = fails(folder.path(), "run --input input.jsonl --tags 1 --queries 1");
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn tasks_and_producers_say_what_they_append_beforehand() {
    assert_consistent("--tasks 32 --streams 100 --zipf 0.99 --batch 3 --no-ceiling");
    assert_consistent("--producers 2 --inflight 64 --expect any --payload 1000 --no-ceiling");
}

#[test]
fn an_open_loop_reports_what_slipped() {
    for clients in ["--writers 2", "--tasks 8", "--producers 2"] {
        let report = assert_consistent(&format!("{clients} --rate 200 --no-ceiling"));
        assert!(report["workload"]["late"].is_u64() && report["workload"]["skipped"].is_u64());
        let (events, skipped) = (&report["append"]["events"], &report["workload"]["skipped"]);
        // A tenth of a second of warm-up and half a second that counts, at 200 a second.
        assert!(events.as_u64().unwrap() + skipped.as_u64().unwrap() <= 120, "{report:#}");
        assert_eq!(report["ceiling"]["write_4k_p50_ns"], Value::Null);
    }
}

#[test]
fn clients_that_share_streams_conflict_and_try_again() {
    let folder = folder();
    for expect in ["exact", "decided"] {
        let run =
            "run --writers 8 --streams 2 --verify --json out.json --no-ceiling --duration 0.5";
        succeeds(folder.path(), &format!("{run} --expect {expect}"));
        let report = json(folder.path().join("out.json"));
        assert_eq!(report["verified"], true);
        assert_eq!(report["workload"]["expect"], expect);
        assert!(report["append"]["conflicts"].as_u64().unwrap() > 0);
    }
    for refused in ["--acks acks", "--producers 4"] {
        let error = fails(folder.path(), &format!("run --streams 2 --no-ceiling {refused}"));
        assert!(error.contains("ask for more streams"), "{error}");
    }
}

#[test]
fn a_store_that_is_there_is_refused_and_left_alone() {
    let folder = folder();
    let run = "run --dir store --writers 1 --duration 0.2 --warmup 0 --no-ceiling";
    succeeds(folder.path(), run);
    let before = succeeds(folder.path(), "dump store");
    let error = fails(folder.path(), run);
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(succeeds(folder.path(), "dump store"), before);
}

#[test]
fn a_temporary_store_is_removed() {
    let folder = folder();
    succeeds(folder.path(), "run --writers 1 --duration 0.2 --warmup 0 --no-ceiling");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_run_ends_early_when_it_has_written_enough() {
    let folder = folder();
    let run = "run --producers 1 --max-bytes 1000000 --duration 60 --warmup 0 --no-ceiling";
    let table = succeeds(folder.path(), &format!("{run} --json out.json"));
    assert!(table.contains("Ended early"), "{table}");
    let report = json(folder.path().join("out.json"));
    assert_eq!(report["workload"]["ended_early"], true);
    assert!(report["append"]["seconds"].as_f64().unwrap() < 60.0);
}

#[test]
fn a_real_log_is_replayed_with_each_stream_in_its_order() {
    let folder = folder();
    let lines: Vec<String> = (0..500)
        .map(|number| {
            let (stream, time) = (number % 7, number % 60);
            format!(
                r#"{{"stream":"case-{stream}","type":"t","timestamp":"2010-01-13T08:40:{time:02}Z","data":{{"n":{number}}}}}"#
            )
        })
        .collect();
    std::fs::write(folder.path().join("input.jsonl"), lines.join("\n")).unwrap();
    for (store, clients) in
        ["--writers 3", "--tasks 16 --rate 100000", "--producers 1"].iter().enumerate()
    {
        let run = format!(
            "run --dir {store} --input input.jsonl --verify --no-ceiling --json out.json {clients}"
        );
        succeeds(folder.path(), &run);
        let report = json(folder.path().join("out.json"));
        assert_eq!(report["append"]["events"], 500, "{clients}");
        assert!(report["append"]["events_per_second"].is_number());
        let mut found = dumped(&succeeds(folder.path(), &format!("dump {store}")));
        found.sort();
        let mut expected: Vec<Told> = (0..500_u64)
            .map(|number| {
                let checksum = crc32fast::hash(format!(r#"{{"n":{number}}}"#).as_bytes());
                (format!("case-{}", number % 7), number / 7, format!("{checksum:08x}"))
            })
            .collect();
        expected.sort();
        assert_eq!(found, expected, "{clients}");
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = folder();
    let acks = folder.path().join("acks");
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .current_dir(folder.path())
        .args("run --dir store --writers 4 --acks acks --no-ceiling --duration 60".split(' '))
        .spawn()
        .unwrap();
    while std::fs::read_to_string(&acks).map_or(0, |text| text.lines().count()) < 200 {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let text = std::fs::read_to_string(&acks).unwrap();
    // The kill may have cut the last line.
    let whole = &text[..=text.rfind('\n').unwrap()];
    let sent: Vec<_> = whole.lines().map(told).filter(|(what, _)| what == "S").collect();
    let found = dumped(&succeeds(folder.path(), "dump --recover store"));
    for event in acknowledged(whole) {
        assert!(found.contains(&event), "{event:?} is lost");
    }
    for event in &found {
        assert!(sent.iter().any(|(_, sent)| sent == event), "{event:?} was never sent");
    }
    assert_eq!(dumped(&succeeds(folder.path(), "dump store")), found);
}

#[test]
fn a_store_is_filled_once_and_read_in_each_way() {
    let folder = folder();
    let read =
        "read --dir store --fill 20000 --streams 200 --duration 0.2 --no-ceiling --json out.json";
    for (mode, measured) in [
        ("scan", ["events_per_second", "bytes_per_second"].as_slice()),
        ("streams", &["events_per_second", "bytes_per_second", "stream_p50_ns"]),
        ("open", &["open_ns"]),
    ] {
        succeeds(folder.path(), &format!("{read} --mode {mode}"));
        let report = json(folder.path().join("out.json"));
        for (name, value) in report["read"].as_object().unwrap() {
            assert_eq!(value.is_number(), measured.contains(&name.as_str()), "{mode}: {name}");
        }
        assert_eq!(report["append"]["events"], Value::Null);
    }
    let filled = dumped(&succeeds(folder.path(), "dump store"));
    let count = filled.iter().filter(|(stream, ..)| stream.starts_with("account-")).count();
    assert_eq!(count, 20_000);
}

#[test]
fn scattered_tags_are_queried_hot_and_cold() {
    let folder = folder();
    let read = "read --dir store --fill 3000 --mode queries --no-ceiling --json out.json";
    for (words, readers, cold) in [
        ("--duration 0.3", 1, false),
        ("--duration 0.3 --readers 2", 2, false),
        // All 300 tags are asked for before the time is over.
        ("--duration 60 --cold --readers 2", 2, true),
    ] {
        let table = succeeds(folder.path(), &format!("{read} {words}"));
        assert!(table.contains("queries/s"), "{table}");
        assert_eq!(table.contains("page cache dropped before"), cold, "{table}");
        let report = json(folder.path().join("out.json"));
        assert_queried(&report);
        let query = |name: &str| report["query"][name].as_f64().unwrap();
        let events = query("events_per_second") / query("per_second");
        assert!((events - 10.0).abs() < 1e-6, "{words}: {events} events a query");
        assert_eq!(report["workload"]["readers"], readers);
        assert_eq!(report["workload"]["cold"], cold);
        assert_eq!(report["workload"]["tags"], 1);
        assert_eq!(report["read"]["events_per_second"], Value::Null);
    }
    assert_eq!(dumped(&succeeds(folder.path(), "dump store")).len(), 3000);
}

#[test]
fn a_store_that_has_other_tags_than_are_queried_is_told() {
    let folder = folder();
    let read = "read --dir store --no-ceiling --duration 0.2";
    succeeds(folder.path(), &format!("{read} --mode scan --fill 1000"));
    let error = fails(folder.path(), &format!("{read} --mode queries --fill 1000"));
    assert!(error.contains("0 events were found by ten-"), "{error}");
    let error = fails(folder.path(), &format!("{read} --mode queries --fill 1001"));
    assert!(error.contains("multiple of 10"), "{error}");
    for words in ["--mode streams --cold", "--mode scan --readers 2"] {
        let error = fails(folder.path(), &format!("{read} {words}"));
        assert!(error.contains("--mode queries"), "{error}");
    }
}

#[test]
fn typed_events_are_as_long_as_asked_for_and_found_again() {
    for (store, words) in [
        "--writers 4",
        "--tasks 8 --batch 3 --fill 100",
        "--producers 1 --inflight 64 --payload 255",
        "--writers 4 --tags 2",
        "--tasks 8 --condition after --batch 2",
        "--producers 1 --inflight 64 --retries 50",
    ]
    .iter()
    .enumerate()
    {
        let folder = folder();
        let verify = if words.contains("--fill") { "" } else { "--verify" };
        let run = format!(
            "run --typed --dir {store} {verify} --json out.json --streams 100 --duration 0.4 --warmup 0 --no-ceiling"
        );
        succeeds(folder.path(), &format!("{run} {words}"));
        let report = json(folder.path().join("out.json"));
        assert_eq!(report["workload"]["typed"], true);
        assert_eq!(report["verified"], if verify.is_empty() { Value::Null } else { true.into() });
        // Archives of this type are multiples of 8.
        let expected = if words.contains("--payload 255") { 248 } else { 256 };
        let store =
            stratalog::Store::options().open_read_only(folder.path().join(store.to_string()));
        let store = store.unwrap();
        let mut reader = store.read_all().forward();
        while let Some(batch) = reader.next_batch().unwrap() {
            for event in &batch {
                assert_eq!(event.payload_kind(), stratalog::PayloadKind::Archived, "{words}");
                assert_eq!(event.payload().len(), expected, "{words}");
            }
        }
        let per_event = report["append"]["bytes_per_second"].as_f64().unwrap()
            / report["append"]["events_per_second"].as_f64().unwrap();
        assert!(
            (per_event - f64::from(u32::try_from(expected).unwrap())).abs() < 1e-3,
            "{per_event}"
        );
    }
    let report = assert_consistent("--typed --writers 4 --streams 100 --no-ceiling");
    assert_eq!(report["workload"]["typed"], true);
    let report = assert_consistent("--writers 2 --no-ceiling");
    assert_eq!(report["workload"]["typed"], false);
}

#[test]
fn typed_events_that_would_be_too_short_or_come_from_a_file_are_refused() {
    let folder = folder();
    let error = fails(folder.path(), "run --typed --payload 47 --no-ceiling --duration 0.2");
    assert!(error.contains("48 bytes at least: --payload 47 is too small"), "{error}");
    succeeds(folder.path(), "run --typed --payload 48 --no-ceiling --duration 0.2 --verify");
    let error = fails(folder.path(), "run --typed --input input.jsonl --no-ceiling");
    assert!(error.contains("cannot be used with"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn scans_read_typed_events_as_what_they_are_with_and_without_a_check() {
    let folder = folder();
    succeeds(folder.path(), "run --typed --dir typed --writers 4 --duration 0.3 --no-ceiling");
    let read = "read --mode scan --fill 5000 --duration 0.2 --no-ceiling --json out.json";
    for payload in ["bytes", "typed", "unchecked"] {
        // The one is there, and the other is filled with events of the type unless they are read as bytes.
        for dir in ["typed".to_owned(), format!("new-{payload}")] {
            let words = format!("{read} --dir {dir} --payload {payload}");
            let table = succeeds(folder.path(), &words);
            assert_eq!(table.contains("payloads as"), payload != "bytes", "{table}");
            let report = json(folder.path().join("out.json"));
            assert_eq!(report["read"]["payload"], payload);
            assert!(report["read"]["events_per_second"].as_f64().unwrap() > 0.0);
        }
    }
    for payload in ["typed", "unchecked"] {
        let error = fails(folder.path(), &format!("{read} --dir new-bytes --payload {payload}"));
        assert!(error.contains(r#"of the type "entry-posted""#), "{error}");
        let words = format!("read --mode streams --no-ceiling --payload {payload}");
        let error = fails(folder.path(), &words);
        assert!(error.contains("--mode scan"), "{error}");
        let words = format!("{read} --store none --payload {payload}");
        let error = fails(folder.path(), &words);
        assert!(error.contains("only stratalog"), "{error}");
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_is_measured_in_the_same_way() {
    let folder = folder();
    let loads = [
        "--writers 4",
        "--tasks 16",
        "--producers 1",
        "--producers 1 --tags 3 --queries 1",
        "--writers 4 --condition after",
        "--producers 1 --condition exists",
        "--producers 1 --typed",
    ];
    for (store, clients) in loads.iter().enumerate() {
        let run = format!(
            "run --store sqlite --dir {store} --verify --json out.json --acks acks --streams 50 \
             --duration 0.3 --warmup 0.1 --no-ceiling {clients}"
        );
        succeeds(folder.path(), &run);
        let report = json(folder.path().join("out.json"));
        assert_eq!(report["store"], "sqlite");
        if clients.contains("--queries") {
            assert_queried(&report);
        }
        let is_judged = report["condition"]["checked"].as_u64().is_some_and(|checked| checked > 0);
        assert_eq!(is_judged, clients.contains("--condition"));
        let acks = std::fs::read_to_string(folder.path().join("acks")).unwrap();
        let dump = succeeds(folder.path(), &format!("dump --store sqlite {store}"));
        let (mut acknowledged, mut found) = (acknowledged(&acks), dumped(&dump));
        acknowledged.sort();
        found.sort();
        assert!(!found.is_empty() && acknowledged == found, "{clients}");
    }
    let read = "read --store sqlite --dir read --fill 1000 --mode queries --no-ceiling";
    for words in ["--duration 0.2", "--duration 60 --cold"] {
        succeeds(folder.path(), &format!("{read} {words} --json out.json"));
        assert_queried(&json(folder.path().join("out.json")));
    }
}

//! A merged run gives what one run of all events gives.

use super::run::{lists_of_all_lengths, log_of_lists};
use super::*;

/// Merges, and checks in which pieces the file is given.
fn merged(inputs: &[&TermRun<&[u8]>], stamp: &Stamp) -> Result<Vec<u8>, MergeError<()>> {
    let (mut file, mut pages, mut last) = (Vec::new(), Vec::new(), u64::MAX);
    let length = merge(inputs, stamp, &|| Ok(()), &mut |at: u64, bytes: &[u8]| {
        assert!(!bytes.is_empty() && bytes.len() <= PIECE_BYTES);
        assert!(at.is_multiple_of(PAGE_BYTES as u64) && bytes.len().is_multiple_of(PAGE_BYTES));
        let at = usize::try_from(at).unwrap();
        file.resize(file.len().max(at + bytes.len()), 0);
        pages.resize(file.len() / PAGE_BYTES, false);
        for (page, content) in (at / PAGE_BYTES..).zip(bytes.chunks(PAGE_BYTES)) {
            assert!(!std::mem::replace(&mut pages[page], true), "page {page} is given twice");
            file[page * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(content);
        }
        last = at as u64;
        Ok(())
    })?;
    assert!(pages.iter().all(|given| *given), "a page is missing");
    assert_eq!((length, last), (file.len() as u64, 0));
    Ok(file)
}

fn merge_all(bytes: &[Vec<u8>], stamps: &[Stamp], stamp: &Stamp) -> Vec<u8> {
    let runs: Vec<_> = bytes
        .iter()
        .zip(stamps)
        .map(|(bytes, stamp)| TermRun::open(&bytes[..], stamp).unwrap())
        .collect();
    merged(&runs.iter().collect::<Vec<_>>(), stamp).unwrap()
}

/// Where a log is cut into so many parts, some of which are empty.
fn cuts(events: usize, parts: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
    let mut cuts = vec![0, events];
    while cuts.len() <= parts {
        let again = rng.u8(..4) == 0;
        cuts.push(if again { *rng.choice(&cuts).unwrap() } else { rng.usize(..=events) });
    }
    cuts.sort_unstable();
    cuts
}

fn parts<'a>(log: &'a [ModelEvent], cuts: &[usize]) -> Vec<Model<'a>> {
    let ranges = cuts.windows(2).map(|pair| pair[0]..pair[1]);
    ranges.zip(0..).map(|(events, number)| part(log, events, number..number + 1)).collect()
}

#[test]
fn merged_runs_are_the_run_of_all_their_events() {
    for parts_count in 1..=9 {
        for (hashes, events) in [(0, 3000), (0, 40), (1, 900), (2, 900), (23, 2000)] {
            let seed = parts_count as u64 * 100 + hashes;
            eprintln!("seed {seed}: {events} events in {parts_count} parts, {hashes} hashes");
            let mut rng = fastrand::Rng::with_seed(seed);
            let log = draw(Shape { events, streams: events / 3, hashes }, &mut rng);
            let all = part(&log, 0..events, 0..parts_count as u64);
            let parts = parts(&log, &cuts(events, parts_count, &mut rng));
            let bytes: Vec<_> = parts.iter().map(Model::run_bytes).collect();
            let stamps: Vec<_> = parts.iter().map(|part| part.stamp).collect();
            let merged = merge_all(&bytes, &stamps, &all.stamp);
            assert!(merged == all.run_bytes());
            check_run(&merged, &all, &mut rng);
        }
    }
}

#[test]
fn merging_merged_runs_gives_the_same_bytes_as_merging_all_at_once() {
    for seed in 0..5 {
        eprintln!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let log = draw(Shape { events: 4000, streams: 900, hashes: 0 }, &mut rng);
        let cuts = cuts(4000, 9, &mut rng);
        let parts = parts(&log, &cuts);
        let bytes: Vec<_> = parts.iter().map(Model::run_bytes).collect();
        let stamps: Vec<_> = parts.iter().map(|part| part.stamp).collect();
        let all = part(&log, 0..4000, 0..9);
        let at_once = merge_all(&bytes, &stamps, &all.stamp);
        let groups = [0..2, 2..3, 3..7, 7..9];
        let (mut halfway, mut halfway_stamps) = (Vec::new(), Vec::new());
        for group in groups {
            let events = cuts[group.start]..cuts[group.end];
            let stamp = part(&log, events, group.start as u64..group.end as u64).stamp;
            halfway.push(merge_all(&bytes[group.clone()], &stamps[group], &stamp));
            halfway_stamps.push(stamp);
        }
        assert!(merge_all(&halfway, &halfway_stamps, &all.stamp) == at_once);
    }
}

#[test]
fn lists_of_every_length_are_merged_across_their_blocks() {
    let mut rng = fastrand::Rng::with_seed(6);
    let log = log_of_lists(110_000, &lists_of_all_lengths(110_000, &mut rng));
    let all = part(&log, 0..log.len(), 0..5);
    let parts = parts(&log, &[0, 1, 130, 50_000, 50_128, 110_000]);
    let bytes: Vec<_> = parts.iter().map(Model::run_bytes).collect();
    let stamps: Vec<_> = parts.iter().map(|part| part.stamp).collect();
    let merged = merge_all(&bytes, &stamps, &all.stamp);
    assert!(merged == all.run_bytes());
    let run = TermRun::open(&merged[..], &all.stamp).unwrap();
    run.verify_all().unwrap();
    for ((hash, kind), list) in all.lists() {
        check_list(run.find(hash, kind).unwrap().unwrap(), &list, &mut rng);
    }
}

#[test]
fn merging_nothing_gives_an_empty_run() {
    let stamp = whole(&[]).stamp;
    let file = merged(&[], &stamp).unwrap();
    check_run(&file, &whole(&[]), &mut fastrand::Rng::with_seed(1));
}

#[test]
fn runs_that_are_not_neighbours_are_not_merged() {
    let log = draw(Shape { events: 30, streams: 3, hashes: 0 }, &mut fastrand::Rng::with_seed(1));
    let parts = parts(&log, &[0, 10, 20, 30]);
    let bytes: Vec<_> = parts.iter().map(Model::run_bytes).collect();
    let open = |number: usize| TermRun::open(&bytes[number][..], &parts[number].stamp).unwrap();
    let runs = [open(0), open(1), open(2)];
    let stamp = part(&log, 0..20, 0..2).stamp;
    let apart = |input| Err(MergeError::Apart { input });
    assert_eq!(merged(&[&runs[1], &runs[2]], &stamp), apart(0));
    assert_eq!(merged(&[&runs[0], &runs[2]], &stamp), apart(1));
    assert_eq!(merged(&[&runs[1], &runs[0]], &stamp), apart(0));
    assert_eq!(merged(&[&runs[0]], &stamp), apart(1));
    assert!(merged(&[&runs[0], &runs[1]], &stamp).is_ok());
}

#[test]
fn a_damaged_input_is_named_and_a_failing_sink_ends_the_merge() {
    let mut rng = fastrand::Rng::with_seed(2);
    let log = draw(Shape { events: 3000, streams: 500, hashes: 0 }, &mut rng);
    let all = part(&log, 0..3000, 0..3);
    let parts = parts(&log, &[0, 1000, 2000, 3000]);
    let mut bytes: Vec<_> = parts.iter().map(Model::run_bytes).collect();
    let merge_of = |bytes: &[Vec<u8>], failing: Option<u64>| {
        let open = |number: usize| TermRun::open(&bytes[number][..], &parts[number].stamp).unwrap();
        let (a, b, c) = (open(0), open(1), open(2));
        merge(&[&a, &b, &c], &all.stamp, &|| Ok(()), &mut |at, _: &[u8]| {
            if Some(at) == failing { Err(at) } else { Ok(()) }
        })
    };
    // Whatever it is given, also the header.
    for failing in [PAGE_BYTES as u64, 0] {
        let ended = merge_of(&bytes, Some(failing));
        assert_eq!(ended, Err(MergeError::Sink(failing)));
    }
    // Every page that is read is: all but those of buckets and of the filter.
    let mut unread = 0;
    for page in 1..bytes[1].len() / PAGE_BYTES {
        bytes[1][page * PAGE_BYTES + 7] ^= 1;
        match merge_of(&bytes, None) {
            Err(MergeError::Damage { input, .. }) => assert_eq!(input, 1),
            Ok(_) => unread += 1,
            Err(other) => panic!("{other}"),
        }
        bytes[1][page * PAGE_BYTES + 7] ^= 1;
    }
    assert_eq!(unread, 3);
}

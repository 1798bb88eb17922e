//! Readers of a live index while it is written.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;

const EVENTS: u32 = 60_000;
const STREAMS: u32 = 700;

/// The stream of each event, its versions and its offset follow from the ordinal, so that a reader
/// knows what it must see.
fn name(stream: u32) -> Vec<u8> {
    format!("stream-{stream}").into_bytes()
}

fn check_stream(live: &LiveIndex, stream: u32, watermark: u32) {
    let name = name(stream);
    let term = Term::stream(&name);
    let expected = watermark.saturating_sub(stream).div_ceil(STREAMS);
    let Some(postings) = live.lookup(term.xxh3_64(), term) else {
        assert_eq!(expected, 0, "stream {stream} is missing below {watermark}");
        return;
    };
    let visible = postings.below(watermark);
    assert_eq!(visible.len(), expected);
    assert!(visible.forward(0).eq((0..expected).map(|i| i * STREAMS + stream)));
    assert_eq!(visible.get(expected / 2).is_some(), expected > 0);
    for ordinal in visible.backward(u32::MAX).take(3) {
        assert_eq!(live.extent(ordinal), Some(u64::from(ordinal) * 3));
    }
}

#[test]
fn readers_see_everything_below_the_watermark_while_the_writer_goes_on() {
    let (mut writer, live) =
        LiveIndex::new(LiveRoom::for_all_of(u64::from(EVENTS) * FRAME_BYTES_MIN));
    let watermark = AtomicU32::new(0);
    thread::scope(|scope| {
        for seed in 0..3 {
            let (live, watermark) = (&live, &watermark);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                loop {
                    let seen = watermark.load(Ordering::Acquire);
                    check_stream(live, rng.u32(..STREAMS), seen);
                    assert!(live.events() >= seen);
                    let terms = live.terms(seen).count();
                    assert_eq!(terms, seen.min(STREAMS) as usize);
                    if seen == EVENTS {
                        break;
                    }
                }
            });
        }
        for ordinal in 0..EVENTS {
            assert_eq!(writer.push_event(u64::from(ordinal) * 3), ordinal);
            let name = name(ordinal % STREAMS);
            let term = Term::stream(&name);
            writer.insert(term.xxh3_64(), term, ordinal, (ordinal / STREAMS).into());
            // The watermark follows in jumps, as batches do.
            if ordinal % 17 == 16 {
                watermark.store(ordinal - 16, Ordering::Release);
            }
        }
        watermark.store(EVENTS, Ordering::Release);
    });
}

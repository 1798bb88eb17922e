//! The fuzz target: an input is an event with a payload that is as hostile as libFuzzer can make it.
//!
//! Owns one probe for the process, and a new one every thousand inputs, so that memory is bounded; and the corpus, which it
//! writes anew where the environment names a folder for it: `tests/fuzz/run corpus` does. Calls [`events`] for what an input
//! means, and [`probe`](stratalog_fuzz::probe) for what has to hold.

#![no_main]

use std::cell::RefCell;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use stratalog_fuzz::events;
use stratalog_fuzz::probe::Probe;

/// So many inputs go into one store: at most 8 MiB with those that are encoded again.
const INPUTS: u32 = 1_000;

thread_local! {
    static PROBE: RefCell<(u32, Probe)> = RefCell::new((0, Probe::new()));
}

/// Writes the corpus and ends, where that is wanted.
fn write_corpus() {
    let Some(folder) = std::env::var_os("STRATALOG_CORPUS").map(PathBuf::from) else { return };
    for (name, input) in events::inputs() {
        std::fs::write(folder.join(name), input).expect("the folder can be written");
    }
    std::process::exit(0);
}

fuzz_target!(init: write_corpus(), |input: &[u8]| {
    let Some(event) = events::of_input(input) else { return };
    PROBE.with_borrow_mut(|(inputs, probe)| {
        if *inputs == INPUTS {
            (*inputs, *probe) = (0, Probe::new());
        }
        *inputs += 1;
        probe.judge(&[event]);
    });
});

//! Where a test's random choices come from, and how a failing run is repeated.

/// The variable that replaces the seed of a test.
pub const VARIABLE: &str = "STRATALOG_SEED";

/// The seed of a test: `default`, or what the environment says.
///
/// # Panics
/// Where the environment says something that is no number.
pub fn seed(default: u64) -> u64 {
    std::env::var(VARIABLE)
        .map_or(default, |text| text.parse().expect("STRATALOG_SEED must be a decimal number"))
}

/// What a failure prints: the command that repeats it.
pub fn replay(test_file: &str, test: &str, seed: u64) -> String {
    format!("{VARIABLE}={seed} cargo test -p stratalog-tests --test {test_file} -- --exact {test}")
}

//! The distribution of latencies as the tools of `HdrHistogram` print it, which its plotter reads.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use hdrhistogram::Histogram;

use crate::AnyError;

/// Writes a distribution to a file.
pub(crate) fn write(latency: &Histogram<u64>, path: &Path) -> Result<(), AnyError> {
    /// Steps in each half of the way to 100 %.
    const TICKS: u32 = 5;
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(
        out,
        "{:>14} {:>17} {:>12} {:>16}",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    writeln!(out)?;
    let mut total = 0;
    for value in latency.iter_quantiles(TICKS) {
        total += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let (nanos, rest) = (value.value_iterated_to(), 1.0 - quantile);
        write!(out, "{nanos:>14} {quantile:>17.12} {total:>12}")?;
        if rest > 0.0 {
            writeln!(out, " {:>16.2}", 1.0 / rest)?;
        } else {
            writeln!(out)?;
        }
    }
    writeln!(out, "#[Mean = {:.3}, StdDeviation = {:.3}]", latency.mean(), latency.stdev())?;
    writeln!(out, "#[Max = {}, Total count = {}]", latency.max(), latency.len())?;
    Ok(out.flush()?)
}

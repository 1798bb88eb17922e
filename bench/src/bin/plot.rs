//! Draws a long run beside snapshots: the space that they take, and the latency of appends.
//!
//! `cargo run --release -p stratalog-bench --bin plot -- WITH.csv WITHOUT.csv SEGMENT_MIB OUT.svg` takes what
//! `loadgen run --snapshot-log` has written of a run with snapshots and of one without, and how large a segment of snapshots
//! is, and writes a picture of two panels.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;

/// A column of a log, with the seconds before each value; lines without it are left out.
type Series = Vec<(f64, f64)>;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 34.0;
const LINES: u32 = 4;

/// A line of a panel: what it is called, its colour, and its values.
struct Line {
    name: &'static str,
    colour: &'static str,
    values: Series,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [with, without, segment_mib, out] = &arguments[..] else {
        return Err("usage: plot WITH.csv WITHOUT.csv SEGMENT_MIB OUT.svg".into());
    };
    let (with, without) = (fs::read_to_string(with)?, fs::read_to_string(without)?);
    let segment: f64 = segment_mib.parse()?;
    let mib = |name| scaled(column(&with, name), 1.0 / f64::from(1 << 20));
    let live = mib("live_bytes");
    let bound = live.iter().map(|(at, live)| (*at, 2.0 * live + 2.0 * segment)).collect();
    let space = [
        Line { name: "2 × live + 2 segments", colour: "#999999", values: bound },
        Line { name: "on the disk", colour: "#c0392b", values: mib("disk_bytes") },
        Line { name: "live", colour: "#2471a3", values: live },
    ];
    let latency = |text| scaled(column(text, "append_p99_us"), 1e-3);
    let latencies = [
        Line { name: "with snapshots", colour: "#c0392b", values: latency(&with) },
        Line { name: "without", colour: "#2471a3", values: latency(&without) },
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n",
        2.0 * HEIGHT
    );
    panel(&mut svg, 0.0, "Space of snapshots, MiB", &space)?;
    panel(&mut svg, HEIGHT, "99 of 100 appends of each second took less than, ms", &latencies)?;
    svg.push_str("</svg>\n");
    Ok(fs::write(out, svg)?)
}

fn column(text: &str, name: &str) -> Series {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap_or_default();
    let place = |name: &str| head.iter().position(|column| *column == name);
    let (Some(seconds), Some(value)) = (place("seconds"), place(name)) else { return Vec::new() };
    let number = |line: &[&str], at: usize| line.get(at)?.parse::<f64>().ok();
    lines.filter_map(|line| number(&line, seconds).zip(number(&line, value))).collect()
}

fn scaled(series: Series, by: f64) -> Series {
    series.into_iter().map(|(at, value)| (at, value * by)).collect()
}

fn panel(svg: &mut String, top: f64, title: &str, lines: &[Line]) -> std::fmt::Result {
    let all = || lines.iter().flat_map(|line| &line.values);
    let end = all().map(|(at, _)| *at).fold(1.0, f64::max);
    let most = round_up(all().map(|(_, value)| *value).fold(0.0, f64::max));
    let (right, bottom) = (WIDTH - RIGHT, top + HEIGHT - BOTTOM);
    let x = |at: f64| LEFT + (right - LEFT) * at / end;
    let y = |value: f64| bottom - (bottom - top - TOP) * value / most;
    writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title}</text>", top + 20.0)?;
    for line in 0..=LINES {
        let part = f64::from(line) / f64::from(LINES);
        let at = y(most * part);
        writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#dddddd\"/>")?;
        let (left, down) = (LEFT - 8.0, at + 4.0);
        writeln!(
            svg,
            "<text x=\"{left}\" y=\"{down:.1}\" text-anchor=\"end\">{}</text>",
            most * part
        )?;
        let (across, below) = (x(end * part), bottom + 18.0);
        let seconds = end * part;
        writeln!(
            svg,
            "<text x=\"{across:.1}\" y=\"{below}\" text-anchor=\"middle\">{seconds:.0} s</text>"
        )?;
    }
    for (number, Line { name, colour, values }) in (0_u32..).zip(lines) {
        let mut points = String::new();
        for (at, value) in values {
            write!(points, "{:.1},{:.1} ", x(*at), y(*value))?;
        }
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>",
            points.trim_end()
        )?;
        let (across, down) = (right + 12.0, top + TOP + 8.0 + 18.0 * f64::from(number));
        writeln!(svg, "<text x=\"{across}\" y=\"{down}\" fill=\"{colour}\">{name}</text>")?;
    }
    Ok(())
}

/// The next number that is 1, 2, 4 or 8 times a power of ten.
fn round_up(most: f64) -> f64 {
    let unit = 10_f64.powf(most.max(1e-9).log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0].map(|n| n * unit).into_iter().find(|n| *n >= most).unwrap_or(most)
}

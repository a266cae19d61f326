//! Plots of rows, as SVG.

use crate::report::{Row, bytes, digits, time};
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Display;
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Okabe and Ito's colours, which most colour-blind people tell apart, by the family of a transport.
const FAMILIES: [(&str, RGBColor); 6] = [
    ("memlane", RGBColor(0, 114, 178)),
    ("Boost", RGBColor(213, 94, 0)),
    ("iceoryx2", RGBColor(0, 158, 115)),
    ("ipc-channel", RGBColor(204, 121, 167)),
    ("Unix socket", RGBColor(230, 159, 0)),
    ("pipe", RGBColor(86, 180, 233)),
];
const FLOOR: RGBColor = RGBColor(110, 110, 110);

fn colour(transport: &str) -> RGBColor {
    FAMILIES.iter().find(|(family, _)| transport.starts_with(family)).map_or(FLOOR, |(_, colour)| *colour)
}

/// Rows of one kind.
fn select<'a>(rows: &'a [Row], workload: &str, touched: bool, asleep: bool) -> Vec<&'a Row> {
    let like = |row: &&Row| {
        (row.touched, row.asleep, row.workload.as_str()) == (touched, asleep, workload) && row.p50_ns.is_some()
    };
    rows.iter().filter(like).collect()
}

fn fail(path: &Path, error: &dyn Display) -> String {
    format!("cannot write plots to {}: {error}", path.display())
}

/// Makes the directory for plots, if it is not there.
pub(crate) fn make_directory(directory: &Path) -> Result<(), String> {
    std::fs::create_dir_all(directory).map_err(|error| fail(directory, &error))
}

/// Writes those plots of which there are figures.
pub(crate) fn write(directory: &Path, rows: &[Row]) -> Result<(), String> {
    let plot = |name: &str, height: u32, draw: &dyn Fn(&Area<'_>) -> Drawn| {
        let path = directory.join(name);
        let area = SVGBackend::new(&path, (960, height)).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&area));
        drawn.and_then(|()| area.present().map_err(Into::into)).map_err(|error| fail(&path, &error))
    };
    let latency = |row: &Row| row.p50_ns;
    for (name, touched, what) in [("latency", true, "written and read"), ("latency-untouched", false, "untouched")] {
        let selected = select(rows, "RoundTrip", touched, false);
        if !selected.is_empty() {
            let title = format!("Round trip, {what}: median time over size");
            plot(&format!("{name}.svg"), 620, &|area| over_size(area, &title, &selected, &latency, &time))?;
        }
    }
    let selected = select(rows, "OneWay", true, false);
    if !selected.is_empty() {
        let title = "One way, written and read: bytes per second over size";
        let bandwidth = |row: &Row| Some(row.per_second? * row.size as f64 / f64::from(1 << 30));
        let show = |value: f64| format!("{value} GiB/s");
        plot("throughput.svg", 620, &|area| over_size(area, title, &selected, &bandwidth, &show))?;
    }
    let mut selected = select(rows, "RoundTrip", false, false);
    selected.retain(|row| row.size == crate::transport::SMALL && row.p99_ns.is_some());
    if !selected.is_empty() {
        plot("tails.svg", 60 + 28 * selected.len() as u32, &|area| tails(area, &selected))?;
    }
    let panels = panels(rows);
    if !panels.is_empty() {
        let height = panels.iter().map(|(_, rows)| panel_height(rows.len())).sum();
        plot("ratios.svg", height, &|area| ratios(area, &panels))?;
    }
    Ok(())
}

/// Some room around all values, so that a logarithmic axis shows them.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (least, most) =
        values.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), value| (least.min(value), most.max(value)));
    least / 1.5..most * 1.5
}

/// A line for each transport.
fn over_size(
    area: &Area<'_>,
    title: &str,
    rows: &[&Row],
    value: &dyn Fn(&Row) -> Option<f64>,
    show: &dyn Fn(f64) -> String,
) -> Drawn {
    let values = rows.iter().filter_map(|row| value(row));
    let mut sizes: Vec<f64> = rows.iter().map(|row| row.size as f64).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let axis = range(sizes.iter().copied()).log_scale().with_key_points(sizes);
    let (plot, legend) = area.split_horizontally(760);
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(80)
        .build_cartesian_2d(axis, range(values).log_scale())?;
    let grid = BLACK.mix(0.12);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(grid)
        .x_label_formatter(&|size| bytes(size.round() as u64))
        .y_label_formatter(&|value| show(*value))
        .draw()?;
    let mut transports: Vec<&str> = Vec::new();
    for row in rows {
        if !transports.contains(&row.transport) {
            transports.push(row.transport);
        }
    }
    for (index, transport) in transports.iter().enumerate() {
        let (colour, of_family) = (colour(transport), number_in_family(&transports, index));
        let own = rows.iter().filter(|row| row.transport == *transport);
        let points: Vec<_> = own.filter_map(|row| Some((row.size as f64, value(row)?))).collect();
        let line = chart.plotting_area();
        line.draw(&PathElement::new(points.clone(), colour.stroke_width(2)))?;
        let y = 60 + 24 * index as i32;
        legend.draw(&PathElement::new([(0, y), (34, y)], colour.stroke_width(2)))?;
        for point in points {
            line.draw(&(EmptyElement::at(point) + marker((0, 0), of_family, colour)))?;
        }
        legend.draw(&marker((17, y), of_family, colour))?;
        legend.draw(&Text::new((*transport).to_owned(), (42, y), label_style(HPos::Left)))?;
    }
    Ok(())
}

fn number_in_family(transports: &[&str], index: usize) -> usize {
    transports[..index].iter().filter(|other| colour(other) == colour(transports[index])).count()
}

/// A regular polygon with as many corners as tell the members of a family apart; the first is nearly a circle.
fn marker(at: (i32, i32), number: usize, colour: RGBColor) -> Polygon<(i32, i32)> {
    let corners = [16, 3, 4, 5, 6][number.min(4)];
    let radius = if corners == 3 { 6.0 } else { 4.5 };
    let corner = |index| {
        let angle = std::f64::consts::TAU * f64::from(index) / f64::from(corners) - std::f64::consts::FRAC_PI_2;
        (at.0 + (radius * angle.cos()).round() as i32, at.1 + (radius * angle.sin()).round() as i32)
    };
    Polygon::new((0..corners).map(corner).collect::<Vec<_>>(), colour.filled())
}

fn label_style(horizontal: HPos) -> TextStyle<'static> {
    ("sans-serif", 14).into_font().into_text_style(&(1, 1)).pos(Pos::new(horizontal, VPos::Center))
}

/// A bar for each transport, from one value to another; what it says stands behind it.
struct Bar<'a> {
    transport: &'a str,
    from: f64,
    to: f64,
    says: String,
}

fn bars(area: &Area<'_>, title: &str, show: &dyn Fn(f64) -> String, one: Option<f64>, bars: &[Bar<'_>]) -> Drawn {
    let ends = bars.iter().flat_map(|bar| [bar.from, bar.to]);
    let within = range(ends);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(8)
        .margin_right(170)
        .x_label_area_size(26)
        .y_label_area_size(170)
        .build_cartesian_2d(within.log_scale(), (0..bars.len()).into_segmented())?;
    let name = |value: &SegmentValue<usize>| match value {
        // Spaces that SVG keeps stand for the tick marks, of which the topmost would have no name.
        SegmentValue::CenterOf(index) => {
            bars.iter().rev().nth(*index).map_or(String::new(), |bar| format!("{}\u{a0}\u{a0}", bar.transport))
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .disable_y_mesh()
        .y_labels(bars.len())
        .x_label_formatter(&|value| show(*value))
        .y_label_formatter(&name)
        .y_label_style(("sans-serif", 14))
        .set_tick_mark_size(LabelAreaPosition::Left, 0)
        .draw()?;
    let plot = chart.plotting_area();
    if let Some(one) = one {
        let ends = [(one, SegmentValue::Exact(0)), (one, SegmentValue::Exact(bars.len()))];
        plot.draw(&PathElement::new(ends, BLACK.mix(0.6)))?;
    }
    for (index, bar) in bars.iter().rev().enumerate() {
        // A rectangle without width is none.
        if (bar.to / bar.from - 1.0).abs() > 0.01 {
            let corners = [(bar.from, SegmentValue::Exact(index)), (bar.to, SegmentValue::Exact(index + 1))];
            let mut rectangle = Rectangle::new(corners, colour(bar.transport).filled());
            rectangle.set_margin(4, 4, 0, 0);
            plot.draw(&rectangle)?;
        }
        let end = (bar.from.max(bar.to), SegmentValue::CenterOf(index));
        plot.draw(&(EmptyElement::at(end) + Text::new(bar.says.clone(), (6, 0), label_style(HPos::Left))))?;
    }
    Ok(())
}

fn tails(area: &Area<'_>, rows: &[&Row]) -> Drawn {
    let bar = |row: &&Row| {
        let (from, to) = (row.p50_ns?, row.p99_ns?);
        Some(Bar { transport: row.transport, from, to, says: format!("{} to {}", time(from), time(to)) })
    };
    let all: Vec<_> = rows.iter().filter_map(bar).collect();
    bars(area, "Round trip, 64 B: from the median to the 99th percentile", &time, None, &all)
}

/// A title, and the rows that are compared under it.
type Panel<'a> = (&'static str, Vec<&'a Row>);

/// The cases that most people ask for.
fn panels(rows: &[Row]) -> Vec<Panel<'_>> {
    let of = |title, workload, size, touched, asleep| {
        let mut rows = select(rows, workload, touched, asleep);
        rows.retain(|row| row.size == size && row.ratio_to_memlane.is_some());
        (title, rows)
    };
    let all = [
        of("Round trip, 64 B", "RoundTrip", 64, false, false),
        of("Round trip, 64 B, asleep", "RoundTrip", 64, false, true),
        of("Round trip, 8 MiB, written and read", "RoundTrip", 8 << 20, true, false),
        of("One way, 64 B, written and read", "OneWay", 64, true, false),
        of("Lock and unlock, contended", "LockContended", 64, false, false),
    ];
    all.into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
}

fn panel_height(bars: usize) -> u32 {
    70 + 22 * bars as u32
}

fn ratios(area: &Area<'_>, panels: &[Panel<'_>]) -> Drawn {
    let mut rest = area.clone();
    for (title, rows) in panels {
        let (panel, below) = rest.split_vertically(panel_height(rows.len()));
        rest = below;
        let bar = |row: &&Row| {
            let ratio = row.ratio_to_memlane?;
            Some(Bar { transport: row.transport, from: 1.0, to: ratio, says: format!("{} x", digits(ratio)) })
        };
        let all: Vec<_> = rows.iter().filter_map(bar).collect();
        let title = format!("{title}: time as a multiple of memlane's best");
        bars(&panel, &title, &|value| format!("{value} x"), Some(1.0), &all)?;
    }
    Ok(())
}

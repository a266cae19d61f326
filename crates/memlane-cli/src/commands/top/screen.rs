//! The live view.

use super::table::{self, Cell, Table, Tone};
use super::watch::{Channel, Snapshot, Watch};
use super::{HELP, nothing, summary};
use crate::failure::Failure;
use crate::report::{self, Bytes};
use crate::stop::{GLANCE, stopped};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use ratatui::{DefaultTerminal, Frame};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The shortest and the longest interval that the keys choose.
const INTERVALS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(20)];

const KEYS: &str = "\
up, k    the channel above        +  look less often
down, j  the channel below        -  look more often
?        this help                q, Esc, Ctrl-C  end";

/// The terminal, given back as it was however this ends: a panic is seen to by ratatui.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

pub(super) fn run(directory: &Path, interval: Duration, watch: Watch, snapshot: Snapshot) -> Result<(), Failure> {
    let mut screen = Screen(ratatui::try_init()?);
    std::thread::spawn(end_without_terminal);
    let mut view = View {
        directory: directory.into(),
        interval,
        snapshot,
        problem: None,
        selected: None,
        help: false,
        // An empty value counts as none (no-color.org).
        colored: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    follow(&mut screen, &mut view, watch)
}

/// The terminal library does not come back from a terminal that is gone: then this ends the process.
fn end_without_terminal() {
    while !stopped() {
        std::thread::sleep(GLANCE);
    }
    std::thread::sleep(5 * GLANCE);
    ratatui::restore();
    std::process::exit(0);
}

fn follow(screen: &mut Screen, view: &mut View, mut watch: Watch) -> Result<(), Failure> {
    let mut looked = Instant::now();
    loop {
        screen.0.draw(|frame| view.draw(frame))?;
        loop {
            if stopped() {
                return Ok(());
            }
            let left = (looked + view.interval).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if event::poll(left.min(GLANCE))? {
                if view.hear(&event::read()?) {
                    return Ok(());
                }
                break;
            }
        }
        if looked.elapsed() >= view.interval {
            looked = Instant::now();
            view.problem = match watch.look() {
                Ok(snapshot) => {
                    view.snapshot = snapshot;
                    None
                }
                Err(error) => Some(error.to_string()),
            };
        }
    }
}

struct View {
    directory: PathBuf,
    interval: Duration,
    snapshot: Snapshot,
    /// Why the last look failed.
    problem: Option<String>,
    /// The channel that is looked at closely; the first one, if it is not there.
    selected: Option<String>,
    help: bool,
    colored: bool,
}

impl View {
    /// Whether that is the end.
    fn hear(&mut self, event: &Event) -> bool {
        let Event::Key(KeyEvent { code, modifiers, .. }) = event else { return false };
        match code {
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Up | KeyCode::Char('k') => self.select(self.index().saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.index() + 1),
            KeyCode::Char('+') => self.interval = (self.interval * 2).min(INTERVALS[1]),
            KeyCode::Char('-') => self.interval = (self.interval / 2).max(INTERVALS[0]),
            KeyCode::Char('?') => self.help = !self.help,
            _ => {}
        }
        false
    }

    fn index(&self) -> usize {
        let is_selected = |channel: &Channel| Some(&channel.name) == self.selected.as_ref();
        self.snapshot.channels.iter().position(is_selected).unwrap_or(0)
    }

    fn select(&mut self, index: usize) {
        let channels = &self.snapshot.channels;
        self.selected = channels.get(index).or(channels.last()).map(|channel| channel.name.clone());
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let lines = |count: usize| u16::try_from(count + 2).unwrap_or(u16::MAX);
        let all = frame.area();
        let channels = if self.help { 0 } else { lines(self.snapshot.channels.len()).min((all.height / 2).max(4)) };
        let locks = self.snapshot.locks.len();
        let locks = if locks == 0 || self.help { 0 } else { lines(locks).min((all.height / 4).max(3)) };
        let parts =
            [Constraint::Length(2), Constraint::Length(channels), Constraint::Fill(1), Constraint::Length(locks)];
        let [head, list, details, held] = Layout::vertical(parts).areas(all);
        self.draw_head(frame, head);
        if self.help {
            let text = format!("{KEYS}\n\n{HELP}");
            return frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), details);
        }
        if self.snapshot.channels.is_empty() {
            frame
                .render_widget(Paragraph::new(nothing(&self.directory)).wrap(Wrap { trim: true }), list.union(details));
        } else {
            self.draw_table(frame, list, table::channels(&self.snapshot), Some(self.index()));
            self.draw_details(frame, details);
        }
        if locks > 0 {
            self.draw_table(frame, held, table::locks(&self.snapshot), None);
        }
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let left = match &self.problem {
            Some(problem) => Span::styled(problem.clone(), self.style(Tone::Bad)),
            None => format!("memlane top  {}  {}", self.directory.display(), summary(&self.snapshot)).into(),
        };
        let interval = humantime::format_duration(self.interval);
        let right = format!("every {interval}  q end  ? help");
        let room = usize::from(area.width).saturating_sub(left.width());
        let line = if room > right.len() + 1 { vec![left, format!("{right:>room$}").into()] } else { vec![left] };
        frame.render_widget(Line::from(line).style(Modifier::BOLD), area);
    }

    /// The selected channel: what it is, and who takes part.
    fn draw_details(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(channel) = self.snapshot.channels.get(self.index()) else { return };
        let Some(info) = &channel.info else { return };
        let [head, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let (kind, policy, size) = (&info.message_type, report::policy(info.policy), Bytes(info.max_message));
        let what = format!("{}: {kind}, {policy}, {} slots of up to {size}", channel.name, info.slots);
        frame.render_widget(Line::from(what).style(Modifier::BOLD), head);
        let table = table::participants([channel], false);
        if table.is_empty() {
            frame.render_widget("nobody sends or receives", rest);
        } else {
            self.draw_table(frame, rest, table, None);
        }
    }

    /// As many rows as there is room for, with `selected` among them; says how many there are below.
    fn draw_table(&self, frame: &mut Frame<'_>, area: Rect, table: Table, selected: Option<usize>) {
        let mark = if selected.is_some() { 2 } else { 0 };
        let mut lines = table.lines(usize::from(area.width).saturating_sub(mark)).into_iter();
        let heads = lines.next().unwrap_or_default();
        let (rows, room) = (lines.len(), usize::from(area.height).saturating_sub(1));
        let first = selected.map_or(0, |index| (index + 2).saturating_sub(room.max(1)).min(rows.saturating_sub(room)));
        let mut text = vec![self.line(heads, mark, None).style(Modifier::UNDERLINED)];
        for (index, row) in lines.enumerate().skip(first).take(room) {
            text.push(self.line(row, mark, selected.map(|selected| selected == index)));
        }
        if first + room < rows && room > 1 {
            text.truncate(room);
            text.push(format!("and {} more below", rows - first - room + 1).into());
        }
        frame.render_widget(Paragraph::new(text), area);
    }

    fn line(&self, cells: Vec<Cell>, mark: usize, selected: Option<bool>) -> Line<'static> {
        let marked = if selected == Some(true) { "> " } else { "  " };
        let cells = cells.into_iter().map(|cell| Span::styled(cell.text, self.style(cell.tone)));
        let line = Line::from_iter([Span::from(&marked[..mark])].into_iter().chain(cells));
        if selected == Some(true) { line.style(Modifier::BOLD) } else { line }
    }

    fn style(&self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            _ if !self.colored => Modifier::BOLD.into(),
            Tone::Notable => Color::Yellow.into(),
            Tone::Bad => Color::Red.into(),
        }
    }
}

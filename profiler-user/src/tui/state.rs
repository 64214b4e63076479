//! What the view shows and how keys change it: pure, no terminal and no colours.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tui_input::{Input as LineInput, InputRequest};

use super::{
    clock::Clock,
    doc::{self, Line},
    index::Index,
    keys::Key,
    layout::{Layout, Pane, Wishes},
    panes,
    rows::{Query, Row, RowKey, Table},
    text,
};
use crate::{model::PartyId, session::View};

/// What happens to the view.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// A key press.
    Key(Key),
    /// The terminal has this size: columns, rows.
    Resize(u16, u16),
    /// The session published.
    View(Arc<View>, Clock),
    /// Time has passed.
    Tick(Clock),
    /// The session will publish no more.
    Detached,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing visible has changed.
    Idle,
    /// Draw.
    Redraw,
    /// Leave.
    Quit,
}

/// A place in a list, and the first line that is on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The line with the cursor.
    pub at: usize,
    /// The first line shown.
    pub top: usize,
}

impl Cursor {
    /// Keeps the cursor inside `len` lines and on a screen of `height`.
    fn settle(&mut self, len: usize, height: usize) {
        self.at = self.at.min(len.saturating_sub(1));
        self.top = self.top.min(self.at).min(len.saturating_sub(height));
        if height > 0 && self.at >= self.top + height {
            self.top = self.at + 1 - height;
        }
    }

    fn apply(&mut self, motion: Motion, len: usize, height: usize) {
        let page = height.saturating_sub(1).max(1);
        self.at = match motion {
            Motion::Up => self.at.saturating_sub(1),
            Motion::Down => self.at + 1,
            Motion::PageUp => self.at.saturating_sub(page),
            Motion::PageDown => self.at + page,
            Motion::Home => 0,
            Motion::End => usize::MAX,
        };
        self.settle(len, height);
    }
}

#[derive(Clone, Copy, Debug)]
enum Motion {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

impl Motion {
    fn of(key: Key) -> Option<Self> {
        Some(match key {
            Key::Up | Key::Char('k') => Self::Up,
            Key::Down | Key::Char('j') => Self::Down,
            Key::PageUp | Key::Ctrl('b') => Self::PageUp,
            Key::PageDown | Key::Ctrl('f') | Key::Char(' ') => Self::PageDown,
            Key::Home => Self::Home,
            Key::End | Key::Char('G') => Self::End,
            _ => return None,
        })
    }
}

/// A page of lines with its cursor.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Wrapped to the pane.
    pub lines: Vec<Line>,
    /// Where the reader is.
    pub cursor: Cursor,
}

/// Places that Backspace can go back to.
const MAX_HISTORY: usize = 64;

/// Everything the view shows.
#[derive(Debug)]
pub(super) struct State {
    /// The picture shown.
    pub view: Arc<View>,
    /// Lookup tables over it.
    pub index: Index,
    /// The rows of the task table.
    pub table: Table,
    /// What the table shows.
    pub query: Query,
    /// The filter while it is typed.
    pub editing: Option<LineInput>,
    /// Where the reader is in the table.
    pub cursor: Cursor,
    /// The pane with the keyboard.
    pub focus: Pane,
    /// The focused pane has the screen for itself.
    pub zoom: bool,
    /// The help is open.
    pub help: Option<Cursor>,
    /// The picture stands still.
    pub frozen: bool,
    /// The session will publish no more.
    pub detached: bool,
    /// A word about what the last key did, until the next.
    pub notice: Option<String>,
    /// The moment that ages are told at.
    pub clock: Clock,
    /// What is missing and lost.
    pub notes: Vec<Line>,
    size: (u16, u16),
    latest: Arc<View>,
    selected: Option<RowKey>,
    companion: Pane,
    pages: FxHashMap<u8, Page>,
    history: Vec<RowKey>,
}

impl State {
    /// The state over a first picture.
    pub(super) fn new(view: Arc<View>, clock: Clock, size: (u16, u16)) -> Self {
        let mut state = Self {
            index: Index::default(),
            table: Table::default(),
            query: Query::default(),
            editing: None,
            cursor: Cursor::default(),
            focus: Pane::Tasks,
            zoom: false,
            help: None,
            frozen: false,
            detached: false,
            notice: None,
            clock,
            notes: Vec::new(),
            size,
            latest: view.clone(),
            view,
            selected: None,
            companion: Pane::Detail,
            pages: FxHashMap::default(),
            history: Vec::new(),
        };
        state.show();
        state
    }

    /// Takes one input; says what is to be done.
    pub(super) fn reduce(&mut self, input: Input) -> Outcome {
        match input {
            Input::Key(key) => return self.key(key),
            Input::Resize(width, height) => {
                self.size = (width, height);
                self.refresh_pages();
            }
            Input::View(view, clock) => {
                self.clock = clock;
                self.latest = view;
                if self.frozen {
                    return Outcome::Redraw;
                }
                self.show();
            }
            Input::Tick(clock) => {
                self.clock = clock;
                self.refresh_page(Pane::Findings);
            }
            Input::Detached => {
                self.detached = true;
                self.refresh_pages();
            }
        }
        Outcome::Redraw
    }

    /// The row under the cursor.
    pub(super) fn selected(&self) -> Option<&Row> {
        self.table.rows.get(self.cursor.at)
    }

    /// The page of a pane that is one.
    pub(super) fn page(&self, pane: Pane) -> Option<&Page> {
        self.pages.get(&(pane as u8))
    }

    /// Where everything stands.
    pub(super) fn layout(&self) -> Layout {
        let (width, height) = self.size;
        let wishes = Wishes {
            focus: self.focus,
            companion: self.companion,
            zoom: self.zoom,
            banner: u16::from(!self.view.findings.is_empty()),
            notes: self.notes.len().min(6) as u16,
        };
        Layout::new(width, height, wishes)
    }

    /// How many pictures newer than the one shown have been published, while frozen.
    pub(super) fn behind(&self) -> u64 {
        self.latest.sequence.saturating_sub(self.view.sequence)
    }

    fn key(&mut self, key: Key) -> Outcome {
        if key == Key::Ctrl('c') {
            return Outcome::Quit;
        }
        self.notice = None;
        if self.editing.is_some() {
            self.edit(key);
            return Outcome::Redraw;
        }
        if let Some(cursor) = &mut self.help {
            match Motion::of(key) {
                Some(motion) => {
                    // The help scrolls as a whole: its cursor is the first line shown, and the last screen its end.
                    let height = usize::from(self.size.1.saturating_sub(1));
                    let places = super::help::lines(self.size.0).len().saturating_sub(height) + 1;
                    cursor.apply(motion, places, height);
                }
                None if matches!(key, Key::Esc | Key::Enter | Key::Char('?' | 'q')) => self.help = None,
                None => return Outcome::Idle,
            }
            return Outcome::Redraw;
        }
        if let Some(motion) = Motion::of(key) {
            self.motion(motion);
            return Outcome::Redraw;
        }
        match key {
            Key::Char('q') => return Outcome::Quit,
            Key::Char('?') => self.help = Some(Cursor::default()),
            Key::Char('/') => {
                self.go(Pane::Tasks, false);
                self.editing = Some(LineInput::new(self.query.filter.clone()));
            }
            Key::Char('s') => {
                self.query.sort = self.query.sort.next();
                self.requery();
            }
            Key::Char('r') => {
                self.query.reverse = !self.query.reverse;
                self.requery();
            }
            Key::Char('g') => self.toggle_groups(),
            Key::Char('f') => {
                self.frozen = !self.frozen;
                if !self.frozen {
                    self.show();
                }
            }
            Key::Char('n') => self.next_fault(),
            Key::Char('z') => self.zoom = !self.zoom,
            Key::Tab => self.go(self.focus.moved(1), self.zoom),
            Key::BackTab => self.go(self.focus.moved(Pane::ALL.len() - 1), self.zoom),
            Key::Enter | Key::Right | Key::Char('l') => self.enter(),
            Key::Esc | Key::Left | Key::Char('h') => self.leave(key),
            Key::Backspace => self.back(),
            _ => return Outcome::Idle,
        }
        Outcome::Redraw
    }

    fn edit(&mut self, key: Key) {
        let Some(editing) = &mut self.editing else { return };
        let request = match key {
            Key::Enter | Key::Tab => {
                self.editing = None;
                return;
            }
            Key::Esc => {
                self.editing = None;
                self.set_filter(String::new());
                return;
            }
            Key::Up | Key::Down | Key::PageUp | Key::PageDown => {
                if let Some(motion) = Motion::of(key) {
                    self.motion(motion);
                }
                return;
            }
            Key::Char(c) => InputRequest::InsertChar(c),
            Key::Backspace => InputRequest::DeletePrevChar,
            Key::Delete => InputRequest::DeleteNextChar,
            Key::Left => InputRequest::GoToPrevChar,
            Key::Right => InputRequest::GoToNextChar,
            Key::Home | Key::Ctrl('a') => InputRequest::GoToStart,
            Key::End | Key::Ctrl('e') => InputRequest::GoToEnd,
            Key::Ctrl('w') => InputRequest::DeletePrevWord,
            Key::Ctrl('u') => InputRequest::DeleteLine,
            Key::Ctrl(_) | Key::BackTab => return,
        };
        editing.handle(request);
        let filter = editing.value().to_owned();
        self.set_filter(filter);
    }

    fn set_filter(&mut self, filter: String) {
        if self.query.filter != filter {
            self.query.filter = filter;
            self.requery();
        }
    }

    fn motion(&mut self, motion: Motion) {
        let height = self.height(self.focus);
        if self.focus == Pane::Tasks {
            self.cursor.apply(motion, self.table.rows.len(), height);
            self.selected = self.table.rows.get(self.cursor.at).map(|row| row.key);
            self.renew_detail();
        } else if let Some(page) = self.pages.get_mut(&(self.focus as u8)) {
            page.cursor.apply(motion, page.lines.len(), height);
        }
    }

    /// Lines that a pane shows under its title; the table has a line of column names besides.
    fn height(&self, pane: Pane) -> usize {
        let rect = self.layout().pane(pane).map_or(0, |rect| rect.height);
        usize::from(rect.saturating_sub(if pane == Pane::Tasks { 2 } else { 1 }))
    }

    fn go(&mut self, pane: Pane, zoom: bool) {
        self.focus = pane;
        self.zoom = zoom;
        if pane != Pane::Tasks {
            self.companion = pane;
            // Whoever reads about a task wants to go on reading about it.
            self.selected = self.selected().map(|row| row.key);
        }
        self.refresh_pages();
    }

    fn enter(&mut self) {
        if self.focus == Pane::Tasks {
            if self.selected().is_some() {
                self.go(Pane::Detail, true);
            }
            return;
        }
        let jump = self.page(self.focus).and_then(|page| page.lines.get(page.cursor.at)).and_then(|line| line.jump);
        match jump {
            Some(party) => self.jump(party),
            None => self.notice = Some("nothing to go to on this line".to_owned()),
        }
    }

    fn leave(&mut self, key: Key) {
        if self.focus != Pane::Tasks {
            self.companion = Pane::Detail;
            self.go(Pane::Tasks, false);
        } else if key == Key::Esc {
            if self.zoom {
                self.go(Pane::Tasks, false);
            } else {
                self.set_filter(String::new());
            }
        }
    }

    fn back(&mut self) {
        match self.history.pop() {
            Some(key) => self.select(key),
            None => self.notice = Some("nowhere to go back to".to_owned()),
        }
    }

    /// Goes to a party that a line names.
    fn jump(&mut self, party: PartyId) {
        let party = self.index.canonical(party, &self.view);
        if self.index.task(party, &self.view).is_some() {
            if let Some(from) = self.selected().map(|row| row.key) {
                self.history.push(from);
                let surplus = self.history.len().saturating_sub(MAX_HISTORY);
                self.history.drain(..surplus);
            }
            self.select(RowKey::Task(party));
            let zoom = self.zoom;
            self.go(Pane::Detail, zoom);
        } else if let PartyId::Thread { .. } = party {
            self.go(Pane::Workers, self.zoom);
            let height = self.height(Pane::Workers);
            if let Some(page) = self.pages.get_mut(&(Pane::Workers as u8))
                && let Some(at) = page.lines.iter().position(|line| line.about == Some(party))
            {
                page.cursor.at = at;
                page.cursor.settle(page.lines.len(), height);
            }
        } else {
            self.notice = Some(format!("{} is not in this snapshot", text::party(party)));
        }
    }

    /// Puts the cursor on a row, taking away what hides it.
    fn select(&mut self, key: RowKey) {
        if self.table.place(key).is_none() {
            let group = matches!(key, RowKey::Group(_));
            if self.query.group != group {
                self.query.group = group;
                self.requery();
            }
            if self.table.place(key).is_none() && !self.query.filter.is_empty() {
                self.notice = Some("the filter hid it, and was taken away".to_owned());
                self.set_filter(String::new());
            }
        }
        match self.table.place(key) {
            Some(at) => {
                self.cursor.at = at;
                self.selected = Some(key);
                self.settle();
                self.renew_detail();
            }
            None => self.notice = Some("it is no longer there".to_owned()),
        }
    }

    /// To the next row that a finding names, going round.
    fn next_fault(&mut self) {
        let rows = &self.table.rows;
        let next = (1..=rows.len()).map(|by| (self.cursor.at + by) % rows.len()).find(|&at| rows[at].fault.is_some());
        match next {
            Some(at) => self.select(rows[at].key),
            None => self.notice = Some("no finding names a task of this list".to_owned()),
        }
    }

    fn toggle_groups(&mut self) {
        let member = self.selected().and_then(|row| row.members.first().copied());
        self.query.group = !self.query.group;
        let moved = self.selected.take().is_some();
        self.requery();
        // The task under the cursor stays there, as itself or in its group, unless the reader never moved.
        if moved && let Some(at) = member.and_then(|m| self.table.rows.iter().position(|row| row.members.contains(&m)))
        {
            self.cursor.at = at;
            self.selected = Some(self.table.rows[at].key);
            self.settle();
            self.renew_detail();
        }
    }

    /// Shows the latest picture.
    fn show(&mut self) {
        self.view = self.latest.clone();
        self.index = Index::new(&self.view);
        self.requery();
    }

    /// Makes the table anew. The cursor stays with its task; where that has gone, at its place.
    fn requery(&mut self) {
        self.table = Table::new(&self.view, &self.index, &self.query);
        match self.selected {
            // Never moved: the top of the list is what matters most.
            None => self.cursor = Cursor::default(),
            Some(key) => {
                if let Some(at) = self.table.place(key) {
                    self.cursor.at = at;
                }
            }
        }
        self.refresh_pages();
    }

    fn settle(&mut self) {
        let height = self.height(Pane::Tasks);
        self.cursor.settle(self.table.rows.len(), height);
    }

    fn refresh_pages(&mut self) {
        self.notes = panes::notes(&self.view, self.detached);
        self.notes = doc::wrapped(std::mem::take(&mut self.notes), self.size.0.saturating_sub(2).into());
        self.settle();
        for pane in [Pane::Detail, Pane::Workers, Pane::Findings, Pane::Health] {
            self.refresh_page(pane);
        }
    }

    /// The detail of another task is read from its beginning.
    fn renew_detail(&mut self) {
        self.pages.remove(&(Pane::Detail as u8));
        self.refresh_page(Pane::Detail);
    }

    /// Makes the page of a pane anew, if it is on the screen.
    fn refresh_page(&mut self, pane: Pane) {
        let Some(rect) = self.layout().pane(pane) else { return };
        let lines = match pane {
            Pane::Tasks => return,
            Pane::Detail => self.detail(),
            Pane::Workers => panes::workers(&self.view, &self.index),
            Pane::Findings => panes::findings(&self.view, self.clock),
            Pane::Health => panes::health(&self.view),
        };
        // A column at the left for the cursor.
        let lines = doc::wrapped(lines, rect.width.saturating_sub(1).into());
        let page = self.pages.entry(pane as u8).or_default();
        page.cursor.settle(lines.len(), usize::from(rect.height.saturating_sub(1)));
        page.lines = lines;
    }

    fn detail(&self) -> Vec<Line> {
        let Some(row) = self.selected() else { return Vec::new() };
        match row.key {
            RowKey::Group(_) => panes::group(row, &self.view, &self.index),
            RowKey::Task(party) => match self.index.task(party, &self.view) {
                Some(task) => panes::task(task, &self.view, &self.index),
                None => Vec::new(),
            },
        }
    }
}

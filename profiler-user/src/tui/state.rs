//! What the view shows and how keys change it: pure, no terminal and no colours.

mod navigate;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tui_input::{Input as LineInput, InputRequest};

use super::{
    clock::Clock,
    cursor::{Cursor, Motion, Page},
    doc::{self, Line},
    index::Index,
    keys::Key,
    layout::{Layout, Pane, Wishes},
    panes,
    rows::{Query, Row, RowKey, Table},
};
use crate::session::View;

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

//! Going from task to task: in, out, along the graph and back.

use super::State;
use crate::{
    model::PartyId,
    tui::{keys::Key, layout::Pane, rows::RowKey, text},
};

/// Places that Backspace can go back to.
const MAX_HISTORY: usize = 64;

impl State {
    /// Into the detail, or to the party that the line under the cursor names.
    pub(super) fn enter(&mut self) {
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

    /// Out again.
    pub(super) fn leave(&mut self, key: Key) {
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

    /// To the task before the last jump.
    pub(super) fn back(&mut self) {
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
    pub(super) fn next_fault(&mut self) {
        let rows = &self.table.rows;
        let next = (1..=rows.len()).map(|by| (self.cursor.at + by) % rows.len()).find(|&at| rows[at].fault.is_some());
        match next {
            Some(at) => self.select(rows[at].key),
            None => self.notice = Some("no finding names a task of this list".to_owned()),
        }
    }

    /// One row a task, or one for equal await stacks.
    pub(super) fn toggle_groups(&mut self) {
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
}

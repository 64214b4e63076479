//! What the keys do.

use std::sync::Arc;

use super::{demo, press, state, type_text};
use crate::tui::{
    clock::Clock,
    keys::Key,
    layout::Pane,
    rows::{RowKey, SortKey},
    state::{Input, Outcome, State},
};

fn selected(state: &State) -> RowKey {
    state.selected().expect("the demo has rows").key
}

#[test]
fn the_stuck_ones_come_first_and_the_permanent_before_the_others() {
    let state = state(demo::deadlock(), 100, 30);
    let first: Vec<RowKey> = state.table.rows.iter().take(3).map(|row| row.key).collect();
    assert_eq!(first, [112, 113, 117].map(|id| RowKey::Task(demo::party(id))));
}

#[test]
fn the_cursor_stays_with_its_task_when_the_picture_changes() {
    let mut state = state(demo::busy(50), 100, 30);
    for _ in 0..5 {
        press(&mut state, Key::Down);
    }
    let before = selected(&state);
    let mut next = demo::deadlock();
    next.sequence = 2;
    let clock = Clock { now: next.snapshot.taken_at, wall: demo::wall() };
    let at = state.cursor.at;
    // The demo with the deadlock has tasks 1 to 40 too; the fifth by time of fifty has gone.
    state.reduce(Input::View(Arc::new(next.clone()), clock));
    assert_eq!(state.cursor.at, at);
    type_text(&mut state, "/serve_connection");
    press(&mut state, Key::Enter);
    press(&mut state, Key::Down);
    let kept = selected(&state);
    assert_ne!(before, kept);
    next.sequence = 3;
    state.reduce(Input::View(Arc::new(next), clock));
    assert_eq!(selected(&state), kept);
}

#[test]
fn a_frozen_picture_stands_still_and_the_newest_is_shown_after() {
    let mut state = state(demo::busy(3), 100, 30);
    press(&mut state, Key::Char('f'));
    let mut next = demo::busy(7);
    next.sequence = 5;
    let clock = Clock { now: next.snapshot.taken_at, wall: demo::wall() };
    state.reduce(Input::View(Arc::new(next), clock));
    assert_eq!((state.table.rows.len(), state.behind()), (3, 4));
    press(&mut state, Key::Char('f'));
    assert_eq!((state.table.rows.len(), state.behind()), (7, 0));
}

#[test]
fn sorting_goes_round_and_reverses() {
    let mut state = state(demo::busy(20), 100, 30);
    for expected in SortKey::ALL.into_iter().cycle().skip(1).take(SortKey::ALL.len()) {
        press(&mut state, Key::Char('s'));
        assert_eq!(state.query.sort, expected);
    }
    let forwards: Vec<RowKey> = state.table.rows.iter().map(|row| row.key).collect();
    press(&mut state, Key::Char('r'));
    let mut backwards: Vec<RowKey> = state.table.rows.iter().map(|row| row.key).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
}

#[test]
fn a_filter_needs_every_word_and_none_of_the_forbidden() {
    let mut state = state(demo::deadlock(), 100, 30);
    type_text(&mut state, "/SETTLE mutex !audit");
    assert_eq!(state.table.rows.len(), 2);
    // `q` is a letter here.
    type_text(&mut state, " q");
    assert!(state.table.rows.is_empty());
    press(&mut state, Key::Esc);
    assert_eq!(state.table.rows.len(), 47);
    for (filter, count) in [("deadlock", 2), ("settle.rs:58", 1), ("state", 0), ("blocked", 1), ("0x7f3a0c012b80", 3)] {
        type_text(&mut state, "/");
        type_text(&mut state, filter);
        assert_eq!(state.table.rows.len(), count, "{filter}");
        press(&mut state, Key::Esc);
    }
}

#[test]
fn enter_follows_the_graph_and_backspace_returns() {
    let mut state = state(demo::deadlock(), 100, 40);
    press(&mut state, Key::Enter);
    assert_eq!(state.focus, Pane::Detail);
    let line = |state: &State, tid: u64| {
        let page = state.page(Pane::Detail).expect("the detail is on the screen");
        page.lines.iter().position(|line| line.jump == Some(demo::party(tid))).expect("the other task is in the graph")
    };
    for _ in 0..line(&state, 113) {
        press(&mut state, Key::Down);
    }
    press(&mut state, Key::Enter);
    assert_eq!(selected(&state), RowKey::Task(demo::party(113)));
    press(&mut state, Key::Backspace);
    assert_eq!(selected(&state), RowKey::Task(demo::party(112)));
    press(&mut state, Key::Esc);
    assert_eq!(state.focus, Pane::Tasks);
}

#[test]
fn a_jump_takes_away_the_filter_that_hides_its_end() {
    let mut state = state(demo::deadlock(), 100, 40);
    type_text(&mut state, "/debit_then_credit !credit_then");
    press(&mut state, Key::Esc);
    type_text(&mut state, "/drain");
    press(&mut state, Key::Enter);
    press(&mut state, Key::Enter);
    let page = state.page(Pane::Detail).expect("the detail is on the screen");
    let at = page.lines.iter().position(|line| line.jump == Some(demo::party(114))).expect("the awaited task");
    for _ in 0..at {
        press(&mut state, Key::Down);
    }
    press(&mut state, Key::Enter);
    assert_eq!(selected(&state), RowKey::Task(demo::party(114)));
    assert!(state.query.filter.is_empty() && state.notice.is_some());
}

#[test]
fn groups_gather_equal_stacks_and_keep_the_task_under_the_cursor() {
    let mut state = state(demo::busy(20), 100, 30);
    press(&mut state, Key::Down);
    let RowKey::Task(before) = selected(&state) else { panic!("one row a task") };
    press(&mut state, Key::Char('g'));
    assert_eq!(state.table.rows.iter().map(|row| row.members.len()).sum::<usize>(), 20);
    // Scheduled, receive, timer, socket.
    assert_eq!(state.table.rows.len(), 4);
    let row = state.selected().expect("a group");
    assert!(row.members.iter().any(|&at| state.view.snapshot.tasks[at as usize].party == before));
}

#[test]
fn n_goes_round_what_was_found() {
    let mut state = state(demo::deadlock(), 100, 30);
    let mut seen = Vec::new();
    for _ in 0..4 {
        press(&mut state, Key::Char('n'));
        seen.push(selected(&state));
    }
    assert_eq!(seen, [113, 117, 112, 113].map(|id| RowKey::Task(demo::party(id))));
}

#[test]
fn q_and_control_c_quit_but_not_out_of_the_help_or_a_filter() {
    let mut state = state(demo::busy(1), 80, 24);
    press(&mut state, Key::Char('?'));
    assert_eq!(press(&mut state, Key::Char('q')), Outcome::Redraw);
    press(&mut state, Key::Char('/'));
    assert_eq!(press(&mut state, Key::Char('q')), Outcome::Redraw);
    assert_eq!(press(&mut state, Key::Ctrl('c')), Outcome::Quit);
    press(&mut state, Key::Esc);
    assert_eq!(press(&mut state, Key::Char('q')), Outcome::Quit);
}

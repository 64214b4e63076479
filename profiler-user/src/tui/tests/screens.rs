//! What the main screens look like, as snapshots.

use insta::assert_snapshot;

use super::{demo, press, screen, state, type_text};
use crate::{
    session::{ProbeState, View},
    tui::keys::Key,
};

/// The screen after some keys.
fn after(view: View, (width, height): (u16, u16), keys: impl FnOnce(&mut crate::tui::state::State)) -> String {
    let mut state = state(view, width, height);
    keys(&mut state);
    screen(&state, width, height).to_string()
}

#[test]
fn nothing_read_yet() {
    assert_snapshot!(after(demo::empty(), (80, 12), |_| {}));
}

#[test]
fn no_runtime_and_no_probes() {
    let mut view = demo::with(demo::idle(), |snapshot| {
        snapshot.runtimes.clear();
        snapshot.missing.push("the executable is stripped: it has neither symbols nor debuginfo".into());
    });
    view.switch_probe = ProbeState::Missing("the kernel has no BTF; it needs CONFIG_DEBUG_INFO_BTF=y".into());
    assert_snapshot!(after(view, (80, 16), |_| {}));
}

#[test]
fn an_idle_runtime() {
    assert_snapshot!(after(demo::idle(), (80, 24), |state| {
        press(state, Key::Tab);
        press(state, Key::Tab);
    }));
}

#[test]
fn a_busy_service() {
    assert_snapshot!(after(demo::busy(1_000), (100, 24), |_| {}));
}

#[test]
fn a_deadlock() {
    assert_snapshot!(after(demo::deadlock(), (120, 36), |_| {}));
}

#[test]
fn a_deadlock_on_a_wide_screen() {
    assert_snapshot!(after(demo::deadlock(), (180, 40), |_| {}));
}

#[test]
fn the_detail_of_a_deadlock() {
    assert_snapshot!(after(demo::deadlock(), (100, 30), |state| {
        press(state, Key::Enter);
    }));
}

#[test]
fn the_detail_of_a_join_follows_the_chain_to_the_cycle() {
    assert_snapshot!(after(demo::deadlock(), (100, 30), |state| {
        type_text(state, "/shutdown");
        press(state, Key::Enter);
        press(state, Key::Enter);
    }));
}

#[test]
fn the_detail_of_a_select() {
    assert_snapshot!(after(demo::deadlock(), (80, 20), |state| {
        type_text(state, "/relay");
        press(state, Key::Enter);
        press(state, Key::Enter);
    }));
}

#[test]
fn the_detail_of_a_blocked_worker() {
    assert_snapshot!(after(demo::deadlock(), (80, 24), |state| {
        type_text(state, "/cache");
        press(state, Key::Enter);
        press(state, Key::Enter);
    }));
}

#[test]
fn the_workers() {
    assert_snapshot!(after(demo::deadlock(), (100, 24), |state| {
        press(state, Key::Tab);
        press(state, Key::Tab);
        press(state, Key::Char('z'));
    }));
}

#[test]
fn the_findings() {
    assert_snapshot!(after(demo::deadlock(), (100, 30), |state| {
        for key in [Key::Tab, Key::Tab, Key::Tab, Key::Char('z')] {
            press(state, key);
        }
    }));
}

#[test]
fn the_health() {
    assert_snapshot!(after(demo::deadlock(), (80, 30), |state| {
        press(state, Key::BackTab);
        press(state, Key::Char('z'));
    }));
}

#[test]
fn groups() {
    assert_snapshot!(after(demo::deadlock(), (110, 30), |state| {
        press(state, Key::Char('g'));
    }));
}

#[test]
fn a_filter_while_it_is_typed() {
    assert_snapshot!(after(demo::deadlock(), (80, 24), |state| type_text(state, "/settle !audit")));
}

#[test]
fn a_filter_that_nothing_matches() {
    assert_snapshot!(after(demo::busy(1_000), (80, 14), |state| {
        type_text(state, "/nowhere");
        press(state, Key::Enter);
    }));
}

#[test]
fn help() {
    assert_snapshot!(after(demo::deadlock(), (80, 32), |state| type_text(state, "?")));
}

#[test]
fn a_narrow_screen() {
    assert_snapshot!(after(demo::deadlock(), (60, 20), |_| {}));
}

#[test]
fn a_tiny_screen() {
    assert_snapshot!(after(demo::deadlock(), (20, 5), |_| {}));
}

#[test]
fn a_frozen_picture() {
    assert_snapshot!(after(demo::busy(3), (80, 10), |state| type_text(state, "f")));
}

#[test]
fn a_target_that_has_ended() {
    let mut view = demo::busy(3);
    view.ended = Some("the target exited".into());
    assert_snapshot!(after(view, (80, 12), |_| {}));
}

#[test]
fn ten_thousand_tasks() {
    assert_snapshot!(after(demo::busy(10_000), (100, 24), |state| {
        press(state, Key::Char('s'));
        press(state, Key::PageDown);
    }));
}

#[test]
fn hostile_names_cannot_write_on_the_screen() {
    let view = demo::with(demo::busy(1), |snapshot| {
        snapshot.tasks[0].name = "evil\x1b[2J\x07\n::task\u{202e}".into();
        snapshot.threads[0].name = "\x1b]0;owned\x07".into();
    });
    assert_snapshot!(after(view, (100, 24), |_| {}));
}

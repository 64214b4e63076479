use proptest::prelude::*;

use super::*;
use crate::{
    export::{escape::is_unsafe, group::group, page::Page, samples},
    model::{Frame, Origin, PartyId, Since, SinceSource},
    session::View,
};

fn check_text(view: &View) -> String {
    let mut page = Page::new(false);
    for found in view.findings.iter() {
        finding(&mut page, found, &view.snapshot);
        page.blank();
    }
    verdict(&mut page, &view.findings.iter().collect::<Vec<_>>(), view, 2.0);
    page.into_text()
}

fn tasks_text(view: &View, all: bool, hidden: usize) -> String {
    let mut page = Page::new(false);
    header(&mut page, &view.snapshot);
    if all {
        tasks(&mut page, &view.snapshot, &view.snapshot.tasks.iter().collect::<Vec<_>>(), hidden);
    } else {
        groups(&mut page, &group(&view.snapshot.tasks), hidden);
    }
    unread(&mut page, view);
    page.into_text()
}

#[test]
fn a_deadlock_of_two() {
    insta::assert_snapshot!(check_text(&samples::ring(2)));
}

#[test]
fn a_ring_of_fifty_is_abridged() {
    insta::assert_snapshot!(check_text(&samples::ring(50)));
}

#[test]
fn a_deadlock_through_a_thread_with_a_way_out() {
    insta::assert_snapshot!(check_text(&samples::through_a_thread()));
}

#[test]
fn a_blocked_worker() {
    insta::assert_snapshot!(check_text(&samples::blocked_worker()));
}

#[test]
fn a_healthy_program() {
    insta::assert_snapshot!(check_text(&samples::healthy()));
}

#[test]
fn what_could_not_be_read_is_said() {
    insta::assert_snapshot!(check_text(&samples::partial()));
}

#[test]
fn tasks_by_group() {
    insta::assert_snapshot!(tasks_text(&samples::healthy(), false, 3));
}

#[test]
fn tasks_one_by_one() {
    insta::assert_snapshot!(tasks_text(&samples::partial(), true, 0));
}

proptest! {
    #[test]
    fn no_name_reaches_the_terminal_raw(view in samples::any_view()) {
        for text in [check_text(&view), tasks_text(&view, true, 1), tasks_text(&view, false, 1)] {
            let raw: Vec<char> = text.chars().filter(|&c| c != '\n' && is_unsafe(c)).collect();
            prop_assert!(raw.is_empty(), "{raw:?}");
        }
    }
}

#[test]
fn goroutines_as_go_prints_them() {
    let mut task = samples::ring(2).snapshot.tasks[0].clone();
    let site = Frame { function: "main.main".into(), file: Some("/srv/main.go".into()), line: Some(7) };
    let inner = Frame { function: "main.(*Queue).take".into(), line: Some(41), ..site.clone() };
    task.root.frames = [site.clone(), inner].into();
    task.status = Some("chan receive".into());
    task.since = Some(Since { at_least_s: 301.0, source: SinceSource::Runtime });
    task.origin = Some(Box::new(Origin { party: Some(PartyId::Task { runtime: 1, id: 1 }), site: Some(site) }));
    let mut page = Page::new(false);
    goroutines(&mut page, &[&task]);
    let id = task.id();
    let expected = format!(
        "goroutine {id} [chan receive, 5 minutes]:\nmain.(*Queue).take(...)\n\t/srv/main.go:41\nmain.main(...)\n\t\
         /srv/main.go:7\ncreated by main.main in goroutine 1\n\t/srv/main.go:7\n"
    );
    assert_eq!(page.into_text(), expected);
}

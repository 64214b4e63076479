//! Whatever is pressed over whatever picture: no panic, and the cursors stay on what is there.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};

use super::{demo, screen, state};
use crate::{
    model::{
        Certainty, Edge, EdgeEnd, Finding, FindingKind, Fork, Hold, HoldHow, PartyId, ResourceKind, Since, SinceSource,
        Strand, Task, TaskState, ThreadActivity, Wait, WaitMode,
    },
    session::View,
    tui::{
        clock::Clock,
        keys::Key,
        layout::Pane,
        state::{Input, State},
    },
};

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        4 => prop::sample::select("jkhlGsrgfnz/?q !:0aé日\u{202e}".chars().collect::<Vec<_>>()).prop_map(Key::Char),
        1 => prop::sample::select(vec!['u', 'w', 'a', 'e', 'b', 'f']).prop_map(Key::Ctrl),
        4 => prop::sample::select(vec![
            Key::Up, Key::Down, Key::Left, Key::Right, Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::Tab,
            Key::BackTab, Key::Enter, Key::Esc, Key::Backspace, Key::Delete,
        ]),
    ]
}

/// Ids from a small set, so that pictures share tasks and waits meet holds.
fn party() -> impl Strategy<Value = PartyId> {
    prop_oneof![
        6 => (0..12_u64).prop_map(demo::party),
        1 => (4249..4255).prop_map(|tid| PartyId::Thread { tid }),
        1 => (0..2).prop_map(|tid| PartyId::BlockOn { tid }),
    ]
}

fn kind() -> impl Strategy<Value = ResourceKind> {
    prop::sample::select(vec![
        ResourceKind::TokioMutex,
        ResourceKind::TokioBatchSemaphore,
        ResourceKind::TokioMpsc,
        ResourceKind::JoinHandle,
        ResourceKind::Other("odd\u{7}::Leaf".into()),
    ])
}

fn wait() -> impl Strategy<Value = Wait> {
    let mode = prop::sample::select(vec![
        WaitMode::Acquire { permits: 1 },
        WaitMode::Acquire { permits: u64::MAX },
        WaitMode::Receive,
        WaitMode::Send,
        WaitMode::Join,
        WaitMode::Notified,
        WaitMode::Deadline { in_ms: Some(i64::MIN) },
        WaitMode::Ready { fd: Some(-1) },
        WaitMode::Unknown,
    ]);
    (kind(), 0..4_u64, mode, prop::option::of(0..9_u32), prop::option::of(party())).prop_map(
        |(kind, address, mode, position, target)| Wait { resource: demo::key(kind, address), mode, position, target },
    )
}

fn hold() -> impl Strategy<Value = Hold> {
    let how = prop::sample::select(vec![HoldHow::Guard, HoldHow::AssignedUnpolled, HoldHow::Sender, HoldHow::Receiver]);
    (kind(), 0..4_u64, how, 0..3_u64).prop_map(|(kind, address, how, amount)| Hold {
        resource: demo::key(kind, address),
        how,
        amount,
        site: None,
    })
}

fn strand() -> impl Strategy<Value = Strand> {
    let leaf =
        (vec(0..6_u32, 0..4), prop::option::of(wait()), vec(hold(), 0..3)).prop_map(|(lines, wait, holds)| Strand {
            frames: lines.into_iter().map(|line| demo::frame("odd\n::name::日本", "src/x.rs", line)).collect(),
            wait,
            holds,
            fork: Fork::Unknown,
            children: Vec::new(),
        });
    leaf.prop_recursive(3, 8, 3, |inner| {
        (inner.clone(), vec(inner, 0..3)).prop_map(|(mut root, children)| {
            root.children = children;
            root
        })
    })
}

fn task() -> impl Strategy<Value = Task> {
    let states = vec![
        TaskState::Running,
        TaskState::Scheduled,
        TaskState::Suspended,
        TaskState::Blocked,
        TaskState::Complete,
        TaskState::Unknown,
    ];
    let seconds = prop_oneof![Just(f64::NAN), Just(-1.0), Just(f64::INFINITY), 0.0..1e9];
    (party(), prop::sample::select(states), strand(), prop::option::of(seconds), any::<bool>(), 0..3_usize).prop_map(
        |(party, state, root, seconds, unstable, runtime)| {
            let mut task = demo::task(0, "\x1b[31mtask", state, root);
            task.party = party;
            task.since = seconds.map(|at_least_s| Since { at_least_s, source: SinceSource::Event });
            task.unstable = unstable;
            task.runtime = runtime;
            task
        },
    )
}

fn finding() -> impl Strategy<Value = Finding> {
    (
        prop::sample::select(FindingKind::ALL.to_vec()),
        vec(party(), 0..3),
        party(),
        prop::option::of(party()),
        kind(),
        0..4_u64,
    )
        .prop_map(|(fault, tasks, from, to, kind, address)| {
            let end = |party| EdgeEnd { party, name: "name\r".into() };
            Finding {
                tasks,
                edges: vec![Edge {
                    from: end(from),
                    to: to.map(end),
                    resource: demo::key(kind, address),
                    wait_site: None,
                    hold_site: None,
                }],
                unknowns: vec!["unknown".into()],
                // In the future: clocks are set back.
                first_seen: demo::wall() + std::time::Duration::from_secs(5),
                ..Finding::new("id".into(), fault, Certainty::Likely, "summary\u{1b}".into())
            }
        })
}

fn view() -> impl Strategy<Value = View> {
    (vec(task(), 0..16), vec(finding(), 0..4), prop::option::of(party()), any::<bool>()).prop_map(
        |(tasks, findings, polled, runtime)| {
            let mut view = demo::with(demo::idle(), |snapshot| {
                snapshot.tasks = tasks;
                if let Some(party) = polled {
                    snapshot.threads[2].activity = ThreadActivity::BlockedIn(party);
                }
                if !runtime {
                    snapshot.runtimes.clear();
                }
            });
            view.findings = findings.into();
            view
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Key(Key),
    View(Box<View>),
    Resize(u16, u16),
    Detached,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => key().prop_map(Step::Key),
        2 => view().prop_map(|view| Step::View(Box::new(view))),
        2 => (0..150_u16, 0..50_u16).prop_map(|(width, height)| Step::Resize(width, height)),
        1 => Just(Step::Detached),
    ]
}

fn check(state: &State) {
    let rows = state.table.rows.len();
    assert!(state.cursor.at < rows.max(1), "{:?} of {rows} rows", state.cursor);
    assert!(state.cursor.top <= state.cursor.at);
    assert_eq!(state.selected().is_some(), rows > 0);
    for pane in Pane::ALL {
        if let Some(page) = state.page(pane).filter(|_| state.layout().pane(pane).is_some()) {
            assert!(page.cursor.at < page.lines.len().max(1), "{pane:?}: {:?} of {}", page.cursor, page.lines.len());
            assert!(page.cursor.top <= page.cursor.at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_breaks_it(first in view(), steps in vec(step(), 1..40), size in (0..150_u16, 0..50_u16)) {
        let mut size = size;
        let mut state = state(first, size.0, size.1);
        for step in steps {
            let input = match step {
                Step::Key(key) => Input::Key(key),
                Step::View(mut view) => {
                    view.sequence = 2;
                    let clock = Clock { now: view.snapshot.taken_at, wall: demo::wall() };
                    Input::View(Arc::new(*view), clock)
                }
                Step::Resize(width, height) => {
                    size = (width, height);
                    Input::Resize(width, height)
                }
                Step::Detached => Input::Detached,
            };
            state.reduce(input);
            check(&state);
            let shown = screen(&state, size.0, size.1);
            let bad = |c: char| c.is_control() || c == '\u{202e}';
            prop_assert!(!shown.buffer().content().iter().any(|cell| cell.symbol().contains(bad)));
        }
    }
}

//! `gordian flame`: where CPU time goes, without frame pointers.

use gordian_tests::{Fixture, Gordian, Profile, capability::Need, require};

/// Share of each function in the drawing, in percent, by the titles that inferno gives its boxes:
/// `name (1,234 samples, 12.34%)`.
fn shares(svg: &str) -> Vec<(String, f64)> {
    svg.split("<title>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</title>"))
        .filter_map(|(title, _)| {
            let (name, numbers) = title.rsplit_once(" (")?;
            let share = numbers.rsplit_once(", ")?.1.strip_suffix("%)")?;
            Some((name.replace("&lt;", "<").replace("&gt;", ">"), share.parse().ok()?))
        })
        .collect()
}

fn draw(profile: Profile) -> Vec<(String, f64)> {
    let fixture = Fixture::start_with("spin", profile, &[]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("out.svg");
    let out = path.to_str().expect("a plain path");
    let flame = ["flame", &fixture.pid_argument(), "-d", "3", "-o", out];
    let _said = Gordian::new(flame).run().expect(0);
    shares(&std::fs::read_to_string(&path).expect("it was drawn"))
}

#[track_caller]
fn assert_shows_the_work(shares: &[(String, f64)]) {
    let of =
        |name: &str| -> f64 { shares.iter().filter(|(shown, _)| shown.contains(name)).map(|(_, share)| share).sum() };
    // The tasks' types stand at the root, and under them the way down. The work is 3 to 1 by construction.
    let (archive, audit) = (of("spin::archive"), of("spin::audit"));
    assert!(archive > audit && audit > 5.0, "archive {archive}%, audit {audit}%: {shares:#?}");
    for function in ["spin::squeeze", "spin::checksum", "spin::entropy"] {
        assert!(of(function) > 5.0, "{function} is missing: {shares:#?}");
    }
    assert!(of("spin::squeeze") > of("spin::checksum"), "{shares:#?}");
}

#[test]
fn stacks_are_whole_without_frame_pointers() {
    require!(Need::Ptrace, Need::Bpf);
    assert_shows_the_work(&draw(Profile::Debuginfo));
}

#[test]
fn stacks_are_whole_without_debuginfo() {
    require!(Need::Ptrace, Need::Bpf);
    assert_shows_the_work(&draw(Profile::Release));
}

#[test]
fn an_idle_program_says_why_there_is_nothing() {
    require!(Need::Ptrace, Need::Bpf);
    let fixture = Fixture::start_with("many", Profile::Release, &["3"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("out.svg");
    let out = path.to_str().expect("a plain path");
    let finished = Gordian::new(["flame", &fixture.pid_argument(), "-d", "1", "-o", out]).run();
    let said = finished.stdout + &finished.stderr;
    assert!(said.contains("sample"), "an empty picture must say that nothing was sampled:\n{said}");
}

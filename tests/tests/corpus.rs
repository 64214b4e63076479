//! The corpus: every guilty program is found, with the right parties and lines, and no innocent one is accused.

use std::panic::catch_unwind;

use gordian_tests::{
    Fixture, Gordian, Profile,
    capability::Need,
    corpus::{self, Outcome, Program},
    json::list,
    require,
};

/// How Cargo builds by default, and with everything a debugger wants.
const PROFILES: [Profile; 2] = [Profile::Release, Profile::Debuginfo];
/// Checks that run at the same time: each waits most of the time.
const AT_A_TIME: usize = 3;
/// Seconds of a look that leaves time for several reads on a busy machine.
const PATIENT: u64 = 8;

/// Guilty programs in which not all is found today: the reason, the builds that it is so in, and the programs.
///
/// A program that is listed and found makes the test fail, so that the list can only shrink; what is *wrongly* said of
/// a program makes it fail too, listed or not.
const KNOWN_MISSES: &[(&str, &[Profile], &[&str])] = &[
    (
        "how many permits a semaphore has is known only where all who can reach it were read whole, and nothing else points at it",
        &[Profile::Debuginfo],
        &["pool_behind_token"],
    ),
    ("one who goes on, the pool's own reaper, could notify too", &PROFILES, &["bb8_two_each"]),
    (
        "that nobody polls a LocalSet or an idle runtime is not seen",
        &PROFILES,
        &["local_set_left_alone", "nobody_drives"],
    ),
    (
        "a task whose own code was inlined, or made one with another's, has no name of its own",
        &[Profile::Release],
        &["shutdown_token", "std_channel_in_worker", "axum_timeout_layer", "axum_pool_two_each"],
    ),
    ("a thread of the blocking pool whose job was inlined has no name", &[Profile::Release], &["thread_and_task"]),
];

/// Every program of a binary in every build.
fn everything(binary: &'static str) -> Vec<(Program, Profile)> {
    let in_profile = |profile| corpus::programs(binary, profile).into_iter().map(move |program| (program, profile));
    PROFILES.into_iter().flat_map(in_profile).collect()
}

fn is_listed(name: &str, profile: Profile) -> bool {
    KNOWN_MISSES.iter().any(|(_why, profiles, names)| profiles.contains(&profile) && names.contains(&name))
}

/// Starts a guilty program and looks at it.
fn examine(program: &Program, profile: Profile) -> Outcome {
    let fixture = Fixture::start_with(program.binary, profile, &[&program.name]);
    let seconds = program.expected["watch_s"].as_u64();
    match look(program, profile, &fixture, seconds) {
        // On a busy machine the usual look may have ended before its second read.
        Outcome::Missed(_) if !is_listed(&program.name, profile) => {
            look(program, profile, &fixture, seconds.or(Some(PATIENT)))
        }
        outcome => outcome,
    }
}

/// One check of a guilty program, and what it is worth.
fn look(program: &Program, profile: Profile, fixture: &Fixture, seconds: Option<u64>) -> Outcome {
    let mut check = Gordian::new(["check", &fixture.pid_argument(), "--json"]);
    if let Some(seconds) = seconds {
        check = check.arg("--for").arg(&seconds.to_string());
    }
    program.judge(profile, &check.run().json())
}

#[test]
fn every_guilty_program_is_found() {
    require!(Need::Ptrace);
    let outcomes = corpus::side_by_side(AT_A_TIME, everything("guilty"), |(program, profile)| {
        // One program that does not start, or breaks gordian, must not hide what is to be said of the others.
        let outcome = catch_unwind(|| examine(&program, profile));
        let outcome = outcome.unwrap_or_else(|_told| Outcome::Wrong("see the panic above".to_owned()));
        if outcome != Outcome::Right {
            println!("{} ({}): {outcome:?}", program.name, profile.name());
        }
        (program.name, profile, outcome)
    });
    let mut complaints = Vec::new();
    for (name, profile, outcome) in &outcomes {
        let complaint = match outcome {
            Outcome::Right if is_listed(name, *profile) => {
                "is listed as a miss and found: take it off the list".to_owned()
            }
            Outcome::Missed(why) if !is_listed(name, *profile) => format!("is not found: {why}"),
            Outcome::Wrong(why) => format!("is WRONGLY accused: {why}"),
            Outcome::Right | Outcome::Missed(_) => continue,
        };
        complaints.push(format!("{name} ({}) {complaint}", profile.name()));
    }
    let listed = KNOWN_MISSES.iter().flat_map(|(_why, _profiles, names)| *names);
    let unknown = listed.filter(|listed| !outcomes.iter().any(|(name, ..)| name == *listed));
    complaints.extend(unknown.map(|name| format!("{name} is listed as a miss and is no program")));
    let right = outcomes.iter().filter(|(_, _, outcome)| *outcome == Outcome::Right).count();
    println!("{right} of {} guilty programs (each build counts) are found with everything", outcomes.len());
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn no_innocent_program_is_accused() {
    require!(Need::Ptrace);
    let accused = corpus::side_by_side(AT_A_TIME, everything("innocent"), |(program, profile)| {
        let fixture = Fixture::start_with(program.binary, profile, &[&program.name]);
        // One look at each build: `cargo xtask soak` takes many.
        let check = ["check", &fixture.pid_argument(), "--json", "--fail-on", "all"];
        let accusations = corpus::accusations(&Gordian::new(check).run().json());
        let wrong = |accusation| format!("{} ({}) {accusation}", program.name, profile.name());
        accusations.into_iter().map(wrong).collect::<Vec<_>>()
    });
    let accused: Vec<String> = accused.into_iter().flatten().collect();
    assert!(accused.is_empty(), "{} accusations:\n{}", accused.len(), accused.join("\n"));
}

/// The corpus is as large as it says, and every line that it expects is marked.
#[test]
fn the_corpus_is_whole() {
    let guilty = corpus::programs("guilty", Profile::Release);
    for program in &guilty {
        assert!(!list(&program.expected["parties"]).is_empty(), "{} has no parties", program.name);
        for marker in list(&program.expected["lines"]) {
            gordian_tests::programs::marked_line(&program.source(), gordian_tests::json::text(marker));
        }
    }
    for program in guilty.iter().chain(&corpus::programs("innocent", Profile::Release)) {
        let source = std::fs::read_to_string(program.source()).expect("a file of its own");
        assert!(source.starts_with("//! "), "{} does not say what it is", program.name);
    }
}

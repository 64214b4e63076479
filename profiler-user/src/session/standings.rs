//! Findings over time: one identity each while it stands, closed when it ends, known again when it comes back.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Instant, SystemTime},
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::Finding;

/// Looks that may fail to confirm a finding whose parties were not seen to move, before it counts as ended.
const PATIENCE: u32 = 3;
/// Ended findings that a view shows.
const SHOWN: usize = 32;
/// Ended findings that are remembered, so that they are known when they come back.
const REMEMBERED: usize = 4096;

/// A finding that stands.
struct Standing {
    finding: Finding,
    /// When it was last confirmed.
    confirmed: Instant,
    /// Looks since then.
    missed: u32,
}

/// All that stood and stands.
#[derive(Default)]
pub(super) struct Standings {
    standing: FxHashMap<String, Standing>,
    /// How many times each has ended.
    endings: FxHashMap<String, u32>,
    ended: VecDeque<Finding>,
}

impl Standings {
    /// Takes in the findings of a look at `taken_at`, and puts onto each what earlier looks know. `formed` tells when a
    /// finding that is new formed; `moved` whether a party of one has moved since it was last confirmed.
    pub(super) fn follow(
        &mut self,
        findings: &mut Vec<Finding>,
        taken_at: Instant,
        now: SystemTime,
        formed: impl Fn(&Finding) -> Option<SystemTime>,
        moved: impl Fn(&Finding, Instant) -> bool,
    ) -> Arc<[Finding]> {
        for finding in findings.iter_mut() {
            if let Some(known) = self.standing.get(&finding.id) {
                finding.first_seen = known.finding.first_seen;
                finding.formed_at = known.finding.formed_at;
            } else {
                finding.first_seen = now;
                finding.formed_at = finding.formed_at.or_else(|| formed(finding));
            }
            finding.returned = self.endings.get(&finding.id).copied().unwrap_or(0);
            let standing = Standing { finding: finding.clone(), confirmed: taken_at, missed: 0 };
            self.standing.insert(finding.id.clone(), standing);
        }
        let seen: FxHashSet<String> = findings.iter().map(|finding| finding.id.clone()).collect();
        let mut over = Vec::new();
        for (id, standing) in self.standing.iter_mut().filter(|(id, _)| !seen.contains(*id)) {
            standing.missed += 1;
            // What parties that may since have moved are said to do is only kept where they have not.
            if standing.missed > PATIENCE || moved(&standing.finding, standing.confirmed) {
                over.push(id.clone());
            } else {
                findings.push(standing.finding.clone());
            }
        }
        findings.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        for id in over {
            self.end(&id, now);
        }
        self.ended.iter().take(SHOWN).cloned().collect()
    }

    fn end(&mut self, id: &str, now: SystemTime) {
        let Some(standing) = self.standing.remove(id) else { return };
        if self.endings.len() >= REMEMBERED {
            self.endings.clear();
        }
        *self.endings.entry(id.to_owned()).or_default() += 1;
        self.ended.push_front(Finding { ended_at: Some(now), ..standing.finding });
        self.ended.truncate(SHOWN);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Certainty, FindingKind};

    fn deadlock() -> Finding {
        Finding::new("deadlock-1".into(), FindingKind::Deadlock, Certainty::Proved, String::new())
    }

    struct Watch {
        standings: Standings,
        begin: Instant,
        looks: u64,
    }

    impl Watch {
        fn new() -> Self {
            Self { standings: Standings::default(), begin: Instant::now(), looks: 0 }
        }

        /// A look, a second after the one before.
        fn look(&mut self, found: bool, moved: bool) -> (Vec<Finding>, Arc<[Finding]>) {
            self.looks += 1;
            let second = Duration::from_secs(self.looks);
            let mut findings = if found { vec![deadlock()] } else { Vec::new() };
            let now = SystemTime::UNIX_EPOCH + second;
            let ended = self.standings.follow(&mut findings, self.begin + second, now, |_| None, |_, _| moved);
            (findings, ended)
        }
    }

    #[test]
    fn a_look_that_confirms_nothing_ends_nothing_while_nobody_moved() {
        let mut watch = Watch::new();
        watch.look(true, false);
        for found in [false, false, false, true, false] {
            let (findings, ended) = watch.look(found, false);
            assert_eq!((findings.len(), ended.len()), (1, 0));
            assert_eq!(findings[0].first_seen, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        }
        for _ in 0..PATIENCE {
            watch.look(false, false);
        }
        let (findings, ended) = watch.look(false, false);
        assert_eq!((findings.len(), ended.len()), (0, 1));
    }

    #[test]
    fn an_end_has_its_duration_and_a_return_is_told() {
        let mut watch = Watch::new();
        watch.look(true, false);
        watch.look(true, false);
        let (findings, ended) = watch.look(false, true);
        assert_eq!(findings, []);
        assert_eq!(ended[0].lasted(), Some(Duration::from_secs(2)));
        let (findings, _) = watch.look(true, false);
        assert_eq!((findings[0].returned, findings[0].ended_at), (1, None));
        assert_eq!(findings[0].first_seen, SystemTime::UNIX_EPOCH + Duration::from_secs(4));
        watch.look(false, true);
        assert_eq!(watch.look(true, false).0[0].returned, 2);
    }
}

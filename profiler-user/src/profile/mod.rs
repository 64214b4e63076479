//! Stacks to weights: on-CPU, off-CPU and await profiles.

use std::{collections::HashMap, sync::Arc};

/// Stacks and how often, or for how long, they were seen. Frames are root first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Weight of each stack: samples, or nanoseconds, as whoever fills it decides.
    pub stacks: HashMap<Vec<Arc<str>>, u64>,
    /// Sum of all weights.
    pub total: u64,
    /// Samples that were taken and did not arrive.
    pub lost: u64,
    /// Weight, within `total`, of stacks whose root is missing.
    pub incomplete: u64,
}

impl Profile {
    /// Adds a whole stack, root first.
    pub fn add(&mut self, stack: Vec<Arc<str>>, weight: u64) {
        *self.stacks.entry(stack).or_default() += weight;
        self.total += weight;
    }

    /// Adds a stack whose root is missing.
    pub fn add_incomplete(&mut self, stack: Vec<Arc<str>>, weight: u64) {
        self.add(stack, weight);
        self.incomplete += weight;
    }

    /// The stacks as `a;b;c weight`, sorted: what flamegraph tools read. A stack without frames is left out.
    ///
    /// A `;` in a name would end its frame, and a control character its line: they become `:` and spaces.
    pub fn folded(&self) -> Vec<String> {
        let stacks = self.stacks.iter().filter(|(stack, _)| !stack.is_empty());
        let mut lines: Vec<String> = stacks
            .map(|(stack, weight)| {
                let frames: Vec<String> = stack.iter().map(|frame| folded_name(frame)).collect();
                format!("{} {weight}", frames.join(";"))
            })
            .collect();
        lines.sort_unstable();
        lines
    }
}

fn folded_name(name: &str) -> String {
    let safe = |c: char| match c {
        ';' => ':',
        c if c.is_control() => ' ',
        c => c,
    };
    name.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frames: &[&str]) -> Vec<Arc<str>> {
        frames.iter().map(|frame| Arc::from(*frame)).collect()
    }

    #[test]
    fn equal_stacks_share_a_line_and_lines_are_sorted() {
        let mut profile = Profile::default();
        profile.add(stack(&["main", "b"]), 2);
        profile.add(stack(&["main", "a"]), 1);
        profile.add_incomplete(stack(&["main", "b"]), 3);
        assert_eq!(profile.folded(), ["main;a 1", "main;b 5"]);
        assert_eq!((profile.total, profile.incomplete), (6, 3));
    }

    #[test]
    fn names_cannot_break_out_of_their_frame_or_line() {
        let mut profile = Profile::default();
        profile.add(stack(&["[u8; 4]::x", "evil\n9"]), 1);
        profile.add(Vec::new(), 7);
        assert_eq!(profile.folded(), ["[u8: 4]::x;evil 9 1"]);
    }
}

//! Folded stacks to a flamegraph.

use std::io::Write;

use inferno::flamegraph;

use super::escape;

/// Why no flamegraph was written.
#[derive(Debug, thiserror::Error)]
pub enum FlamegraphError {
    /// There was nothing to draw.
    #[error("no samples: nothing to draw")]
    Empty,
    /// It could not be drawn or written.
    #[error("could not write the flamegraph: {0}")]
    Write(std::io::Error),
}

/// What a flamegraph says about itself.
#[derive(Clone, Debug)]
pub struct Caption {
    /// Above the graph.
    pub title: String,
    /// Below the title: what was lost or could not be read belongs here.
    pub subtitle: Option<String>,
    /// What a weight counts: `samples`, `ms`.
    pub unit: String,
}

/// Draws `folded` (lines `root;...;leaf WEIGHT`) as an SVG with search and zoom.
///
/// # Errors
/// [`FlamegraphError::Empty`] without lines, [`FlamegraphError::Write`] when `out` refuses.
pub fn svg(folded: &[String], caption: &Caption, out: impl Write) -> Result<(), FlamegraphError> {
    if folded.is_empty() {
        return Err(FlamegraphError::Empty);
    }
    let lines: Vec<_> = folded.iter().map(|line| escape(line)).collect();
    let mut options = flamegraph::Options::default();
    options.title = escape(&caption.title).into_owned();
    options.subtitle = caption.subtitle.as_deref().map(|text| escape(text).into_owned());
    options.count_name.clone_from(&caption.unit);
    options.deterministic = true;
    flamegraph::from_lines(&mut options, lines.iter().map(AsRef::as_ref), out).map_err(FlamegraphError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption() -> Caption {
        Caption { title: "app (pid 7)".into(), subtitle: Some("2 samples lost".into()), unit: "samples".into() }
    }

    #[test]
    fn frames_and_caption_are_drawn_and_hostile_names_are_not_markup() {
        let folded = ["app::serve;app::parse 3".to_owned(), "app::serve;<script>\x1b[2J</script> 1".to_owned()];
        let mut out = Vec::new();
        svg(&folded, &caption(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("app::parse (3 samples, 75.00%)"), "{text}");
        assert!(text.contains("app (pid 7)") && text.contains("2 samples lost"), "{text}");
        assert!(text.contains("&lt;script&gt;\\u{1b}[2J"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn nothing_sampled_is_an_error() {
        assert!(matches!(svg(&[], &caption(), Vec::new()), Err(FlamegraphError::Empty)));
    }
}

//! Where everything stands on a screen of a given size. The state pages by it, the drawing fills it.

use ratatui::layout::Rect;

/// The panes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    /// The table of tasks.
    #[default]
    Tasks,
    /// The selected task and its wait-for graph.
    Detail,
    /// Workers and other threads.
    Workers,
    /// What was found.
    Findings,
    /// What is missing.
    Health,
}

impl Pane {
    /// All, in the order in which Tab goes through them.
    pub(super) const ALL: [Self; 5] = [Self::Tasks, Self::Detail, Self::Workers, Self::Findings, Self::Health];

    /// The pane `by` places further, going round.
    #[must_use]
    pub(super) fn moved(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|&pane| pane == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    /// What its title says.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Tasks => "Tasks",
            Self::Detail => "Detail",
            Self::Workers => "Workers",
            Self::Findings => "Findings",
            Self::Health => "Health",
        }
    }
}

/// Where everything stands. What has no room has no height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Target and counts.
    pub header: Rect,
    /// The worst finding.
    pub banner: Rect,
    /// The panes on the screen, each with its title line.
    pub panes: Vec<(Pane, Rect)>,
    /// Missing and lost.
    pub notes: Rect,
    /// Keys, or the filter being typed.
    pub footer: Rect,
}

/// What the layout depends on besides the size of the screen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    /// The pane with the keyboard.
    pub focus: Pane,
    /// The pane that shares the screen with the table while that has the keyboard.
    pub companion: Pane,
    /// The focused pane alone.
    pub zoom: bool,
    /// Lines of the findings banner.
    pub banner: u16,
    /// Lines of notes.
    pub notes: u16,
}

impl Layout {
    /// The layout of a screen of `width` × `height`.
    pub(super) fn new(width: u16, height: u16, wishes: Wishes) -> Self {
        let mut left = height;
        let mut take = |wanted: u16, keep: u16| {
            let taken = wanted.min(left.saturating_sub(keep));
            left -= taken;
            taken
        };
        // What is given room first is given up last: the body always keeps a title and two lines.
        let footer = take(1, 3);
        let header = take(1, 3);
        let banner = take(wishes.banner, 5);
        // A third of a small screen is enough to say what is missing; the health pane has it whole.
        let notes = take(wishes.notes.min(height / 3), 5);
        let body = Rect::new(0, header + banner, width, left);
        Self {
            header: Rect::new(0, 0, width, header),
            banner: Rect::new(0, header, width, banner),
            panes: panes(body, wishes),
            notes: Rect::new(0, body.y + body.height, width, notes),
            footer: Rect::new(0, body.y + body.height + notes, width, footer),
        }
    }

    /// Where `pane` stands, if it is on the screen.
    pub(super) fn pane(&self, pane: Pane) -> Option<Rect> {
        self.panes.iter().find(|(p, _)| *p == pane).map(|(_, rect)| *rect)
    }
}

/// Heights and widths from which the screen is shared.
const SPLIT_HEIGHT: u16 = 14;
const SPLIT_WIDTH: u16 = 130;

fn panes(body: Rect, wishes: Wishes) -> Vec<(Pane, Rect)> {
    if wishes.zoom || body.height < SPLIT_HEIGHT {
        return vec![(wishes.focus, body)];
    }
    let top = body.height / 2;
    let table = Rect { height: top, ..body };
    let below = Rect { y: body.y + top, height: body.height - top, ..body };
    let companion = if wishes.focus == Pane::Tasks { wishes.companion } else { wishes.focus };
    let mut panes = vec![(Pane::Tasks, table)];
    if body.width < SPLIT_WIDTH {
        panes.push((companion, below));
        return panes;
    }
    let left = Rect { width: body.width * 3 / 5, ..below };
    let right = Rect { x: below.x + left.width + 1, width: below.width - left.width - 1, ..below };
    let beside = if matches!(companion, Pane::Detail | Pane::Tasks) { Pane::Workers } else { companion };
    panes.extend([(Pane::Detail, left), (beside, right)]);
    panes
}

//! What a finding says, by the schedule of the moment, and against what is known of its position.

use crate::block::Height;
use crate::sync::{Content, Finding, Found, Seen, SeenBlock, Sighting};
use crate::verify::Schedule;

impl Finding {
    /// A block that was checked by another schedule may be of a proposer whom this one does not name.
    pub(super) fn judged_by(mut self, schedule: &Schedule) -> Self {
        if let Found::Bytes { content, .. } = &mut self.what
            && let Content::Block(block) = content
        {
            let header = block.block().header();
            if !schedule.names(header) {
                *content = Content::Unscheduled { height: header.height, proposer: header.proposer };
            }
        }
        self
    }
}

impl Found {
    /// Whether these are the bytes of a block that was passed over by another schedule, and that this one names.
    pub(super) fn is_scheduled_after_all(&self, schedule: &Schedule) -> bool {
        match self {
            Self::Bytes { content: Content::Unscheduled { height, proposer }, .. } => {
                schedule.proposer_at(*height) == Some(*proposer)
            }
            Self::Bytes { .. } | Self::Digest(_) | Self::Named(_) => false,
        }
    }
}

impl Sighting {
    /// Whether this says of the position what cannot be true together with it; bytes say all that their digest does.
    pub(super) fn is_contradicted_by(&self, height: Height, found: &Found) -> bool {
        match (&self.what, found) {
            (Seen::Named(was), Found::Named(is)) => was != is || self.height != height,
            (Seen::Digest(was), Found::Digest(is)) => was != is || self.height != height,
            (Seen::Block(SeenBlock { digest: was, .. }), Found::Digest(is)) => was != is,
            (Seen::Oversized(was), Found::Digest(is)) => was.digest != *is,
            (what, Found::Bytes { digest, content: Content::Block(_) }) => what.digest() != Some(*digest),
            _ => true,
        }
    }
}

//! What may be said on a stream, and when, beside the contract of the host that reads it.
//!
//! Invariants:
//! 1. Nothing is told that was not announced as durable.
//! 2. Where damage took blocks, that is said before anything else.
//! 3. A host is sent back only from what this node has taken back since the stream was opened, from what was given up, or refused by
//!    a host's execution, or from where our own hard block has decided.

use blocksyncd::block::{BlockId, Height};
use blocksyncd::sync::cursor::Step;
use blocksyncd::sync::{DataLoss, Epoch, Heads};

use super::disk::Image;
use super::host::HostState;

#[derive(Debug, Default)]
pub struct Told {
    lost: Option<DataLoss>,
    epoch: Epoch,
}

impl Told {
    pub fn on_a_new_stream(heads: &Heads) -> Self {
        Self { lost: None, epoch: heads.epoch }
    }

    /// It goes on from the newest block, and need not hear of what is missing below.
    pub fn knows_of_losses(&mut self, heads: &Heads) {
        self.lost = heads.lost;
    }

    /// Before it is taken to heart by the host, which is in this state.
    pub fn check(&mut self, step: Step, announced: &Heads, image: &Image, host: &HostState) -> Result<(), String> {
        match step {
            Step::Soft(height) if Some(height) > announced.soft_height() => {
                Err(format!("soft({height}) is told, and was not announced: {announced:?}"))
            }
            Step::Hard(height) if Some(height) > announced.hard_height() => {
                Err(format!("hard({height}) is told, and was not announced: {announced:?}"))
            }
            Step::Soft(_) | Step::Hard(_) => self.has_said_losses(image.heads.lost),
            Step::DataLoss(lost) => {
                self.lost = Some(lost);
                Ok(())
            }
            Step::Retract { to, .. } => self.may_be_sent_back(to, image, host),
            _ => Ok(()),
        }
    }

    fn has_said_losses(&self, lost: Option<DataLoss>) -> Result<(), String> {
        let covers = |lost: &DataLoss| self.lost.is_some_and(|said| said.from <= lost.from && lost.to <= said.to);
        match lost.filter(|lost| !covers(lost)) {
            Some(lost) => Err(format!("{lost:?} is not said, but {:?}", self.lost)),
            None => Ok(()),
        }
    }

    fn may_be_sent_back(&mut self, to: Option<BlockId>, image: &Image, host: &HostState) -> Result<(), String> {
        let is_above = |id: &&BlockId| to.is_none_or(|to| id.height > to.height);
        let mut above = host.chain.iter().filter(is_above).peekable();
        let lowest: Option<Height> = above.peek().map(|id| id.height);
        let is_decided = lowest.is_none_or(|lowest| Some(lowest) <= image.heads.hard_height());
        let was_taken_back = image.heads.epoch > self.epoch
            || above.any(|id| image.disowned.contains_key(id) || image.vetoed == Some(*id));
        self.epoch = image.heads.epoch;
        if is_decided || was_taken_back {
            return Ok(());
        }
        Err(format!("sent back to {to:?} from {:?}, and nothing has decided: {:?}", host.tip(), image.heads))
    }
}

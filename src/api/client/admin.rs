//! The schema's `Admin`, as an operator calls it.

use std::rc::Rc;

use super::types::{CheckpointAnswer, PeerLists};
use super::{ClientError, Connection, OperatorOutcome, ShutdownMode, StatusView, convert, read, status, wire};
use crate::block::{BlockId, Height};
use crate::sync::{Evidence, EvidenceId, PeerOrder};
use crate::verify::ScheduleEntry;

/// What an operator may ask and command.
#[derive(Clone)]
pub struct Admin {
    admin: wire::admin::Client,
    _connection: Rc<Connection>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin")
    }
}

impl Admin {
    pub(super) fn new(admin: wire::admin::Client, connection: Rc<Connection>) -> Self {
        Self { admin, _connection: connection }
    }

    pub async fn status(&self) -> Result<StatusView, ClientError> {
        let answer = self.admin.status_request().send().promise.await?;
        Ok(status::read(answer.get()?.get_status()?)?)
    }

    pub async fn peers(&self) -> Result<PeerLists, ClientError> {
        let answer = self.admin.peers_request().send().promise.await?;
        Ok(PeerLists {
            peers: answer.get()?.get_peers()?.iter().map(read::peer).collect::<Result<_, _>>()?,
            bans: answer.get()?.get_bans()?.iter().map(read::ban).collect::<Result<_, _>>()?,
        })
    }

    /// Takes the entry of the schedule back that begins at this height.
    pub async fn withdraw_schedule(&self, from: Height) -> Result<OperatorOutcome, ClientError> {
        let mut request = self.admin.withdraw_schedule_request();
        request.get().set_from_height(from.get());
        outcome(request.send().promise.await?.get()?.get_result()?)
    }

    /// What was reported of DA from this DA height on is read again.
    pub async fn rescan_da(&self, from: u64) -> Result<OperatorOutcome, ClientError> {
        let mut request = self.admin.rescan_da_request();
        request.get().set_from(from);
        outcome(request.send().promise.await?.get()?.get_result()?)
    }

    /// What another node may begin with, by this one's word; or why there is nothing.
    pub async fn checkpoint(&self) -> Result<CheckpointAnswer, ClientError> {
        use wire::checkpoint_result::Which;
        let answer = self.admin.checkpoint_request().send().promise.await?;
        let from = answer.get()?.get_result()?;
        Ok(match from.which()? {
            Which::Checkpoint(from) => {
                let checkpoint = convert::optional_checkpoint(from?)?;
                CheckpointAnswer::Here(checkpoint.ok_or_else(|| convert::wrong("a checkpoint without a block"))?)
            }
            Which::None(why) => CheckpointAnswer::None(convert::text(why?)?),
        })
    }

    /// In force, and on disk, when it is done.
    pub async fn order(&self, order: &PeerOrder) -> Result<OperatorOutcome, ClientError> {
        match order {
            PeerOrder::Add { address } => {
                let mut request = self.admin.add_peer_request();
                request.get().set_address(address);
                outcome(request.send().promise.await?.get()?.get_result()?)
            }
            PeerOrder::Remove { peer } => {
                let mut request = self.admin.remove_peer_request();
                request.get().set_peer_id(peer);
                outcome(request.send().promise.await?.get()?.get_result()?)
            }
            PeerOrder::Ban { subject, duration, reason } => {
                let mut request = self.admin.ban_peer_request();
                request.get().set_subject(subject);
                request.get().set_seconds(duration.as_secs());
                request.get().set_reason(reason);
                outcome(request.send().promise.await?.get()?.get_result()?)
            }
            PeerOrder::Unban { subject } => {
                let mut request = self.admin.unban_peer_request();
                request.get().set_subject(subject);
                outcome(request.send().promise.await?.get()?.get_result()?)
            }
        }
    }

    /// What each named consumer has acknowledged.
    pub async fn consumers(&self) -> Result<Vec<(String, BlockId)>, ClientError> {
        let answer = self.admin.consumers_request().send().promise.await?;
        let consumers = answer.get()?.get_consumers()?;
        Ok(consumers.iter().map(read::consumer).collect::<Result<_, _>>()?)
    }

    /// Pruning waits for this consumer no longer.
    pub async fn forget_consumer(&self, name: &str) -> Result<OperatorOutcome, ClientError> {
        let mut request = self.admin.forget_consumer_request();
        request.get().set_name(name);
        outcome(request.send().promise.await?.get()?.get_result()?)
    }

    /// At most `max`, ascending, above `after`.
    pub async fn evidence(&self, after: EvidenceId, max: u32) -> Result<Vec<Evidence>, ClientError> {
        let mut request = self.admin.evidence_request();
        request.get().set_after(after.0);
        request.get().set_max(max);
        let answer = request.send().promise.await?;
        Ok(answer.get()?.get_evidence()?.iter().map(read::evidence).collect::<Result<_, _>>()?)
    }

    pub async fn schedule(&self) -> Result<Vec<ScheduleEntry>, ClientError> {
        let answer = self.admin.schedule_request().send().promise.await?;
        Ok(answer.get()?.get_entries()?.iter().map(read::schedule_entry).collect::<Result<_, _>>()?)
    }

    pub async fn extend_schedule(&self, entry: ScheduleEntry) -> Result<OperatorOutcome, ClientError> {
        let mut request = self.admin.extend_schedule_request();
        let mut to = request.get().init_entry();
        to.set_from_height(entry.from.get());
        to.set_proposer(&entry.proposer.0);
        outcome(request.send().promise.await?.get()?.get_result()?)
    }

    /// After a divergence on DA: takes back our own branch from this block on.
    pub async fn abandon_branch(&self, from: BlockId) -> Result<OperatorOutcome, ClientError> {
        let mut request = self.admin.abandon_branch_request();
        convert::set_id(request.get().init_from(), from);
        outcome(request.send().promise.await?.get()?.get_result()?)
    }

    /// The last block that the node's key ever signed; `None`: it never signed.
    pub async fn assert_signed(&self, last: Option<BlockId>) -> Result<OperatorOutcome, ClientError> {
        let mut request = self.admin.assert_signed_request();
        if let Some(last) = last {
            convert::set_id(request.get().init_last(), last);
        }
        outcome(request.send().promise.await?.get()?.get_result()?)
    }

    /// Gives up a block of which nobody can show what it stands on.
    pub async fn disown(&self, block: BlockId) -> Result<OperatorOutcome, ClientError> {
        let mut request = self.admin.disown_request();
        convert::set_id(request.get().init_block(), block);
        outcome(request.send().promise.await?.get()?.get_result()?)
    }

    pub async fn lift_veto(&self) -> Result<OperatorOutcome, ClientError> {
        outcome(self.admin.lift_veto_request().send().promise.await?.get()?.get_result()?)
    }

    pub async fn set_log_filter(&self, filter: &str) -> Result<OperatorOutcome, ClientError> {
        let mut request = self.admin.set_log_filter_request();
        request.get().set_filter(filter);
        outcome(request.send().promise.await?.get()?.get_result()?)
    }

    pub async fn shutdown(&self, mode: ShutdownMode) -> Result<(), ClientError> {
        let mut request = self.admin.shutdown_request();
        request.get().set_abrupt(mode == ShutdownMode::Abrupt);
        request.send().promise.await?;
        Ok(())
    }
}

fn outcome(from: wire::operator_result::Reader<'_>) -> Result<OperatorOutcome, ClientError> {
    use wire::operator_result::Which;
    Ok(match from.which()? {
        Which::Done(()) => OperatorOutcome::Done,
        Which::Refused(why) => OperatorOutcome::Refused(convert::text(why?)?),
    })
}

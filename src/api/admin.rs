//! The schema's `Admin`: what an operator may ask and order. Whoever may open the socket is one.

use std::rc::Rc;
use std::time::Duration;

use capnp::Error;
use tokio::sync::oneshot;

use super::Request;
use super::blocksync_capnp as wire;
use super::convert;
use super::limits::MAX_EVIDENCE;
use super::orders::{OperatorOutcome, ShutdownMode};
use super::shared::{ClientConnection, store_error};
use crate::block::PublicKey;
use crate::sync::{Command, EvidenceId, EvidenceSide, PeerList, PeerOrder, Status};
use crate::verify::ScheduleEntry;

pub(super) struct Admin {
    pub connection: Rc<ClientConnection>,
}

impl Admin {
    /// Asks for something that is done or refused.
    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Request,
        mut to: wire::operator_result::Builder<'_>,
    ) -> capnp::Result<()> {
        match self.connection.server.ask(order).await?.into() {
            OperatorOutcome::Done => to.set_done(()),
            OperatorOutcome::Refused(why) => to.set_refused(why),
        }
        Ok(())
    }

    async fn order_peers(&self, order: PeerOrder, to: wire::operator_result::Builder<'_>) -> capnp::Result<()> {
        self.order(|reply| Request::OrderPeers { order, reply }, to).await
    }

    async fn command(&self, command: Command, to: wire::operator_result::Builder<'_>) -> capnp::Result<()> {
        tracing::warn!(?command, "an operator's command");
        self.order(|reply| Request::Operate { command, reply }, to).await
    }
}

fn why_no_checkpoint(status: &Status) -> &'static str {
    match (status.heads.floor, status.heads.hard) {
        (Some(_), _) => "DA was not read here above the block that sync.from names: use that line again",
        (None, Some(_)) => "DA was not read here",
        (None, None) => "DA has confirmed nothing here yet",
    }
}

impl wire::admin::Server for Admin {
    async fn status(
        self: Rc<Self>,
        _: wire::admin::StatusParams,
        mut results: wire::admin::StatusResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        self.connection.server.write_status(results.get().init_status()).await
    }

    async fn peers(
        self: Rc<Self>,
        _: wire::admin::PeersParams,
        mut results: wire::admin::PeersResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let PeerList { peers, bans } = self.connection.server.ask(|reply| Request::Peers { reply }).await?;
        let len = convert::count(peers.len());
        let mut list = results.get().init_peers(len);
        for (index, peer) in (0..len).zip(&peers) {
            convert::set_peer(list.reborrow().get(index), peer);
        }
        let len = convert::count(bans.len());
        let mut list = results.get().init_bans(len);
        for (index, ban) in (0..len).zip(&bans) {
            convert::set_ban(list.reborrow().get(index), ban);
        }
        Ok(())
    }

    async fn add_peer(
        self: Rc<Self>,
        params: wire::admin::AddPeerParams,
        mut results: wire::admin::AddPeerResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let address = convert::text(params.get()?.get_address()?)?;
        drop(params);
        self.order_peers(PeerOrder::Add { address }, results.get().init_result()).await
    }

    async fn remove_peer(
        self: Rc<Self>,
        params: wire::admin::RemovePeerParams,
        mut results: wire::admin::RemovePeerResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let peer = convert::text(params.get()?.get_peer_id()?)?;
        drop(params);
        self.order_peers(PeerOrder::Remove { peer }, results.get().init_result()).await
    }

    async fn ban_peer(
        self: Rc<Self>,
        params: wire::admin::BanPeerParams,
        mut results: wire::admin::BanPeerResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let from = params.get()?;
        let subject = convert::text(from.get_subject()?)?;
        let reason = convert::text(from.get_reason()?)?;
        let duration = Duration::from_secs(from.get_seconds());
        drop(params);
        self.order_peers(PeerOrder::Ban { subject, duration, reason }, results.get().init_result()).await
    }

    async fn unban_peer(
        self: Rc<Self>,
        params: wire::admin::UnbanPeerParams,
        mut results: wire::admin::UnbanPeerResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let subject = convert::text(params.get()?.get_subject()?)?;
        drop(params);
        self.order_peers(PeerOrder::Unban { subject }, results.get().init_result()).await
    }

    async fn consumers(
        self: Rc<Self>,
        _: wire::admin::ConsumersParams,
        mut results: wire::admin::ConsumersResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let (acks, _permit) = self.connection.read(|view| view.acks()).await?;
        let acks = acks.map_err(store_error)?;
        let len = convert::count(acks.len());
        let mut list = results.get().init_consumers(len);
        for (index, (name, acked)) in (0..len).zip(&acks) {
            let mut to = list.reborrow().get(index);
            to.set_name(name);
            convert::set_id(to.init_acked(), *acked);
        }
        Ok(())
    }

    async fn forget_consumer(
        self: Rc<Self>,
        params: wire::admin::ForgetConsumerParams,
        mut results: wire::admin::ForgetConsumerResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let name = convert::text(params.get()?.get_name()?)?;
        drop(params);
        self.command(Command::ForgetConsumer(name), results.get().init_result()).await
    }

    async fn rescan_da(
        self: Rc<Self>,
        params: wire::admin::RescanDaParams,
        mut results: wire::admin::RescanDaResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let from = params.get()?.get_from();
        drop(params);
        self.command(Command::RescanDa(from), results.get().init_result()).await
    }

    async fn checkpoint(
        self: Rc<Self>,
        _: wire::admin::CheckpointParams,
        mut results: wire::admin::CheckpointResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let status = self.connection.server.ask(|reply| Request::Status { reply }).await?;
        let mut to = results.get().init_result();
        match status.core.checkpoint {
            Some(checkpoint) => convert::set_checkpoint(to.init_checkpoint(), checkpoint),
            None => to.set_none(why_no_checkpoint(&status.core)),
        }
        Ok(())
    }

    async fn evidence(
        self: Rc<Self>,
        params: wire::admin::EvidenceParams,
        mut results: wire::admin::EvidenceResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let (after, max) = (params.get()?.get_after(), params.get()?.get_max());
        drop(params);
        let max = if max == 0 { MAX_EVIDENCE } else { max.min(MAX_EVIDENCE) } as usize;
        let (found, _permit) = self.connection.read(move |view| view.evidence(EvidenceId(after), max)).await?;
        let found = found.map_err(store_error)?;
        let len = convert::count(found.len());
        let mut list = results.get().init_evidence(len);
        for (index, evidence) in (0..len).zip(&found) {
            let mut to = list.reborrow().get(index);
            to.set_id(evidence.id.0);
            to.set_height(evidence.height.get());
            // Only carried evidence leaves the store.
            if let EvidenceSide::Carried(first) = &evidence.first {
                to.set_first_header(&first.header);
                to.set_first_signature(&first.signature);
            }
            to.set_second_header(&evidence.second.header);
            to.set_second_signature(&evidence.second.signature);
        }
        Ok(())
    }

    async fn schedule(
        self: Rc<Self>,
        _: wire::admin::ScheduleParams,
        mut results: wire::admin::ScheduleResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let entries = self.connection.server.ask(|reply| Request::Schedule { reply }).await?;
        let len = convert::count(entries.len());
        let mut list = results.get().init_entries(len);
        for (index, entry) in (0..len).zip(&entries) {
            let mut to = list.reborrow().get(index);
            to.set_from_height(entry.from.get());
            to.set_proposer(&entry.proposer.0);
        }
        Ok(())
    }

    async fn extend_schedule(
        self: Rc<Self>,
        params: wire::admin::ExtendScheduleParams,
        mut results: wire::admin::ExtendScheduleResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let entry = {
            let from = params.get()?.get_entry()?;
            let proposer = PublicKey::from_slice(from.get_proposer()?)
                .ok_or_else(|| Error::failed("a public key has 32 bytes".into()))?;
            ScheduleEntry { from: convert::height(from.get_from_height())?, proposer }
        };
        drop(params);
        self.command(Command::ExtendSchedule(entry), results.get().init_result()).await
    }

    async fn withdraw_schedule(
        self: Rc<Self>,
        params: wire::admin::WithdrawScheduleParams,
        mut results: wire::admin::WithdrawScheduleResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let from = convert::height(params.get()?.get_from_height())?;
        drop(params);
        self.command(Command::WithdrawSchedule(from), results.get().init_result()).await
    }

    async fn abandon_branch(
        self: Rc<Self>,
        params: wire::admin::AbandonBranchParams,
        mut results: wire::admin::AbandonBranchResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let from = convert::id(params.get()?.get_from()?)?;
        drop(params);
        self.command(Command::AbandonBranch(from), results.get().init_result()).await
    }

    async fn assert_signed(
        self: Rc<Self>,
        params: wire::admin::AssertSignedParams,
        mut results: wire::admin::AssertSignedResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let last = convert::optional_id(params.get()?.get_last()?)?;
        drop(params);
        self.command(Command::AssertSigned(last), results.get().init_result()).await
    }

    async fn disown(
        self: Rc<Self>,
        params: wire::admin::DisownParams,
        mut results: wire::admin::DisownResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let block = convert::id(params.get()?.get_block()?)?;
        drop(params);
        self.command(Command::Disown(block), results.get().init_result()).await
    }

    async fn lift_veto(
        self: Rc<Self>,
        _: wire::admin::LiftVetoParams,
        mut results: wire::admin::LiftVetoResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        self.command(Command::LiftVeto, results.get().init_result()).await
    }

    async fn set_log_filter(
        self: Rc<Self>,
        params: wire::admin::SetLogFilterParams,
        mut results: wire::admin::SetLogFilterResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let filter = convert::text(params.get()?.get_filter()?)?;
        drop(params);
        self.order(|reply| Request::SetLogFilter { filter, reply }, results.get().init_result()).await
    }

    async fn shutdown(
        self: Rc<Self>,
        params: wire::admin::ShutdownParams,
        _: wire::admin::ShutdownResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let abrupt = params.get()?.get_abrupt();
        tracing::warn!(abrupt, "an operator ends the sidecar");
        let mode = if abrupt { ShutdownMode::Abrupt } else { ShutdownMode::Drain };
        Ok(self.connection.server.tell(Request::Shutdown { mode })?)
    }
}

//! The node's side of the host: requests become inputs of the core, and its answers find who asked.
//!
//! Who asked is told once, or finds the channel closed when the process ends before.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Node;
use super::pool::{BlockChecker, CheckSource, Load};
use crate::api::{NodeStatus, ReportedAs, ReportedSighting, Request};
use crate::block::{Hash, Height, Lane};
use crate::p2p;
use crate::sync::{
    self, Answer, Command, Content, DaReport, Finding, Found, Input, Name, Proposal, PublishAnswer, Ticket,
};

/// Tickets of our own are numbered from here, so that in a log they cannot be taken for the network's.
pub(super) const FIRST_TICKET: Ticket = Ticket(1 << 63);

/// Who waits for an answer of the core.
pub(super) enum HostReply {
    Publish(oneshot::Sender<PublishAnswer>),
    Report(oneshot::Sender<sync::ReportAnswer>),
    Reject(oneshot::Sender<sync::RejectAnswer>),
    Ack(oneshot::Sender<bool>),
    Operate(oneshot::Sender<Result<(), String>>),
}

impl Node {
    fn ticket(&mut self, reply: HostReply) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.next();
        self.replies.insert(ticket, reply);
        ticket
    }

    pub(super) fn request(&mut self, request: Request) {
        match request {
            Request::Publish { proposal, reply } => self.publish(proposal, reply),
            Request::PublishSigned { bytes, reply } => self.publish_signed(bytes, reply),
            Request::Report { after, scanned_through, sightings, reply } => {
                self.report(after, scanned_through, sightings, reply);
            }
            Request::Reject { block, reply } => {
                let ticket = self.ticket(HostReply::Reject(reply));
                self.input(Input::HostRejected { ticket, block });
            }
            Request::Ack { consumer, up_to, reply } => {
                let ticket = self.ticket(HostReply::Ack(reply));
                self.input(Input::Acked { ticket, consumer, up_to });
            }
            Request::Operate { command, reply } => self.operate(command, reply),
            Request::Status { reply } => {
                let status = NodeStatus {
                    core: self.syncer.status(),
                    uptime: self.clock.now().elapsed,
                    listen: self.listen.clone(),
                    awaits_signer: self.has_guard && self.signer.is_none(),
                };
                let _ = reply.send(status);
            }
            Request::Peers { reply } => {
                let standings = self.syncer.peer_standings(self.clock.now());
                self.command(p2p::Command::Peers { standings, reply });
            }
            Request::OrderPeers { order, reply } => self.command(p2p::Command::Order { order, reply }),
            Request::Schedule { reply } => {
                let _ = reply.send(self.syncer.rules().schedule.entries().collect());
            }
            Request::SetSigner { key, signatures, reply } => {
                let _ = reply.send(self.set_signer(key, signatures));
            }
            Request::SetLogFilter { filter, reply } => {
                let _ = reply.send((self.set_log_filter)(&filter));
            }
            Request::Shutdown { mode } => {
                // The process hears it once; more of the same say nothing new.
                let _ = self.shutdown_requested.try_send(mode);
            }
        }
    }

    fn publish(&mut self, mut proposal: Proposal, reply: oneshot::Sender<PublishAnswer>) {
        let ticket = self.ticket(HostReply::Publish(reply));
        let load = Load::Block(proposal.payload.len());
        let hash = move |_: &BlockChecker| {
            proposal.payload_hash = Hash::of(&proposal.payload);
            Input::Publish { ticket, proposal }
        };
        self.check(CheckSource::Host, load, Box::new(hash));
    }

    fn publish_signed(&mut self, bytes: Bytes, reply: oneshot::Sender<PublishAnswer>) {
        let ticket = self.ticket(HostReply::Publish(reply));
        let load = Load::Block(bytes.len());
        let check =
            move |checker: &BlockChecker| Input::PublishSigned { ticket, outcome: checker.check(Lane::BLOCK, &bytes) };
        self.check(CheckSource::Host, load, Box::new(check));
    }

    fn report(
        &mut self,
        after: u64,
        scanned_through: u64,
        sightings: Vec<ReportedSighting>,
        reply: oneshot::Sender<sync::ReportAnswer>,
    ) {
        let ticket = self.ticket(HostReply::Report(reply));
        let check = move |checker: &BlockChecker| {
            let findings = sightings.into_iter().map(|sighting| check_sighting(checker, sighting)).collect();
            Input::Da { ticket, report: DaReport { after, scanned_through, findings } }
        };
        self.check(CheckSource::Host, Load::Many, Box::new(check));
    }

    /// Hands the core's answer to who waits for it. Somebody who went away waits no longer.
    pub(super) fn reply(&mut self, ticket: Ticket, answer: Answer) {
        match (self.replies.remove(&ticket), answer) {
            (Some(HostReply::Publish(reply)), Answer::Publish(answer)) => drop(reply.send(answer)),
            (Some(HostReply::Report(reply)), Answer::Report(answer)) => drop(reply.send(answer)),
            (Some(HostReply::Reject(reply)), Answer::Reject(answer)) => drop(reply.send(answer)),
            (Some(HostReply::Ack(reply)), Answer::Ack(known)) => drop(reply.send(known)),
            (Some(HostReply::Operate(reply)), Answer::Operator(outcome)) => drop(reply.send(outcome)),
            (_, answer) => tracing::error!(%ticket, ?answer, "an answer that nobody asked for: this is a bug"),
        }
    }

    fn operate(&mut self, command: Command, reply: oneshot::Sender<Result<(), String>>) {
        if let Command::AssertSigned(_) = command
            && !self.has_guard
        {
            let _ = reply.send(Err("this node has no guard file, so it never signs".to_owned()));
            return;
        }
        let ticket = self.ticket(HostReply::Operate(reply));
        self.input(Input::Operator { ticket, command });
    }
}

/// What a host reports, its bytes checked.
fn check_sighting(checker: &BlockChecker, reported: ReportedSighting) -> Finding {
    let ReportedSighting { position, height: said, what } = reported;
    let what = match what {
        ReportedAs::Digest(digest) => Found::Digest(digest),
        ReportedAs::BlockHash(hash) => Found::Named(Name::Block(hash)),
        ReportedAs::HostId(id) => Found::Named(Name::HostId(id)),
        ReportedAs::PayloadHash(hash) => Found::Named(Name::Payload(hash)),
        ReportedAs::SignedBlock(bytes) => {
            let (digest, content) = checker.look_at(Lane::BLOCK, &bytes);
            let content = content.unwrap_or_else(|fault| {
                tracing::info!(da_height = position.height, index = position.index, %fault, "junk on DA");
                Content::Junk
            });
            Found::Bytes { digest, content }
        }
    };
    let height = said.or(own_height(&what)).unwrap_or(Height::MIN);
    Finding { position, height, what }
}

/// The height that stands in the bytes, where they are given and have one.
fn own_height(what: &Found) -> Option<Height> {
    match what {
        Found::Bytes { content: Content::Block(block), .. } => Some(block.height()),
        Found::Bytes { content: Content::Unscheduled { height, .. }, .. } => Some(*height),
        Found::Bytes { content: Content::Junk, .. } | Found::Digest(_) | Found::Named(_) => None,
    }
}

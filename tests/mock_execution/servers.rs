//! The schema's interfaces, as a script answers them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use blocksyncd::block::{BlockId, Hash};

use crate::api::blocksync_capnp as wire;
use crate::blocks::{self, Piece};
use crate::script::{Answer, Heard, Reply, Said, Say, Script, Sighted, State, Then};

pub struct Root {
    pub state: Rc<State>,
    pub hang_up: Rc<tokio::sync::Notify>,
}

fn fill_info(mut info: wire::server_info::Builder<'_>, script: &Script) {
    info.set_version("scripted");
    info.set_schema_revision(wire::SCHEMA_REVISION);
    info.set_chain_id(blocks::CHAIN_ID);
    info.set_initial_height(1);
    info.set_store_id(&[1; 16]);
    let mut limits = info.reborrow().init_limits();
    limits.set_max_message_bytes(16 << 20);
    limits.set_max_block_bytes(8 << 20);
    limits.set_max_inline_bytes(4 << 20);
    limits.set_max_events(64);
    limits.set_max_wait_ms(10_000);
    limits.set_max_calls(16);
    limits.set_max_report_bytes(if script.max_report_bytes == 0 { 16 << 20 } else { script.max_report_bytes });
    info.set_phase(wire::Phase::Following);
    info.set_max_block_bytes(8 << 20);
    info.set_da_evidence(if script.named { wire::DaEvidence::Named } else { wire::DaEvidence::Block });
    fill_heads(info.init_heads(), &script.stored);
}

fn fill_heads(mut heads: wire::heads::Builder<'_>, stored: &[Piece]) {
    heads.set_tail(1);
    if let Some(top) = stored.last() {
        heads.set_soft(top.id.height.get());
        heads.set_soft_hash(&top.id.hash.0);
        heads.set_target(top.id.height.get());
    }
}

fn fill_id(mut to: wire::block_id::Builder<'_>, id: BlockId) {
    to.set_height(id.height.get());
    to.set_hash(&id.hash.0);
}

fn read_id(from: wire::block_id::Reader<'_>) -> Option<BlockId> {
    let hash = Hash::from_slice(from.get_hash().unwrap())?;
    Some(BlockId { height: blocksyncd::block::Height::new(from.get_height())?, hash })
}

fn fill_block(mut to: wire::block::Builder<'_>, piece: &Piece) {
    fill_id(to.reborrow().init_id(), piece.id);
    if let Some(parent) = piece.parent {
        to.set_parent_hash(&parent.0);
    }
    to.set_time_unix_nanos(piece.time_unix_nanos);
    to.set_proposer(&blocks::proposer().0);
    to.set_header(&piece.header);
    to.set_signature(&piece.signature);
    to.init_payload().set_inline(&piece.payload);
}

impl wire::block_sync::Server for Root {
    async fn info(
        self: Rc<Self>,
        _: wire::block_sync::InfoParams,
        mut results: wire::block_sync::InfoResults,
    ) -> Result<(), capnp::Error> {
        fill_info(results.get().init_info(), &self.state.script.borrow());
        Ok(())
    }

    async fn open(
        self: Rc<Self>,
        params: wire::block_sync::OpenParams,
        mut results: wire::block_sync::OpenResults,
    ) -> Result<(), capnp::Error> {
        let hello = params.get()?.get_hello()?;
        let mut granted = results.get().init_result().init_granted();
        fill_info(granted.reborrow().init_info(), &self.state.script.borrow());
        let state = &self.state;
        if hello.get_want_observer() {
            let observer = Observer { state: state.clone(), hang_up: self.hang_up.clone() };
            granted.set_observer(capnp_rpc::new_client(observer));
        }
        if hello.get_want_publisher() {
            granted.set_publisher(capnp_rpc::new_client(Publisher(state.clone())));
        }
        if hello.get_want_reporter() {
            granted.set_reporter(capnp_rpc::new_client(Reporter(state.clone())));
        }
        Ok(())
    }

    async fn admin(
        self: Rc<Self>,
        _: wire::block_sync::AdminParams,
        mut results: wire::block_sync::AdminResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_admin(capnp_rpc::new_client(Admin));
        Ok(())
    }
}

struct Admin;

impl wire::admin::Server for Admin {
    async fn schedule(
        self: Rc<Self>,
        _: wire::admin::ScheduleParams,
        mut results: wire::admin::ScheduleResults,
    ) -> Result<(), capnp::Error> {
        let mut entry = results.get().init_entries(1).get(0);
        entry.set_from_height(1);
        entry.set_proposer(&blocks::proposer().0);
        Ok(())
    }
}

struct Observer {
    state: Rc<State>,
    hang_up: Rc<tokio::sync::Notify>,
}

impl wire::observer::Server for Observer {
    async fn stream(
        self: Rc<Self>,
        params: wire::observer::StreamParams,
        mut results: wire::observer::StreamResults,
    ) -> Result<(), capnp::Error> {
        use wire::start_point::Which;
        let heard = match params.get()?.get_from()?.which()? {
            Which::Genesis(()) => Heard::OpenedAtGenesis,
            Which::Tip(()) => return Err(capnp::Error::failed("nobody asks for the tip here".into())),
            Which::Resume(resume) => {
                let resume = resume?;
                let locator = resume.get_locator()?.iter().filter_map(read_id).collect();
                let hard = resume.get_hard()?.get_height();
                Heard::Resumed { locator, hard: (hard > 0).then_some(hard) }
            }
        };
        let _ = self.state.heard.send(heard);
        let (says, then) = self.state.script.borrow_mut().streams.pop_front().unwrap_or_default();
        let stream = Stream {
            state: self.state.clone(),
            says: RefCell::new(says.into()),
            then: then.unwrap_or(Then::Silence),
            hang_up: self.hang_up.clone(),
        };
        results.get().init_result().set_stream(capnp_rpc::new_client(stream));
        Ok(())
    }

    async fn block(
        self: Rc<Self>,
        params: wire::observer::BlockParams,
        mut results: wire::observer::BlockResults,
    ) -> Result<(), capnp::Error> {
        let height = params.get()?.get_id()?.get_height();
        let mut result = results.get().init_result();
        match self.state.script.borrow().stored.iter().find(|piece| piece.id.height.get() == height) {
            Some(piece) => fill_block(result.init_found().init_block(), piece),
            None => result.set_not_found(()),
        }
        Ok(())
    }

    async fn status(
        self: Rc<Self>,
        _: wire::observer::StatusParams,
        mut results: wire::observer::StatusResults,
    ) -> Result<(), capnp::Error> {
        let mut status = results.get().init_status();
        fill_info(status.reborrow().init_info(), &self.state.script.borrow());
        status.set_peers(1);
        status.init_received().set_gossip(41);
        Ok(())
    }
}

struct Stream {
    state: Rc<State>,
    says: RefCell<VecDeque<Say>>,
    then: Then,
    hang_up: Rc<tokio::sync::Notify>,
}

impl wire::block_stream::Server for Stream {
    /// One event per batch, so that the host's reaction to each can be told apart.
    async fn next(
        self: Rc<Self>,
        params: wire::block_stream::NextParams,
        mut results: wire::block_stream::NextResults,
    ) -> Result<(), capnp::Error> {
        let say = self.says.borrow_mut().pop_front();
        let mut batch = results.get().init_batch();
        batch.set_phase(wire::Phase::Following);
        fill_heads(batch.reborrow().init_heads(), &self.state.script.borrow().stored);
        let Some(say) = say else {
            match self.then {
                Then::Draining => batch.set_phase(wire::Phase::Draining),
                Then::Disconnect => self.hang_up.notify_one(),
                Then::Silence => {
                    tokio::time::sleep(Duration::from_millis(params.get()?.get_wait_ms().into())).await;
                }
            }
            return Ok(());
        };
        if let Say::NameBlock(height) = say {
            batch.init_waits_for().set_name(height);
            return Ok(());
        }
        let mut event = batch.init_events(1).get(0);
        match say {
            Say::NameBlock(_) => unreachable!("is no event"),
            Say::Soft(piece) => fill_block(event.init_soft(), &piece),
            Say::Hard(id) => {
                let mut hard = event.init_hard();
                hard.set_da_height(1);
                fill_id(hard.init_id(), id);
            }
            Say::Retract(to, epoch) => {
                let mut retract = event.init_retract();
                retract.set_epoch(epoch);
                if let Some(to) = to {
                    fill_id(retract.init_to(), to);
                }
            }
            Say::Gap(from, to) => {
                let mut gap = event.reborrow().init_gap();
                gap.set_from(from);
                gap.set_to(to);
            }
        }
        Ok(())
    }

    async fn ack(
        self: Rc<Self>,
        _: wire::block_stream::AckParams,
        mut results: wire::block_stream::AckResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_known(true);
        Ok(())
    }
}

struct Publisher(Rc<State>);

impl wire::publisher::Server for Publisher {
    async fn publish(
        self: Rc<Self>,
        params: wire::publisher::PublishParams,
        mut results: wire::publisher::PublishResults,
    ) -> Result<(), capnp::Error> {
        let new = params.get()?.get_block()?;
        let (height, time_unix_nanos) = (new.get_height(), new.get_time_unix_nanos());
        let payload = new.get_payload()?.to_vec();
        let parent = self.0.script.borrow().stored.last().map(|piece| piece.id);
        let _ = self.0.heard.send(Heard::Published { height, time_unix_nanos, payload: payload.clone() });
        let answer = self.0.script.borrow_mut().answers.pop_front().unwrap_or(Answer::Accept);
        let mut result = results.get().init_result();
        let piece = blocks::block(parent, time_unix_nanos, &payload);
        match answer {
            Answer::Accept | Answer::Duplicate => {
                assert_eq!(piece.id.height.get(), height, "the host publishes the next block");
                let mut published = match answer {
                    Answer::Accept => result.init_accepted(),
                    _ => result.init_duplicate(),
                };
                published.set_signed_block(&piece.signed());
                fill_id(published.init_id(), piece.id);
                self.0.script.borrow_mut().stored.push(piece);
            }
            Answer::AnotherBlock => {
                let other = blocks::block(parent, time_unix_nanos, b"another payload");
                let mut published = result.init_accepted();
                published.set_signed_block(&other.signed());
                fill_id(published.init_id(), other.id);
            }
            Answer::NotReady => result.set_not_ready("not yet"),
            Answer::Overloaded => result.set_overloaded(1),
            Answer::NotNext { height } => {
                let mut next = result.init_not_next();
                next.set_height(height);
                if let Some(parent) = parent {
                    next.set_hash(&parent.hash.0);
                }
            }
            Answer::Draining => result.set_draining(()),
            Answer::Silence => std::future::pending().await,
        }
        Ok(())
    }
}

struct Reporter(Rc<State>);

fn sighted(sighting: wire::da_sighting::Reader<'_>) -> Result<Sighted, capnp::Error> {
    use wire::da_sighting::what::Which;
    let hash = |bytes: &[u8]| Hash::from_slice(bytes).ok_or_else(|| capnp::Error::failed("no hash".into()));
    let what = match sighting.get_what().which()? {
        Which::SignedBlock(block) => Said::Bytes(Hash::of(block?)),
        Which::Digest(digest) => Said::Digest(hash(digest?)?),
        Which::Hash(name) => Said::Name(hash(name?)?),
        _ => return Err(capnp::Error::failed("this host has no other names".into())),
    };
    let (da_height, index) = (sighting.get_da_height(), sighting.get_index());
    Ok(Sighted { da_height, index, height: sighting.get_height(), what })
}

impl State {
    /// Answers a report that covers everything up to here.
    fn reply(&self, scanned_through: u64, mut to: wire::report_result::Builder<'_>) {
        let next = self.script.borrow_mut().replies.pop_front();
        match next.unwrap_or_else(|| Reply::Taken(scanned_through.max(*self.scanned_through.borrow()), Vec::new())) {
            Reply::Taken(scanned_through, wanted) => {
                *self.scanned_through.borrow_mut() = scanned_through;
                let mut taken = to.init_taken();
                taken.set_scanned_through(scanned_through);
                let mut list = taken.init_wanted(u32::try_from(wanted.len()).unwrap());
                for (at, (da_height, index)) in (0..).zip(wanted) {
                    let mut wanted = list.reborrow().get(at);
                    wanted.set_da_height(da_height);
                    wanted.set_index(index);
                    wanted.set_height(1);
                    wanted.set_digest(&[1; 32]);
                }
            }
            Reply::OutOfOrder(scanned_through) => to.set_out_of_order(scanned_through),
            Reply::StorageFull => to.init_refused().set_reason(wire::RefusalReason::StorageFull),
            Reply::TooFar => {
                let mut refused = to.init_refused();
                refused.set_reason(wire::RefusalReason::TooFar);
                refused.set_why("it is too far");
            }
        }
    }
}

impl wire::da_reporter::Server for Reporter {
    async fn report(
        self: Rc<Self>,
        params: wire::da_reporter::ReportParams,
        mut results: wire::da_reporter::ReportResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let (after, scanned_through) = (params.get_after(), params.get_scanned_through());
        let sightings = params.get_sightings()?.iter().map(sighted).collect::<Result<_, _>>()?;
        let _ = self.0.heard.send(Heard::Reported { after, scanned_through, sightings });
        self.0.reply(scanned_through, results.get().init_result());
        Ok(())
    }

    async fn position(
        self: Rc<Self>,
        _: wire::da_reporter::PositionParams,
        mut results: wire::da_reporter::PositionResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_scanned_through(*self.0.scanned_through.borrow());
        Ok(())
    }

    async fn upload(
        self: Rc<Self>,
        params: wire::da_reporter::UploadParams,
        mut results: wire::da_reporter::UploadResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let place = sighted(params.get_sighting()?)?;
        let size = usize::try_from(params.get_bytes()).unwrap();
        let upload = Upload { state: self.0.clone(), place, size, bytes: RefCell::default() };
        results.get().init_result().set_upload(capnp_rpc::new_client(upload));
        Ok(())
    }
}

struct Upload {
    state: Rc<State>,
    place: Sighted,
    size: usize,
    bytes: RefCell<Vec<u8>>,
}

impl wire::sighting_upload::Server for Upload {
    async fn write(
        self: Rc<Self>,
        params: wire::sighting_upload::WriteParams,
        mut results: wire::sighting_upload::WriteResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let mut bytes = self.bytes.borrow_mut();
        assert_eq!(params.get_offset(), bytes.len() as u64, "pieces come in order");
        bytes.extend_from_slice(params.get_data()?);
        results.get().set_received(bytes.len() as u64);
        Ok(())
    }

    async fn commit(
        self: Rc<Self>,
        _: wire::sighting_upload::CommitParams,
        mut results: wire::sighting_upload::CommitResults,
    ) -> Result<(), capnp::Error> {
        let bytes = self.bytes.borrow();
        assert_eq!(bytes.len(), self.size, "all of it has come");
        let what = Said::Bytes(Hash::of(&bytes));
        let _ = self.state.heard.send(Heard::Uploaded(Sighted { what, ..self.place.clone() }));
        self.state.reply(0, results.get().init_result());
        Ok(())
    }
}

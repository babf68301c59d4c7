//! A stream as a client holds it: waits for something to say, and says it. And payloads that are read in pieces.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use capnp::Error;
use tokio::time::Instant;

use super::blocksync_capnp as wire;
use super::convert;
use super::feed::{self, AnnouncedView, Body, Bounds, FeedEnd, FeedEvent, Gathered, StreamPosition};
use super::info;
use super::limits::{MAX_EVENTS, MAX_READERS, MAX_WAIT};
use super::shared::{ClientConnection, CountGuard, NoAnswer, store_error};
use super::view::HostView;
use super::{Announced, Request};
use crate::block::{Block, BlockId};
use crate::sync::cursor::{EventFilter, Start, WaitsFor};
use crate::sync::{Heads, Phase};
use crate::util::saturate;

/// What a stream is asked to be.
pub(super) struct StreamWishes {
    pub wanted: EventFilter,
    pub with_bodies: bool,
    pub consumer: Option<String>,
}

/// A cursor, and where it stands.
pub(super) struct Stream {
    connection: Rc<ClientConnection>,
    wishes: StreamWishes,
    position: RefCell<StreamPosition>,
    /// As the host was told them last.
    heads: Cell<Heads>,
    waits_for: Cell<Option<WaitsFor>>,
    /// A `next` is being answered.
    busy: Cell<bool>,
    _count_guard: CountGuard,
}

/// What becomes of a host that wants a stream.
pub(super) enum OpenOutcome {
    Opened(wire::block_stream::Client),
    /// The host's hard block is not the one that we have there: an operator must find out who is wrong.
    ForkedBelowHard {
        theirs: BlockId,
        ours: BlockId,
    },
}

impl From<FeedEnd> for Error {
    /// What a host cannot help is `disconnected`: it opens a new stream, from its own state.
    fn from(ended: FeedEnd) -> Self {
        match ended {
            FeedEnd::Store(error) => store_error(error),
            FeedEnd::Resume(_) | FeedEnd::Forked { .. } => Self::disconnected(ended.to_string()),
        }
    }
}

impl Stream {
    pub async fn open(
        connection: &Rc<ClientConnection>,
        start: Start,
        wishes: StreamWishes,
        count_guard: CountGuard,
    ) -> capnp::Result<OpenOutcome> {
        let (wanted, initial_height) = (wishes.wanted, connection.server.config.initial_height);
        let announced = connection.server.announced().heads;
        let begin = move |view: &dyn HostView| {
            feed::begin(start, wanted, AnnouncedView { view, announced: &announced, initial_height })
        };
        let (begun, _permit) = connection.read(begin).await?;
        let (position, heads) = match begun {
            Ok(begun) => begun,
            Err(FeedEnd::Forked { theirs, ours }) => return Ok(OpenOutcome::ForkedBelowHard { theirs, ours }),
            Err(ended) => return Err(ended.into()),
        };
        Ok(OpenOutcome::Opened(capnp_rpc::new_client(Self {
            connection: connection.clone(),
            wishes,
            position: RefCell::new(position),
            heads: Cell::new(heads),
            waits_for: Cell::new(None),
            busy: Cell::new(false),
            _count_guard: count_guard,
        })))
    }

    /// Waits for something to say; then it is as good as said.
    async fn answer(
        &self,
        bounds: Bounds,
        wait: Duration,
        mut results: wire::block_stream::NextResults,
    ) -> capnp::Result<()> {
        let connection = &self.connection;
        let server = &connection.server;
        let mut announcements = server.announced.clone();
        let mut draining = server.draining.clone();
        let until = Instant::now() + wait;
        loop {
            announcements.mark_unchanged();
            let Announced { heads: announced, phase } = server.announced();
            if phase == Phase::Draining {
                let position = self.position.borrow().clone();
                let last = Gathered { events: Vec::new(), position, heads: announced };
                return self.write_batch(&last, phase, &mut results);
            }
            let room = connection.reserve(bounds.max_bytes).await;
            let (position, wanted) = (self.position.borrow().clone(), self.wishes.wanted);
            let initial_height = server.config.initial_height;
            let gather = move |view: &dyn HostView| {
                feed::gather(position, wanted, AnnouncedView { view, announced: &announced, initial_height }, bounds)
            };
            let (gathered, permit) = connection.read(gather).await?;
            let gathered = gathered?;
            if self.is_news(&gathered) || Instant::now() >= until {
                self.write_batch(&gathered, phase, &mut results)?;
                self.heads.set(gathered.heads);
                self.waits_for.set(gathered.position.waits_for());
                self.position.replace(gathered.position);
                return Ok(());
            }
            // What was skipped in silence stays skipped.
            self.position.replace(gathered.position);
            drop((room, permit));
            let tick = until.min(Instant::now() + server.config.block_time);
            tokio::select! {
                // The node is ending when nobody announces any more.
                changed = announcements.changed() => changed.map_err(|_| NoAnswer::Ending)?,
                _ = draining.wait_for(|draining| *draining) => {}
                () = tokio::time::sleep_until(tick) => {}
            }
        }
    }

    /// Whether the host is not left to wait for more.
    fn is_news(&self, gathered: &Gathered) -> bool {
        let waits_for = gathered.position.waits_for();
        !gathered.events.is_empty() || gathered.heads != self.heads.get() || waits_for != self.waits_for.get()
    }

    fn write_batch(
        &self,
        gathered: &Gathered,
        phase: Phase,
        results: &mut wire::block_stream::NextResults,
    ) -> capnp::Result<()> {
        let Gathered { events, position, heads } = gathered;
        let mut batch = results.get().init_batch();
        info::write_heads(batch.reborrow().init_heads(), &heads.into());
        batch.set_phase(convert::phase_to_wire(phase));
        if let Some(waits_for) = position.waits_for() {
            convert::set_waits_for(batch.reborrow().init_waits_for(), waits_for);
        }
        let progress = events.is_empty() && *heads != self.heads.get() && phase != Phase::Draining;
        let len = saturate::to_u32(events.len());
        let mut list = batch.init_events(len.max(u32::from(progress)));
        if progress {
            list.reborrow().get(0).set_progress(());
        }
        for (index, event) in (0..len).zip(events) {
            self.write_event(list.reborrow().get(index), event)?;
        }
        Ok(())
    }

    fn write_event(&self, to: wire::event::Builder<'_>, event: &FeedEvent) -> capnp::Result<()> {
        match event {
            FeedEvent::Soft { block, origin, body } => {
                let payload = match body {
                    Body::Inline => convert::Payload::Inline,
                    Body::Omitted => convert::Payload::Omitted,
                    Body::Chunked => {
                        convert::Payload::Chunked(PayloadPieces::client(&self.connection, block, Part::Payload)?)
                    }
                };
                convert::set_block(to.init_soft(), block, *origin, payload);
            }
            FeedEvent::Hard { id, confirmed } => convert::set_inclusion(to.init_hard(), *id, *confirmed),
            FeedEvent::Retract { to: stays, epoch } => {
                let mut retract = to.init_retract();
                retract.set_epoch(epoch.0);
                if let Some(stays) = stays {
                    convert::set_id(retract.init_to(), *stays);
                }
            }
            FeedEvent::Gap { from, to: last } => {
                let mut gap = to.init_gap();
                gap.set_from(from.get());
                gap.set_to(last.get());
            }
            FeedEvent::DataLoss(loss) => convert::set_range(to.init_data_loss(), loss),
            FeedEvent::Equivocation { height, first, second } => {
                let mut equivocation = to.init_equivocation();
                equivocation.set_height(height.get());
                equivocation.set_first(&first.0);
                equivocation.set_second(&second.0);
            }
        }
        Ok(())
    }
}

/// Says that no `next` is being answered any more, however it ended.
struct Idle<'a>(&'a Cell<bool>);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl wire::block_stream::Server for Stream {
    async fn next(
        self: Rc<Self>,
        params: wire::block_stream::NextParams,
        results: wire::block_stream::NextResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let asked = params.get()?;
        let most = self.connection.server.limits.max_inline_bytes();
        let bounds = Bounds {
            max_events: match asked.get_max_events() {
                0 => MAX_EVENTS as usize,
                asked_for => asked_for.min(MAX_EVENTS) as usize,
            },
            max_bytes: match usize::try_from(asked.get_max_bytes()).unwrap_or(most) {
                0 => most,
                asked_for => asked_for.min(most),
            },
            with_bodies: self.wishes.with_bodies,
        };
        let wait = Duration::from_millis(asked.get_wait_ms().into()).min(MAX_WAIT);
        drop(params);
        if self.busy.replace(true) {
            return Err(Error::failed("one call of next at a time".into()));
        }
        let _idle = Idle(&self.busy);
        self.answer(bounds, wait, results).await
    }

    async fn ack(
        self: Rc<Self>,
        params: wire::block_stream::AckParams,
        mut results: wire::block_stream::AckResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let up_to = convert::id(params.get()?.get_up_to()?)?;
        drop(params);
        let known = if let Some(consumer) = self.wishes.consumer.clone() {
            self.connection.server.ask(|reply| Request::Ack { consumer, up_to, reply }).await?
        } else {
            let (known, _permit) = self.connection.read(move |view| view.has(up_to)).await?;
            known.map_err(store_error)?
        };
        results.get().set_known(known);
        Ok(())
    }
}

/// Which bytes of a block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Payload,
    SignedBlock,
}

impl Part {
    fn of(self, block: &Block) -> &Bytes {
        match self {
            Self::Payload => block.payload(),
            Self::SignedBlock => block.bytes(),
        }
    }
}

/// Bytes too large for one message. Nothing is kept in memory: each piece is read from the store when it is asked for.
pub(super) struct PayloadPieces {
    connection: Rc<ClientConnection>,
    id: BlockId,
    part: Part,
    size: usize,
    _count_guard: CountGuard,
}

impl PayloadPieces {
    pub fn client(
        connection: &Rc<ClientConnection>,
        block: &Block,
        part: Part,
    ) -> capnp::Result<wire::bytes_reader::Client> {
        let count_guard = CountGuard::take(connection, MAX_READERS, |own| &own.readers, None)
            .ok_or_else(|| Error::overloaded(format!("{MAX_READERS} readers are open: drop some")))?;
        let size = part.of(block).len();
        Ok(capnp_rpc::new_client(Self {
            connection: connection.clone(),
            id: block.id(),
            part,
            size,
            _count_guard: count_guard,
        }))
    }
}

impl wire::bytes_reader::Server for PayloadPieces {
    async fn size(
        self: Rc<Self>,
        _: wire::bytes_reader::SizeParams,
        mut results: wire::bytes_reader::SizeResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        results.get().set_bytes(self.size as u64);
        Ok(())
    }

    async fn read(
        self: Rc<Self>,
        params: wire::bytes_reader::ReadParams,
        mut results: wire::bytes_reader::ReadResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let (offset, asked_for) = (params.get()?.get_offset(), params.get()?.get_max_bytes());
        drop(params);
        let from = saturate::to_usize(offset).min(self.size);
        let most = saturate::to_usize(asked_for).min(self.connection.server.limits.max_inline_bytes());
        let to = from.saturating_add(most).min(self.size);
        if from == to {
            return Ok(());
        }
        let _room = self.connection.reserve(to - from).await;
        let id = self.id;
        let (found, _permit) = self.connection.read(move |view| view.block(id.height)).await?;
        match found.map_err(store_error)? {
            Some((block, _)) if block.hash() == id.hash => {
                results.get().set_data(self.part.of(&block).get(from..to).unwrap_or_default());
                Ok(())
            }
            _ => Err(Error::disconnected(format!("block {id} is not here any more"))),
        }
    }
}

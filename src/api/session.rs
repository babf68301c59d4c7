//! What a client meets first, and the role that needs little: the bootstrap, and the observer.

use std::rc::Rc;

use capnp::Error;

use super::Request;
use super::admin::Admin;
use super::blocksync_capnp as wire;
use super::convert::{self, BadRequest, cut};
use super::feed::{self, Lookup};
use super::info;
use super::limits::{MAX_NAME_BYTES, MAX_SESSIONS, MAX_STREAMS};
use super::publisher::Publisher;
use super::reporter::Reporter;
use super::shared::{ClientConnection, CountGuard, HostSigner, store_error};
use super::stream::{OpenOutcome, Part, PayloadPieces, Stream, StreamWishes};
use crate::block::{ChainId, Height};
use crate::sync::RejectAnswer;
use crate::sync::cursor::{EventFilter, Locator, MAX_LOCATOR, Start};

/// The oldest schema revision that we speak.
const OLDEST_REVISION: u32 = 2;

/// The bootstrap capability of one connection.
pub(super) struct Root {
    connection: Rc<ClientConnection>,
    /// One for all who ask.
    admin: wire::admin::Client,
}

impl Root {
    pub fn new(connection: Rc<ClientConnection>) -> Self {
        Self { admin: capnp_rpc::new_client(Admin { connection: connection.clone() }), connection }
    }
}

impl wire::block_sync::Server for Root {
    async fn info(
        self: Rc<Self>,
        _: wire::block_sync::InfoParams,
        mut results: wire::block_sync::InfoResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        info::write(results.get().init_info(), &self.connection.server.info());
        Ok(())
    }

    async fn admin(
        self: Rc<Self>,
        _: wire::block_sync::AdminParams,
        mut results: wire::block_sync::AdminResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        results.get().set_admin(self.admin.clone());
        Ok(())
    }

    async fn open(
        self: Rc<Self>,
        params: wire::block_sync::OpenParams,
        mut results: wire::block_sync::OpenResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let hello = Hello::read(params.get()?.get_hello()?)?;
        drop(params);
        let to = results.get().init_result();
        match self.admit(&hello).await {
            Ok(admitted) => self.grant(&hello, admitted, to.init_granted()),
            Err(refusal) => refusal.write(to),
        }
        Ok(())
    }
}

/// What a session holds.
struct Admitted {
    count_guard: Rc<CountGuard>,
    signer: Option<Rc<HostSigner>>,
}

impl Root {
    /// Lets a host in, together with its signer.
    async fn admit(&self, hello: &Hello) -> Result<Admitted, SessionRefusal> {
        let server = &self.connection.server;
        if hello.revision < OLDEST_REVISION {
            return Err(SessionRefusal::ClientTooOld);
        }
        let chain_id = &server.config.chain_id;
        if !hello.chain_id.is_empty() && hello.chain_id != chain_id.as_str() {
            return Err(SessionRefusal::WrongChain(chain_id.clone()));
        }
        if server.is_draining() {
            return Err(SessionRefusal::Busy("the sidecar is about to end".into()));
        }
        let count_guard =
            CountGuard::take(&self.connection, MAX_SESSIONS, |own| &own.sessions, Some(|all| &all.sessions))
                .ok_or_else(|| SessionRefusal::Busy(format!("this connection has {MAX_SESSIONS} sessions")))?;
        let signer = match &hello.signer {
            None => None,
            Some(_) if !hello.publisher => {
                return Err(SessionRefusal::NotSigner("a signer comes with the publisher's role".into()));
            }
            Some(signer) => Some(HostSigner::install(server, signer.clone()).await.map_err(SessionRefusal::NotSigner)?),
        };
        Ok(Admitted { count_guard: Rc::new(count_guard), signer })
    }

    /// Gives the roles that were asked for, and takes them from whoever had them.
    fn grant(&self, hello: &Hello, admitted: Admitted, mut to: wire::granted::Builder<'_>) {
        let Admitted { count_guard, signer } = admitted;
        let (connection, server) = (&self.connection, &self.connection.server);
        if hello.observer {
            let observer = Observer { connection: connection.clone(), _count_guard: count_guard.clone() };
            to.set_observer(capnp_rpc::new_client(observer));
        }
        if hello.publisher {
            let publisher = Publisher::new(connection.clone(), server.publisher.take(), signer, count_guard.clone());
            to.set_publisher(capnp_rpc::new_client(publisher));
        }
        if hello.reporter {
            let reporter = Reporter::new(connection.clone(), server.reporter.take(), count_guard);
            to.set_reporter(capnp_rpc::new_client(reporter));
        }
        info::write(to.init_info(), &server.info());
        tracing::info!(
            name = %hello.name,
            observer = hello.observer,
            publisher = hello.publisher,
            reporter = hello.reporter,
            "a host has opened a session"
        );
    }
}

/// Why a host is not let in.
enum SessionRefusal {
    ClientTooOld,
    /// This is ours.
    WrongChain(ChainId),
    /// It may try again later.
    Busy(String),
    /// It may not sign for us.
    NotSigner(String),
}

impl SessionRefusal {
    fn write(self, mut to: wire::open_result::Builder<'_>) {
        match self {
            Self::ClientTooOld => to.set_client_too_old(OLDEST_REVISION),
            Self::WrongChain(ours) => to.set_wrong_chain(ours.as_str()),
            Self::Busy(why) => to.set_busy(why),
            Self::NotSigner(why) => to.set_not_signer(why),
        }
    }
}

/// A `ClientHello`, read.
struct Hello {
    name: String,
    revision: u32,
    chain_id: String,
    observer: bool,
    publisher: bool,
    reporter: bool,
    signer: Option<wire::signer::Client>,
}

impl Hello {
    fn read(from: wire::client_hello::Reader<'_>) -> capnp::Result<Self> {
        Ok(Self {
            name: cut(&convert::text(from.get_name()?)?, MAX_NAME_BYTES),
            revision: from.get_schema_revision(),
            chain_id: convert::text(from.get_chain_id()?)?,
            observer: from.get_want_observer(),
            publisher: from.get_want_publisher(),
            reporter: from.get_want_reporter(),
            signer: from.has_signer().then(|| from.get_signer()).transpose()?,
        })
    }
}

/// Reads along.
struct Observer {
    connection: Rc<ClientConnection>,
    _count_guard: Rc<CountGuard>,
}

impl wire::observer::Server for Observer {
    async fn stream(
        self: Rc<Self>,
        params: wire::observer::StreamParams,
        mut results: wire::observer::StreamResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let wishes = read_wishes(params.get()?);
        drop(params);
        let mut to = results.get().init_result();
        let (start, wishes) = match wishes {
            Ok(wishes) => wishes,
            Err(bad) => {
                to.set_invalid(bad.reason()?);
                return Ok(());
            }
        };
        let count_guard = CountGuard::take(&self.connection, MAX_STREAMS, |own| &own.streams, Some(|all| &all.streams));
        let Some(count_guard) = count_guard else {
            to.set_busy(format!("this connection has {MAX_STREAMS} streams"));
            return Ok(());
        };
        match Stream::open(&self.connection, start, wishes, count_guard).await? {
            OpenOutcome::Opened(stream) => to.set_stream(stream),
            OpenOutcome::ForkedBelowHard { theirs, ours } => {
                let mut fork = to.init_forked_below_hard();
                convert::set_id(fork.reborrow().init_theirs(), theirs);
                convert::set_id(fork.init_ours(), ours);
            }
        }
        Ok(())
    }

    async fn block(
        self: Rc<Self>,
        params: wire::observer::BlockParams,
        mut results: wire::observer::BlockResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let id = params.get()?.get_id()?;
        let height = Height::new(id.get_height());
        let hash = convert::optional_hash(id.get_hash()?)?;
        drop(params);
        if height.is_none() && hash.is_none() {
            return Err(Error::failed("which block? it has neither a height nor a hash".into()));
        }
        let connection = &self.connection;
        let _room = connection.reserve(connection.server.limits.max_message_bytes).await;
        let announced = connection.server.announced().heads;
        let (found, _permit) = connection.read(move |view| feed::look_up(height, hash, view, &announced)).await?;
        let mut to = results.get().init_result();
        match found.map_err(store_error)? {
            Lookup::NotFound => to.set_not_found(()),
            Lookup::Pruned(tail) => to.set_pruned(tail.get()),
            Lookup::Stored { block, origin, inclusion } => {
                let mut found = to.init_found();
                let large = block.payload().len() > connection.server.limits.max_inline_bytes();
                let pieces = large.then(|| PayloadPieces::client(connection, &block, Part::Payload)).transpose()?;
                convert::set_block(found.reborrow().init_block(), &block, origin, convert::Payload::of(pieces));
                if let Some(confirmed) = inclusion {
                    convert::set_inclusion(found.init_inclusion(), block.id(), confirmed);
                }
            }
        }
        Ok(())
    }

    async fn reject_block(
        self: Rc<Self>,
        params: wire::observer::RejectBlockParams,
        mut results: wire::observer::RejectBlockResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        let block = convert::id(params.get()?.get_id()?)?;
        let reason = cut(&convert::text(params.get()?.get_reason()?)?, 256);
        drop(params);
        tracing::warn!(%block, %reason, "the host's execution refuses a block");
        let mut to = results.get().init_result();
        match self.connection.server.ask(|reply| Request::Reject { block, reply }).await? {
            RejectAnswer::Stopped => to.set_stopped(()),
            RejectAnswer::NotFound => to.set_not_found(()),
            RejectAnswer::Hard => to.set_hard(()),
        }
        Ok(())
    }

    async fn status(
        self: Rc<Self>,
        _: wire::observer::StatusParams,
        mut results: wire::observer::StatusResults,
    ) -> capnp::Result<()> {
        let _call = self.connection.enter()?;
        self.connection.server.write_status(results.get().init_status()).await
    }
}

/// Where a stream is to begin, and what it is to be.
fn read_wishes(from: wire::observer::stream_params::Reader<'_>) -> Result<(Start, StreamWishes), BadRequest> {
    let options = from.get_options()?;
    let consumer = convert::text(options.get_consumer()?)?;
    if consumer.len() > MAX_NAME_BYTES || consumer.chars().any(char::is_control) {
        return Err(BadRequest::Invalid(format!(
            "a consumer's name has at most {MAX_NAME_BYTES} bytes and no control characters"
        )));
    }
    let wishes = StreamWishes {
        wanted: if options.get_soft_events() { EventFilter::Soft } else { EventFilter::Hard },
        with_bodies: options.get_with_bodies(),
        consumer: (!consumer.is_empty()).then_some(consumer),
    };
    Ok((read_start(from.get_from()?)?, wishes))
}

fn read_start(from: wire::start_point::Reader<'_>) -> Result<Start, BadRequest> {
    use wire::start_point::Which;
    let invalid = BadRequest::Invalid;
    let resume = match from.which() {
        Err(_) => return Err(invalid("that start point is newer than this sidecar".into())),
        Ok(Which::Genesis(())) => return Ok(Start::Genesis),
        Ok(Which::Tip(())) => return Ok(Start::Tip),
        Ok(Which::Resume(resume)) => resume?,
    };
    let list = resume.get_locator()?;
    if list.len() as usize > MAX_LOCATOR {
        return Err(invalid(format!("a locator has at most {MAX_LOCATOR} blocks, not {}", list.len())));
    }
    let (hard, given_from) = (resume.get_hard()?, Height::new(resume.get_given_from()));
    let senseless = |error: Error| invalid(error.extra);
    let blocks = list.iter().map(convert::id).collect::<capnp::Result<Vec<_>>>().map_err(senseless)?;
    let hard = convert::optional_id(hard).map_err(senseless)?;
    Locator::new(blocks, hard, given_from).map(Start::Resume).map_err(invalid)
}

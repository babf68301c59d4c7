//! The publisher's role: blocks in, whole or in pieces; and the host that signs for itself.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use capnp::Error;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::blocksync_capnp as wire;
use super::convert::{self, cut};
use super::limits::SIGNER_DEADLINE;
use super::shared::{ApiServer, ClientConnection, CountGuard, Fence, HostSigner, NoAnswer, RETRY_MS, store_error};
use super::stream::{Part, PayloadPieces};
use super::upload::{Arrived, PublishWork, Upload, UploadParts};
use super::{Request, SignRequest};
use crate::block::{Block, BlockId, Hash, PublicKey};
use crate::sync::{Proposal, PublishAnswer};

/// Smaller payloads are hashed where they arrive.
const HASH_AT_ONCE_BYTES: usize = 16 << 10;

impl HostSigner {
    /// Lets `signer` sign from now on, instead of whoever did.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn install(server: &Rc<ApiServer>, signer: wire::signer::Client) -> Result<Rc<Self>, String> {
        if server.config.proposer.is_some() {
            return Err("this sidecar signs with a key of its own".into());
        }
        let key = public_key(&signer).await?;
        let (signatures, requests) = mpsc::channel(1);
        let granted = server.ask(|reply| Request::SetSigner { key, signatures, reply }).await;
        granted.map_err(|error| Error::from(error).extra)??;
        let installed = Rc::new(Self { key, task: tokio::task::spawn_local(sign_all(signer, requests)) });
        let before = server.signer.replace(Rc::downgrade(&installed));
        if let Some(before) = before.upgrade() {
            before.task.abort();
        }
        Ok(installed)
    }
}

/// Asks a signer for its key.
async fn public_key(signer: &wire::signer::Client) -> Result<PublicKey, String> {
    let answer = tokio::time::timeout(SIGNER_DEADLINE, signer.public_key_request().send().promise);
    let answer = answer.await.map_err(|_| "the signer did not answer in time".to_owned())?;
    let read = || -> capnp::Result<Option<PublicKey>> { Ok(PublicKey::from_slice(answer?.get()?.get_public_key()?)) };
    match read() {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(format!("a public key has {} bytes", Hash::LEN)),
        Err(error) => Err(format!("the signer failed: {}", cut(&error.extra, 200))),
    }
}

/// Passes one block after the other to the host.
async fn sign_all(signer: wire::signer::Client, mut requests: mpsc::Receiver<SignRequest>) {
    while let Some(SignRequest { message, id, reply }) = requests.recv().await {
        match tokio::time::timeout(SIGNER_DEADLINE, sign(&signer, &message, id)).await {
            // Whether it is the right one is for the node to say, which may have stopped waiting.
            Ok(Ok(signature)) => drop(reply.send(signature)),
            Ok(Err(error)) => tracing::warn!(block = %id, error = %cut(&error.extra, 200), "the host did not sign"),
            Err(_) => tracing::warn!(block = %id, "the host did not sign in {SIGNER_DEADLINE:?}"),
        }
    }
}

async fn sign(signer: &wire::signer::Client, message: &[u8], id: BlockId) -> capnp::Result<[u8; 64]> {
    let mut request = signer.sign_request();
    request.get().set_message(message);
    convert::set_id(request.get().init_id(), id);
    let answer = request.send().promise.await?;
    let signature = answer.get()?.get_signature()?;
    signature.try_into().map_err(|_| Error::failed(format!("a signature of {} bytes", signature.len())))
}

/// What publishers and their uploads share.
struct PublisherState {
    connection: Rc<ClientConnection>,
    fence: Fence,
    _count_guard: Rc<CountGuard>,
    /// Ends when the role is given back.
    _signer: Option<Rc<HostSigner>>,
}

/// Hands over blocks.
pub(super) struct Publisher {
    state: Rc<PublisherState>,
}

impl Publisher {
    pub fn new(
        connection: Rc<ClientConnection>,
        fence: Fence,
        signer: Option<Rc<HostSigner>>,
        count_guard: Rc<CountGuard>,
    ) -> Self {
        let server = &connection.server;
        let signs = signer.as_ref().map(Rc::downgrade).unwrap_or_default();
        // The new publisher brings its own signer, or none: the old one's must not sign for it.
        let before = server.signer.replace(signs);
        if let Some(before) =
            before.upgrade().filter(|before| signer.as_ref().is_none_or(|now| !Rc::ptr_eq(now, before)))
        {
            before.task.abort();
        }
        // Nobody will complete what was begun before.
        server.uploads.forget_all();
        Self { state: Rc::new(PublisherState { connection, fence, _count_guard: count_guard, _signer: signer }) }
    }
}

/// What a publish comes to, ready to be said.
struct PublishOutcome {
    answer: PublishAnswer,
    /// The block, when it was accepted.
    block: Option<Block>,
}

impl PublisherState {
    async fn publish(
        &self,
        work: PublishWork,
        bytes: Bytes,
        permit: OwnedSemaphorePermit,
    ) -> capnp::Result<PublishOutcome> {
        self.fence.check()?;
        let server = &self.connection.server;
        let answer = match work {
            PublishWork::Propose { height, parent, time_unix_nanos, host_id } => {
                let payload_hash = hash(&bytes).await?;
                // Hashing took its time.
                self.fence.check()?;
                let proposal = Proposal { height, parent, time_unix_nanos, host_id, payload: bytes, payload_hash };
                server.ask_holding(permit, |reply| Request::Publish { proposal, reply }).await
            }
            PublishWork::Signed => server.ask_holding(permit, |reply| Request::PublishSigned { bytes, reply }).await,
        };
        let answer = answer.unwrap_or_else(|why| match why {
            NoAnswer::Full => PublishAnswer::Overloaded,
            NoAnswer::Ending => PublishAnswer::Draining,
        });
        let block = match answer {
            PublishAnswer::Accepted(id) | PublishAnswer::Duplicate(id) => Some(self.stored(id).await?),
            _ => None,
        };
        Ok(PublishOutcome { answer, block })
    }

    /// The signed block as it was made durable.
    async fn stored(&self, id: BlockId) -> capnp::Result<Block> {
        let (found, _permit) = self.connection.read(move |view| view.block(id.height)).await?;
        match found.map_err(store_error)? {
            Some((block, _)) if block.hash() == id.hash => Ok(block),
            _ => Err(Error::disconnected(format!(
                "block {id} was published, and is not stored any more: it was taken back, or pruned"
            ))),
        }
    }

    async fn write_result(&self, outcome: PublishOutcome, to: wire::publish_result::Builder<'_>) -> capnp::Result<()> {
        let Some(block) = outcome.block else {
            convert::set_refusal(to, &outcome.answer, RETRY_MS);
            return Ok(());
        };
        let connection = &self.connection;
        let large = block.bytes().len() > connection.server.limits.max_inline_bytes();
        let _room = connection.reserve(if large { 0 } else { block.bytes().len() }).await;
        let mut to = match outcome.answer {
            PublishAnswer::Duplicate(_) => to.init_duplicate(),
            _ => to.init_accepted(),
        };
        convert::set_id(to.reborrow().init_id(), block.id());
        to.set_durability(convert::durability_to_wire(connection.server.config.durability));
        if large {
            to.set_reader(PayloadPieces::client(connection, &block, Part::SignedBlock)?);
        } else {
            to.set_signed_block(block.bytes());
        }
        Ok(())
    }
}

async fn hash(bytes: &Bytes) -> capnp::Result<Hash> {
    if bytes.len() <= HASH_AT_ONCE_BYTES {
        return Ok(Hash::of(bytes));
    }
    let bytes = bytes.clone();
    let hashed = tokio::task::spawn_blocking(move || Hash::of(&bytes)).await;
    hashed.map_err(|error| Error::failed(format!("hashing: {error}")))
}

impl wire::publisher::Server for Publisher {
    async fn publish(
        self: Rc<Self>,
        params: wire::publisher::PublishParams,
        mut results: wire::publisher::PublishResults,
    ) -> capnp::Result<()> {
        let state = &self.state;
        let _call = state.connection.enter_as(&state.fence)?;
        let server = &state.connection.server;
        let (work, bytes, permit) = {
            let from = params.get()?.get_block()?;
            let work = match PublishWork::read(from) {
                Ok(work) => work,
                Err(bad) => {
                    results.get().init_result().set_invalid(bad.reason()?);
                    return Ok(());
                }
            };
            let payload = from.get_payload()?;
            if payload.len() > server.limits.max_block_bytes {
                results.get().init_result().set_too_large(server.limits.max_block_bytes as u64);
                return Ok(());
            }
            let Some(permit) = server.intake(payload.len()) else {
                results.get().init_result().set_overloaded(RETRY_MS);
                return Ok(());
            };
            (work, Bytes::copy_from_slice(payload), permit)
        };
        drop(params);
        let outcome = state.publish(work, bytes, permit).await?;
        state.write_result(outcome, results.get().init_result()).await
    }

    async fn publish_signed(
        self: Rc<Self>,
        params: wire::publisher::PublishSignedParams,
        mut results: wire::publisher::PublishSignedResults,
    ) -> capnp::Result<()> {
        let state = &self.state;
        let _call = state.connection.enter_as(&state.fence)?;
        let server = &state.connection.server;
        let (bytes, permit) = {
            let block = params.get()?.get_signed_block()?;
            if block.len() > server.limits.max_block_bytes {
                results.get().init_result().set_too_large(server.limits.max_block_bytes as u64);
                return Ok(());
            }
            let Some(permit) = server.intake(block.len()) else {
                results.get().init_result().set_overloaded(RETRY_MS);
                return Ok(());
            };
            (Bytes::copy_from_slice(block), permit)
        };
        drop(params);
        let outcome = state.publish(PublishWork::Signed, bytes, permit).await?;
        state.write_result(outcome, results.get().init_result()).await
    }

    async fn begin_publish(
        self: Rc<Self>,
        params: wire::publisher::BeginPublishParams,
        mut results: wire::publisher::BeginPublishResults,
    ) -> capnp::Result<()> {
        let state = &self.state;
        let _call = state.connection.enter_as(&state.fence)?;
        let server = &state.connection.server;
        let from = params.get()?;
        let mut to = results.get().init_result();
        let work = if from.get_signed() { Ok(PublishWork::Signed) } else { PublishWork::read(from.get_block()?) };
        let work = match work {
            Ok(work) => work,
            Err(bad) => {
                to.set_invalid(bad.reason()?);
                return Ok(());
            }
        };
        let most = server.limits.max_block_bytes;
        let Some(size) = usize::try_from(from.get_payload_bytes()).ok().filter(|size| *size <= most) else {
            to.set_too_large(most as u64);
            return Ok(());
        };
        let Some(permit) = server.intake(size) else {
            to.set_overloaded(RETRY_MS);
            return Ok(());
        };
        let upload = server.uploads.begin(UploadParts { work, size, bytes: BytesMut::new(), permit });
        to.set_upload(capnp_rpc::new_client(PublishUpload { state: state.clone(), upload }));
        Ok(())
    }
}

/// A block that arrives in pieces.
struct PublishUpload {
    state: Rc<PublisherState>,
    upload: Upload<PublishWork>,
}

impl wire::upload::Server for PublishUpload {
    async fn write(
        self: Rc<Self>,
        params: wire::upload::WriteParams,
        mut results: wire::upload::WriteResults,
    ) -> capnp::Result<()> {
        let _call = self.state.connection.enter_as(&self.state.fence)?;
        let from = params.get()?;
        results.get().set_received(self.upload.write(from.get_offset(), from.get_data()?)?);
        Ok(())
    }

    async fn commit(
        self: Rc<Self>,
        _: wire::upload::CommitParams,
        mut results: wire::upload::CommitResults,
    ) -> capnp::Result<()> {
        let _call = self.state.connection.enter_as(&self.state.fence)?;
        let Arrived { work, bytes, permit } = self.upload.take()?;
        let outcome = self.state.publish(work, bytes, permit).await?;
        self.state.write_result(outcome, results.get().init_result()).await
    }
}

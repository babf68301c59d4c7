//! Publishing.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::observe::read_all;
use super::types::{ProposedBlock, PublishResult, Published};
use super::{ClientError, Connection, convert, wire};
use crate::block::{BlockId, PublicKey};
use crate::util::saturate;

/// A host that keeps the proposer's key to itself.
pub trait BlockSigner {
    fn public_key(&self) -> PublicKey;

    /// Signs `message`, as it is, for the block `id`. The sidecar never asks for two different blocks at one height.
    ///
    /// # Errors
    /// "Not now": the publish is answered with [`PublishResult::NotReady`].
    fn sign(&self, message: &[u8], id: BlockId) -> Result<[u8; 64], String>;
}

/// A signer as the sidecar sees it.
struct Served(Rc<dyn BlockSigner>);

pub(super) fn serve(signer: Rc<dyn BlockSigner>) -> wire::signer::Client {
    capnp_rpc::new_client(Served(signer))
}

impl wire::signer::Server for Served {
    async fn public_key(
        self: Rc<Self>,
        _: wire::signer::PublicKeyParams,
        mut results: wire::signer::PublicKeyResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_public_key(&self.0.public_key().0);
        Ok(())
    }

    async fn sign(
        self: Rc<Self>,
        params: wire::signer::SignParams,
        mut results: wire::signer::SignResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let signature =
            self.0.sign(params.get_message()?, convert::id(params.get_id()?)?).map_err(capnp::Error::failed)?;
        results.get().set_signature(&signature);
        Ok(())
    }
}

/// The publisher's role. It ends with [`ClientError::Disconnected`] when somebody else takes it.
#[derive(Clone)]
pub struct Publisher {
    role: wire::publisher::Client,
    /// What fits into one message.
    inline: usize,
    _connection: Rc<Connection>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Publisher")
    }
}

impl Publisher {
    pub(super) fn new(role: wire::publisher::Client, inline: u64, connection: Rc<Connection>) -> Self {
        Self { role, inline: saturate::to_usize(inline), _connection: connection }
    }

    /// Answers when the block is durable. The same block on the same parent always gets the same hash, so a call whose
    /// answer was lost may be repeated.
    pub async fn publish(&self, block: &ProposedBlock) -> Result<PublishResult, ClientError> {
        if block.payload.len() > self.inline {
            let mut request = self.role.begin_publish_request();
            request.get().set_payload_bytes(block.payload.len() as u64);
            set_block(request.get().init_block(), block);
            return self.upload(request, &block.payload).await;
        }
        let mut request = self.role.publish_request();
        let mut to = request.get().init_block();
        set_block(to.reborrow(), block);
        to.set_payload(&block.payload);
        let answer = request.send().promise.await?;
        result(answer.get()?.get_result()?).await
    }

    /// Publishes a block that the host signed itself: an encoded `SignedBlock`.
    pub async fn publish_signed(&self, signed_block: &[u8]) -> Result<PublishResult, ClientError> {
        if signed_block.len() > self.inline {
            let mut request = self.role.begin_publish_request();
            request.get().set_payload_bytes(signed_block.len() as u64);
            request.get().set_signed(true);
            return self.upload(request, signed_block).await;
        }
        let mut request = self.role.publish_signed_request();
        request.get().set_signed_block(signed_block);
        let answer = request.send().promise.await?;
        result(answer.get()?.get_result()?).await
    }

    async fn upload(
        &self,
        begin: capnp::capability::Request<
            wire::publisher::begin_publish_params::Owned,
            wire::publisher::begin_publish_results::Owned,
        >,
        bytes: &[u8],
    ) -> Result<PublishResult, ClientError> {
        use wire::begin_result::Which;
        let answer = begin.send().promise.await?;
        let upload = match answer.get()?.get_result()?.which()? {
            Which::Upload(upload) => upload?,
            Which::TooLarge(max_block_bytes) => return Ok(PublishResult::TooLarge { max_block_bytes }),
            Which::Overloaded(ms) => {
                return Ok(PublishResult::Overloaded { retry_after: Duration::from_millis(ms.into()) });
            }
            Which::Invalid(why) => return Ok(PublishResult::Invalid(convert::text(why?)?)),
        };
        let mut offset = 0;
        for piece in bytes.chunks(self.inline.max(1)) {
            let mut request = upload.write_request();
            request.get().set_offset(offset);
            request.get().set_data(piece);
            offset = request.send().promise.await?.get()?.get_received();
        }
        let answer = upload.commit_request().send().promise.await?;
        result(answer.get()?.get_result()?).await
    }
}

/// Everything but the payload.
fn set_block(mut to: wire::proposed_block::Builder<'_>, block: &ProposedBlock) {
    to.set_height(block.height.get());
    if let Some(parent) = block.parent {
        to.set_parent_hash(&parent.0);
    }
    to.set_time_unix_nanos(block.time_unix_nanos);
    to.set_host_id(&block.host_id);
}

/// Publishes again for as long as the sidecar says that it will not be long, as after a start, while it hears its peers; until
/// `patience` is over, and then the last answer is given.
///
/// # Errors
/// Those of `publish`.
pub async fn patiently<F>(patience: Duration, publish: impl Fn() -> F) -> Result<PublishResult, ClientError>
where
    F: Future<Output = Result<PublishResult, ClientError>>,
{
    let began = tokio::time::Instant::now();
    loop {
        match publish().await? {
            PublishResult::NotReady { retry_after: Some(pause), .. } if began.elapsed() + pause < patience => {
                tokio::time::sleep(pause).await;
            }
            result => return Ok(result),
        }
    }
}

async fn result(from: wire::publish_result::Reader<'_>) -> Result<PublishResult, ClientError> {
    use wire::publish_result::Which;
    let retry_ms = from.get_retry_after_ms();
    let Ok(which) = from.which() else {
        return Ok(PublishResult::Invalid("the sidecar answers in a way that is newer than this client".into()));
    };
    Ok(match which {
        Which::Accepted(from) => PublishResult::Accepted(published(from?).await?),
        Which::Duplicate(from) => PublishResult::Duplicate(published(from?).await?),
        Which::Conflict(id) => PublishResult::Conflict(convert::id(id?)?),
        Which::NotNext(id) => {
            let id = id?;
            PublishResult::NotNext {
                height: convert::height(id.get_height())?,
                parent: convert::optional_hash(id.get_hash()?)?,
            }
        }
        Which::Invalid(why) => PublishResult::Invalid(convert::text(why?)?),
        Which::TooLarge(max_block_bytes) => PublishResult::TooLarge { max_block_bytes },
        Which::NotReady(why) => PublishResult::NotReady {
            why: convert::text(why?)?,
            retry_after: (retry_ms > 0).then(|| Duration::from_millis(retry_ms.into())),
        },
        Which::Halted(why) => PublishResult::Halted(convert::text(why?)?),
        Which::StorageFull(()) => PublishResult::StorageFull,
        Which::Overloaded(ms) => PublishResult::Overloaded { retry_after: Duration::from_millis(ms.into()) },
        Which::Draining(()) => PublishResult::Draining,
    })
}

async fn published(from: wire::published::Reader<'_>) -> Result<Published, ClientError> {
    let signed_block = if from.has_reader() {
        read_all(&from.get_reader()?).await?
    } else {
        Bytes::copy_from_slice(from.get_signed_block()?)
    };
    Ok(Published {
        id: convert::id(from.get_id()?)?,
        signed_block,
        durability: convert::durability_from_wire(from.get_durability()),
    })
}

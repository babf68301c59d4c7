//! A client for which there is no connection left is told so: by the RPC protocol's `Abort`, which every client library turns
//! into the exception of its first call.
//!
//! Invariants:
//! 1. Whoever is turned away costs one small message, a second, and nothing of the budget.
//! 2. So are at most [`MAX_GOODBYES`] at a time; others are hung up on without a word.

use std::sync::Arc;

use capnp::{message, serialize};
use capnp_rpc::rpc_capnp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::limits::GOODBYE;

const MAX_GOODBYES: usize = 8;
/// What a client may have sent before it hears.
const MAX_HEARD: u64 = 64 << 10;

/// Those who say goodbye.
pub(super) struct Goodbyes(Arc<Semaphore>);

impl Goodbyes {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_GOODBYES)))
    }

    /// Tells the client why, in a task of its own, and hangs up.
    pub fn say(&self, stream: UnixStream, why: &str) {
        let Ok(permit) = self.0.clone().try_acquire_owned() else { return };
        let abort = abort(why);
        tokio::task::spawn_local(async move {
            let _permit = permit;
            // However it ends, there is nobody to tell.
            let _ = tokio::time::timeout(GOODBYE, tell(stream, abort)).await;
        });
    }
}

async fn tell(mut stream: UnixStream, abort: Vec<u8>) -> std::io::Result<()> {
    stream.write_all(&abort).await?;
    stream.shutdown().await?;
    // Hanging up on what was sent and not read is a reset, which can overtake the message.
    tokio::io::copy(&mut stream.take(MAX_HEARD), &mut tokio::io::sink()).await.map(drop)
}

fn abort(why: &str) -> Vec<u8> {
    let mut message = message::Builder::new_default();
    let mut abort = message.init_root::<rpc_capnp::message::Builder<'_>>().init_abort();
    abort.set_reason(why);
    abort.set_type(rpc_capnp::exception::Type::Overloaded);
    serialize::write_message_to_words(&message)
}

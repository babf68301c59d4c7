//! Observing: streams, lookups, the host's veto.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::types::{Batch, Event, Lookup, Payload, SoftBlock, Start, StreamOptions, Which};
use super::{ClientError, Connection, StatusView, convert, info, read, status, wire};
use crate::block::{BlockId, Height};
use crate::sync::RejectAnswer;

/// The observer's role.
#[derive(Clone)]
pub struct Observer {
    role: wire::observer::Client,
    connection: Rc<Connection>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl Observer {
    pub(super) fn new(role: wire::observer::Client, connection: Rc<Connection>) -> Self {
        Self { role, connection }
    }

    /// The ordered events of the chain from a point on.
    ///
    /// # Errors
    /// [`ClientError::ForkedBelowHard`], [`ClientError::Busy`], [`ClientError::Invalid`], and what any call may say.
    pub async fn stream(&self, from: &Start, options: &StreamOptions) -> Result<Stream, ClientError> {
        use wire::stream_result::Which;
        let mut request = self.role.stream_request();
        write_start(request.get().init_from(), from)?;
        let mut to = request.get().init_options();
        if let Some(consumer) = &options.consumer {
            to.set_consumer(consumer);
        }
        to.set_with_bodies(options.with_bodies);
        to.set_soft_events(options.soft_events);
        let answer = request.send().promise.await?;
        match answer.get()?.get_result()?.which()? {
            Which::Stream(cursor) => Ok(Stream { cursor: cursor?, _connection: self.connection.clone() }),
            Which::ForkedBelowHard(fork) => {
                let fork = fork?;
                Err(ClientError::ForkedBelowHard {
                    theirs: convert::id(fork.get_theirs()?)?,
                    ours: convert::optional_id(fork.get_ours()?)?,
                })
            }
            Which::Busy(why) => Err(ClientError::Busy(convert::text(why?)?)),
            Which::Invalid(why) => Err(ClientError::Invalid(convert::text(why?)?)),
        }
    }

    /// One block, payload included.
    pub async fn block(&self, which: Which) -> Result<Lookup, ClientError> {
        use wire::lookup_result::Which as Found;
        let mut request = self.role.block_request();
        let mut to = request.get().init_id();
        match which {
            Which::Height(height) => to.set_height(height.get()),
            Which::Hash(hash) => to.set_hash(&hash.0),
            Which::Id(id) => convert::set_id(to, id),
        }
        let answer = request.send().promise.await?;
        Ok(match answer.get()?.get_result()?.which()? {
            Found::Found(found) => {
                let found = found?;
                let block = block(found.get_block()?).await?;
                let inclusion = found.has_inclusion().then(|| read::inclusion(found.get_inclusion()?)).transpose()?;
                Lookup::Found { block, inclusion: inclusion.map(|(_, confirmed)| confirmed) }
            }
            Found::NotFound(()) => Lookup::NotFound,
            Found::Pruned(tail) => Lookup::Pruned { tail: convert::height(tail)? },
        })
    }

    /// "My execution refuses this block."
    pub async fn reject(&self, block: BlockId, reason: &str) -> Result<RejectAnswer, ClientError> {
        use wire::reject_result::Which;
        let mut request = self.role.reject_block_request();
        convert::set_id(request.get().init_id(), block);
        request.get().set_reason(reason);
        let answer = request.send().promise.await?;
        Ok(match answer.get()?.get_result()?.which()? {
            Which::Stopped(()) => RejectAnswer::Stopped,
            Which::NotFound(()) => RejectAnswer::NotFound,
            Which::Hard(()) => RejectAnswer::Hard,
        })
    }

    pub async fn status(&self) -> Result<StatusView, ClientError> {
        let answer = self.role.status_request().send().promise.await?;
        Ok(status::read(answer.get()?.get_status()?)?)
    }
}

fn write_start(mut to: wire::start_point::Builder<'_>, start: &Start) -> Result<(), ClientError> {
    match start {
        Start::Genesis => to.set_genesis(()),
        Start::Tip => to.set_tip(()),
        Start::Resume { locator, hard, given_from } => {
            let mut resume = to.init_resume();
            resume.set_given_from(given_from.map_or(0, Height::get));
            let len = u32::try_from(locator.len()).map_err(|_| ClientError::Invalid("too long a locator".into()))?;
            let mut list = resume.reborrow().init_locator(len);
            for (index, id) in (0..len).zip(locator) {
                convert::set_id(list.reborrow().get(index), *id);
            }
            if let Some(hard) = hard {
                convert::set_id(resume.init_hard(), *hard);
            }
        }
    }
    Ok(())
}

/// A cursor over the sidecar's chain: in order, at least once, no gaps. Dropping it unsubscribes.
pub struct Stream {
    cursor: wire::block_stream::Client,
    _connection: Rc<Connection>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// Waits up to `wait` for at least one event; the sidecar shortens long waits. 0 for `max_events` or `max_bytes`
    /// means its limit. One call at a time. Large payloads are complete when it returns.
    ///
    /// Dropping the future may lose the events of the batch that it waits for: open the stream again after that.
    pub async fn next(&self, max_events: u32, max_bytes: u64, wait: Duration) -> Result<Batch, ClientError> {
        let mut request = self.cursor.next_request();
        request.get().set_max_events(max_events);
        request.get().set_max_bytes(max_bytes);
        request.get().set_wait_ms(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        let answer = request.send().promise.await?;
        let batch = answer.get()?.get_batch()?;
        let mut events = Vec::with_capacity(batch.get_events()?.len() as usize);
        for event in batch.get_events()? {
            events.extend(self::event(event).await?);
        }
        Ok(Batch {
            events,
            heads: info::read_heads(batch.get_heads()?)?,
            phase: convert::phase_from_wire(batch.get_phase()),
            waits_for: if batch.has_waits_for() { convert::waits_for(batch.get_waits_for()?)? } else { None },
        })
    }

    /// "I have processed everything up to here", durable when it returns. `false`: that block is not on the sidecar's
    /// chain, and nothing was recorded.
    pub async fn ack(&self, up_to: BlockId) -> Result<bool, ClientError> {
        let mut request = self.cursor.ack_request();
        convert::set_id(request.get().init_up_to(), up_to);
        Ok(request.send().promise.await?.get()?.get_known())
    }
}

/// `None` for an event of a kind that we do not know.
async fn event(from: wire::event::Reader<'_>) -> Result<Option<Event>, ClientError> {
    use wire::event::Which;
    let Ok(which) = from.which() else { return Ok(None) };
    Ok(Some(match which {
        Which::Soft(from) => Event::Soft(block(from?).await?),
        Which::Hard(from) => {
            let (id, confirmed) = read::inclusion(from?)?;
            Event::Hard { id, confirmed }
        }
        Which::Retract(from) => {
            let from = from?;
            Event::Retract { to: convert::optional_id(from.get_to()?)?, epoch: from.get_epoch() }
        }
        Which::Gap(from) => {
            let from = from?;
            Event::Gap { from: convert::height(from.get_from())?, to: convert::height(from.get_to())? }
        }
        Which::DataLoss(from) => {
            let (from, to): (Height, Height) = convert::range(from?)?;
            Event::DataLoss { from, to }
        }
        Which::Equivocation(from) => {
            let from = from?;
            Event::Equivocation {
                height: convert::height(from.get_height())?,
                first: convert::hash(from.get_first()?)?,
                second: convert::hash(from.get_second()?)?,
            }
        }
        Which::Progress(()) => Event::Progress,
    }))
}

async fn block(from: wire::block::Reader<'_>) -> Result<SoftBlock, ClientError> {
    use wire::block::payload::Which;
    let payload = match from.get_payload().which()? {
        Which::Inline(bytes) => Payload::Bytes(Bytes::copy_from_slice(bytes?)),
        Which::Omitted(size) => Payload::Omitted(size),
        Which::Chunked(reader) => Payload::Bytes(read_all(&reader?).await?),
    };
    Ok(read::block(from, payload)?)
}

/// Bytes that did not fit into one message, piece by piece.
pub(super) async fn read_all(from: &wire::bytes_reader::Client) -> Result<Bytes, ClientError> {
    let size = from.size_request().send().promise.await?.get()?.get_bytes();
    let mut bytes = BytesMut::new();
    while (bytes.len() as u64) < size {
        let mut request = from.read_request();
        request.get().set_offset(bytes.len() as u64);
        request.get().set_max_bytes(size - bytes.len() as u64);
        let answer = request.send().promise.await?;
        let piece = answer.get()?.get_data()?;
        if piece.is_empty() {
            return Err(convert::wrong("a payload ended before its size").into());
        }
        bytes.extend_from_slice(piece);
    }
    Ok(bytes.freeze())
}

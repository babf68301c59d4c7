//! What a host hands over in pieces, as far as it has arrived: blocks to be published, and blocks that stand on DA.
//!
//! Invariants:
//! 1. An upload holds room in the intake for all that it announced, from its beginning until it is taken or forgotten.
//! 2. It is taken once, whole.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use capnp::Error;
use tokio::sync::OwnedSemaphorePermit;

use super::blocksync_capnp as wire;
use super::convert::{self, BadRequest};
use crate::block::{Hash, Height, native};

/// What a host wants published, checked as far as it can be here.
pub(super) enum PublishWork {
    Propose { height: Height, parent: Option<Hash>, time_unix_nanos: u64, host_id: Bytes },
    Signed,
}

impl PublishWork {
    pub fn read(from: wire::proposed_block::Reader<'_>) -> Result<Self, BadRequest> {
        let invalid = BadRequest::Invalid;
        let height = Height::new(from.get_height()).ok_or_else(|| invalid("heights begin at 1".into()))?;
        let parent = convert::optional_hash(from.get_parent_hash()?).map_err(|error| invalid(error.extra))?;
        let host_id = from.get_host_id()?;
        if host_id.len() > native::MAX_HOST_ID_BYTES {
            return Err(invalid(format!("a host id has at most {} bytes", native::MAX_HOST_ID_BYTES)));
        }
        let host_id = Bytes::copy_from_slice(host_id);
        Ok(Self::Propose { height, parent, time_unix_nanos: from.get_time_unix_nanos(), host_id })
    }
}

/// The bytes of an upload that is not complete yet, and what they are for.
pub(super) struct UploadParts<W> {
    pub work: W,
    pub size: usize,
    /// What has arrived.
    pub bytes: BytesMut,
    pub permit: OwnedSemaphorePermit,
}

/// An upload that was complete.
pub(super) struct Arrived<W> {
    pub work: W,
    pub bytes: Bytes,
    pub permit: OwnedSemaphorePermit,
}

/// One upload: empty when it was taken, or forgotten.
type UploadSlot<W> = RefCell<Option<UploadParts<W>>>;

/// One upload, as whoever was given it holds it.
pub(super) struct Upload<W>(Rc<UploadSlot<W>>);

impl<W> Upload<W> {
    /// The next piece; how much is there with it.
    ///
    /// # Errors
    /// When it is not the next one, or too much; then nothing has changed.
    pub fn write(&self, offset: u64, data: &[u8]) -> capnp::Result<u64> {
        let mut parts = self.0.borrow_mut();
        let UploadParts { size, bytes, .. } = parts.as_mut().ok_or_else(over)?;
        if offset != bytes.len() as u64 {
            return Err(Error::failed(format!("pieces come in order: the next one is at {}", bytes.len())));
        }
        if data.len() > *size - bytes.len() {
            return Err(Error::failed(format!("more than the {size} bytes that were announced")));
        }
        bytes.extend_from_slice(data);
        Ok(bytes.len() as u64)
    }

    /// All of it.
    ///
    /// # Errors
    /// When something is missing; then nothing has changed.
    pub fn take(&self) -> capnp::Result<Arrived<W>> {
        let mut parts = self.0.borrow_mut();
        let UploadParts { size, bytes, .. } = parts.as_ref().ok_or_else(over)?;
        if bytes.len() < *size {
            return Err(Error::failed(format!("only {} of {size} bytes have arrived", bytes.len())));
        }
        let UploadParts { work, bytes, permit, .. } = parts.take().ok_or_else(over)?;
        Ok(Arrived { work, bytes: bytes.freeze(), permit })
    }
}

fn over() -> Error {
    Error::failed("this upload was committed already".into())
}

/// The uploads of one role that are under way.
pub(super) struct Uploads<W>(RefCell<Vec<Weak<UploadSlot<W>>>>);

impl<W> Default for Uploads<W> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<W> Uploads<W> {
    pub fn begin(&self, parts: UploadParts<W>) -> Upload<W> {
        let slot = Rc::new(RefCell::new(Some(parts)));
        let mut uploads = self.0.borrow_mut();
        uploads.retain(|upload| upload.strong_count() > 0);
        uploads.push(Rc::downgrade(&slot));
        Upload(slot)
    }

    /// Forgets what nobody will complete any more, and the memory that it holds.
    pub fn forget_all(&self) {
        for upload in self.0.take() {
            if let Some(upload) = upload.upgrade() {
                upload.take();
            }
        }
    }
}

//! What a host hands over to be published, as far as it has arrived.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
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
    pub fn read(from: wire::new_block::Reader<'_>) -> Result<Self, BadRequest> {
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

/// The bytes of an upload that is not committed yet.
pub(super) struct UploadParts {
    pub work: PublishWork,
    pub size: usize,
    /// What has arrived.
    pub bytes: BytesMut,
    pub permit: OwnedSemaphorePermit,
}

/// One upload: empty when it was committed, or forgotten.
pub(super) type UploadSlot = Rc<RefCell<Option<UploadParts>>>;

/// The uploads of the publisher that are under way. Whoever was given a slot holds it.
#[derive(Default)]
pub(super) struct Uploads(RefCell<Vec<Weak<RefCell<Option<UploadParts>>>>>);

impl Uploads {
    pub fn begin(&self, parts: UploadParts) -> UploadSlot {
        let slot = Rc::new(RefCell::new(Some(parts)));
        let mut uploads = self.0.borrow_mut();
        uploads.retain(|upload| upload.strong_count() > 0);
        uploads.push(Rc::downgrade(&slot));
        slot
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

//! The fields of which records, and the small files beside the database, are made.
//!
//! 1. All numbers are big-endian, so keys sort as their numbers do.
//! 2. Decoding never panics and allocates no more than its input.

use bytes::Bytes;

use crate::block::{BlockId, Hash, Height, SignedHeader};
use crate::sync::DaPosition;
use crate::util::saturate;
use crate::verify::Tip;

/// Appends fields.
#[derive(Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A length and the bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u64(saturate::to_u64(bytes.len())).raw(bytes)
    }

    pub(super) fn opt<T>(&mut self, value: Option<T>, encode: impl FnOnce(&mut Self, T)) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                encode(self, value);
                self
            }
        }
    }

    pub(super) fn height(&mut self, height: Height) -> &mut Self {
        self.u64(height.get())
    }

    pub(super) fn id(&mut self, id: BlockId) -> &mut Self {
        self.height(id.height).raw(&id.hash.0)
    }

    pub(super) fn tip(&mut self, tip: Tip) {
        self.id(tip.id).u64(tip.time_unix_nanos);
    }

    pub(super) fn position(&mut self, position: DaPosition) -> &mut Self {
        self.u64(position.height).u32(position.index)
    }

    pub(super) fn signed_header(&mut self, signed: &SignedHeader) -> &mut Self {
        self.bytes(&signed.header).raw(&signed.signature)
    }
}

/// Takes fields off, in the order in which they were put.
pub(super) struct Decoder(pub(super) Bytes);

impl Decoder {
    pub(super) fn raw(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.raw(N)?.as_ref().try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.u64()?).ok()?;
        self.raw(len)
    }

    /// The outer `None`: not a record. The inner one: nothing was put.
    #[expect(clippy::option_option, reason = "a missing value and a broken record are different things")]
    pub(super) fn opt<T>(&mut self, decode: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => decode(self).map(Some),
            _ => None,
        }
    }

    pub(super) fn height(&mut self) -> Option<Height> {
        Height::new(self.u64()?)
    }

    pub(super) fn id(&mut self) -> Option<BlockId> {
        Some(BlockId { height: self.height()?, hash: Hash(self.array()?) })
    }

    pub(super) fn tip(&mut self) -> Option<Tip> {
        Some(Tip { id: self.id()?, time_unix_nanos: self.u64()? })
    }

    pub(super) fn position(&mut self) -> Option<DaPosition> {
        Some(DaPosition { height: self.u64()?, index: self.u32()? })
    }

    pub(super) fn signed_header(&mut self) -> Option<SignedHeader> {
        Some(SignedHeader { header: self.bytes()?, signature: self.array()? })
    }

    /// `value`, if nothing is left over.
    pub(super) fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

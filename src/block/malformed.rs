//! Every way in which bytes are not a block.

/// Bytes that are not a block. All of these are provable by anyone who holds the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{len} bytes, the limit is {max}")]
    TooLarge { len: usize, max: usize },
    #[error("not a signed block: {0}")]
    NotProtobuf(&'static str),
    #[error("not the one canonical encoding of this block")]
    NotCanonical,
    #[error("field `{0}` is missing or has a wrong length")]
    Field(&'static str),
}

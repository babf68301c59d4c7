//! The JSON of celestia-node's RPC, as far as it is needed: envelopes, blobs, headers, and the texts of its errors.
//!
//! Byte arrays are base64, heights in parameters are numbers, heights in headers are strings (as `CometBFT` writes them;
//! newer nodes write numbers, and both are read).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// What a client looks for in an error's text, when it asked for a height that is not made yet.
pub const FROM_THE_FUTURE: &str = "given height is from the future";
/// Likewise, when there is no blob of the namespace at that height.
pub const BLOB_NOT_FOUND: &str = "blob: not found";

/// The most bytes of one request: celestia-node's own limit.
pub const MAX_REQUEST_BYTES: usize = 16 << 20;
/// The most bytes of one answer that the client reads: a full DA block in base64, and some air.
pub const MAX_ANSWER_BYTES: usize = 32 << 20;

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub struct RpcCall {
    #[serde(default)]
    pub id: serde_json::Value,
    #[serde(default)]
    pub jsonrpc: String,
    pub method: String,
    #[serde(default)]
    pub params: Vec<serde_json::Value>,
}

/// The answer to a call. Nodes write `"result": null` as well as leaving it out.
#[derive(Debug, Serialize, Deserialize)]
pub struct RpcReply {
    pub jsonrpc: String,
    #[serde(default)]
    pub id: serde_json::Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

/// An error that the other side reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
}

impl RpcError {
    pub fn method_not_found(method: &str) -> Self {
        Self { code: -32601, message: format!("method '{}' not found", method.escape_default()) }
    }

    pub fn invalid_params(why: impl std::fmt::Display) -> Self {
        Self { code: -32602, message: format!("invalid params: {why}") }
    }

    /// What go-jsonrpc answers when the method itself returned an error.
    pub fn failed(why: impl std::fmt::Display) -> Self {
        Self { code: 1, message: why.to_string() }
    }
}

/// The name under which a chain's blobs are found: 29 bytes, version 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace([u8; Self::LEN]);

impl Namespace {
    pub const LEN: usize = 29;

    /// Version 0, 18 zero bytes, and the first 10 bytes of the name's SHA-256, as ev-node derives them.
    pub fn of(name: &str) -> Self {
        let digest = sha2::Sha256::digest(name.as_bytes());
        let mut bytes = [0; Self::LEN];
        bytes[19..].copy_from_slice(&digest[..10]);
        Self(bytes)
    }
}

impl Serialize for Namespace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Namespace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Base64::deserialize(deserializer)?.0;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("a namespace has 29 bytes"))
    }
}

/// Bytes, in base64 on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// A blob, as submitted and as read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub namespace: Namespace,
    pub data: Base64,
    #[serde(default)]
    pub share_version: u32,
    /// Of a real network, the root over the blob's shares. Here only a hash, so this client cannot post to a real one.
    #[serde(default)]
    pub commitment: Base64,
    /// Where it is in its DA block; -1 before it is in one.
    #[serde(default = "not_included")]
    pub index: i64,
}

const fn not_included() -> i64 {
    -1
}

impl Blob {
    pub fn new(namespace: Namespace, data: Vec<u8>) -> Self {
        let commitment = sha2::Sha256::new().chain_update(namespace.0).chain_update(&data).finalize();
        Self {
            namespace,
            data: Base64(data),
            share_version: 0,
            commitment: Base64(commitment.to_vec()),
            index: not_included(),
        }
    }
}

/// The part of an extended header that anybody reads here.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExtendedHeader {
    pub header: RpcHeader,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RpcHeader {
    #[serde(default)]
    pub chain_id: String,
    #[serde(serialize_with = "as_text", deserialize_with = "text_or_number")]
    pub height: u64,
    /// RFC 3339.
    #[serde(default)]
    pub time: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_text<S: Serializer>(height: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&height.to_string())
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(D::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_derived_as_ev_node_does() {
        // SHA-256 of "abc" begins with ba7816bf8f01cfea4141.
        let text = serde_json::to_string(&Namespace::of("abc")).unwrap();
        assert_eq!(text, "\"AAAAAAAAAAAAAAAAAAAAAAAAALp4Fr+PAc/qQUE=\"");
        assert_eq!(serde_json::from_str::<Namespace>(&text).unwrap(), Namespace::of("abc"));
        assert!(serde_json::from_str::<Namespace>("\"AAAA\"").is_err());
    }

    #[test]
    fn headers_are_read_with_heights_of_either_kind() {
        for text in [r#"{"header":{"height":"7","x":1},"dah":{}}"#, r#"{"header":{"height":7}}"#] {
            assert_eq!(serde_json::from_str::<ExtendedHeader>(text).unwrap().header.height, 7, "{text}");
        }
        assert!(serde_json::from_str::<ExtendedHeader>(r#"{"header":{"height":"-7"}}"#).is_err());
        let header = RpcHeader { chain_id: "c".into(), height: 7, time: String::new() };
        assert_eq!(serde_json::to_value(header).unwrap()["height"], "7");
    }

    #[test]
    fn blobs_have_the_shape_of_celestia_node() {
        let blob = Blob::new(Namespace::of("abc"), b"hello".to_vec());
        let value = serde_json::to_value(&blob).unwrap();
        assert_eq!(value["data"], "aGVsbG8=");
        assert_eq!(value["share_version"], 0);
        assert_eq!(value["index"], -1);
        assert_eq!(serde_json::from_value::<Blob>(value).unwrap(), blob);
    }
}

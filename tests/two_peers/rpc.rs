//! gossipsub's messages, as far as a stranger needs them.

use futures::AsyncReadExt as _;
use libp2p::Stream;
use libp2p::identity::Keypair;
use prost::Message as _;

use super::network::NETWORK;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Rpc {
    #[prost(message, repeated, tag = "1")]
    pub subscriptions: Vec<Subscription>,
    #[prost(message, repeated, tag = "2")]
    pub publish: Vec<Publish>,
    #[prost(message, optional, tag = "3")]
    pub control: Option<Control>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscription {
    #[prost(bool, tag = "1")]
    pub subscribe: bool,
    #[prost(string, tag = "2")]
    pub topic: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Publish {
    #[prost(bytes, tag = "1")]
    pub from: Vec<u8>,
    #[prost(bytes, tag = "2")]
    pub data: Vec<u8>,
    #[prost(bytes, tag = "3")]
    pub seqno: Vec<u8>,
    #[prost(string, tag = "4")]
    pub topic: String,
    #[prost(bytes, tag = "5")]
    pub signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    #[prost(message, repeated, tag = "1")]
    pub ihave: Vec<IHave>,
    #[prost(message, repeated, tag = "2")]
    pub iwant: Vec<IWant>,
    #[prost(message, repeated, tag = "3")]
    pub graft: Vec<Graft>,
    #[prost(message, repeated, tag = "4")]
    pub prune: Vec<Prune>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct IHave {
    #[prost(string, tag = "1")]
    pub topic: String,
    #[prost(bytes, repeated, tag = "2")]
    pub ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct IWant {
    #[prost(bytes, repeated, tag = "1")]
    pub ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Graft {
    #[prost(string, tag = "1")]
    pub topic: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Prune {
    #[prost(string, tag = "1")]
    pub topic: String,
    #[prost(uint64, tag = "3")]
    pub backoff: u64,
}

impl Publish {
    /// Signed as gossipsub demands it.
    pub fn signed(author: &Keypair, number: u64, data: Vec<u8>) -> Self {
        let from = author.public().to_peer_id().to_bytes();
        let mut message =
            Self { from, data, seqno: number.to_be_bytes().into(), topic: topic(), signature: Vec::new() };
        let signed = [b"libp2p-pubsub:", &message.encode_to_vec()[..]].concat();
        message.signature = author.sign(&signed).expect("a sound key");
        message
    }

    /// As go-libp2p-pubsub's `DefaultMsgIdFn`.
    pub fn id(&self) -> Vec<u8> {
        [&self.from[..], &self.seqno].concat()
    }
}

impl Rpc {
    pub fn frame(&self) -> Vec<u8> {
        self.encode_length_delimited_to_vec()
    }

    /// The next one of a stream.
    pub async fn read(stream: &mut Stream) -> Self {
        let mut prefix = Vec::new();
        while prefix.last().is_none_or(|byte| byte & 0x80 != 0) {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.expect("the stream goes on");
            prefix.extend(byte);
        }
        let mut body = vec![0; prost::decode_length_delimiter(&prefix[..]).expect("a length")];
        stream.read_exact(&mut body).await.expect("the stream goes on");
        Self::decode(&body[..]).expect("an RPC")
    }
}

pub fn topic() -> String {
    format!("/{NETWORK}/header-sub/v0.0.1")
}

pub fn control(control: Control) -> Vec<u8> {
    Rpc { control: Some(control), ..Rpc::default() }.frame()
}

pub fn subscribe(topics: Vec<String>) -> Vec<u8> {
    let subscriptions = topics.into_iter().map(|topic| Subscription { subscribe: true, topic }).collect();
    Rpc { subscriptions, ..Rpc::default() }.frame()
}

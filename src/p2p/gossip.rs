//! Gossip: gossipsub, with floodsub for the peers that have nothing else, set up so that Go peers see the same messages
//! under the same ids; and the tickets under which messages wait for their verdict.
//!
//! Invariants:
//! 1. Nothing is passed on before its verdict, and a verdict is for the peer that handed the message to us, never for the
//!    author that it names.
//! 2. What awaits no verdict, because it is of a topic of others or too large, is not kept.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, DataTransform, IdentTopic, MaxCountSubscriptionFilter, Message, MessageAcceptance,
    MessageAuthenticity, MessageId, RawMessage, TopicHash, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use tokio::time::Instant;

use super::limits::{Limits, gossip_control, gossip_message, gossip_rpc};
use crate::block::Lane;
use crate::sync::{Ticket, Verdict};

pub type Gossip = Behaviour<Ours, MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>>;

/// gossipsub's clock.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// For how many heartbeats a message can be passed on, and asked for by others.
const HISTORY: usize = 6;

/// A verdict that comes later than this changes nothing: gossipsub has forgotten the message.
const JUDGED_WITHIN: Duration = Duration::from_secs(6);

/// Subscriptions in one message of a peer: Go nodes subscribe to topics of other services too, and all of a message's
/// subscriptions are dropped when there are more.
const SUBSCRIPTIONS_PER_MESSAGE: usize = 32;

/// Messages in one RPC; and since go-libp2p-pubsub answers in one RPC whatever it is asked for at once, also how many a peer is
/// asked for, and told of, in a heartbeat. Who misses more fetches them.
const MESSAGES_PER_RPC: usize = 256;

/// The topics of the lanes, in lane order.
pub struct Topics(Vec<IdentTopic>);

impl Topics {
    pub fn new(network_ids: &[String]) -> Self {
        Self(network_ids.iter().map(|id| IdentTopic::new(format!("/{id}/header-sub/v0.0.1"))).collect())
    }

    pub fn of(&self, lane: Lane) -> Option<&IdentTopic> {
        self.0.get(usize::from(lane.0))
    }

    pub fn lane(&self, topic: &TopicHash) -> Option<Lane> {
        let index = self.0.iter().position(|ours| ours.hash() == *topic)?;
        u8::try_from(index).ok().map(Lane)
    }
}

/// Lets in messages that the driver will judge, and no others: gossipsub itself would keep them in its cache for [`HISTORY`]
/// heartbeats, however many there are.
#[derive(Debug)]
pub struct Ours {
    topics: Vec<TopicHash>,
    max_bytes: usize,
}

impl DataTransform for Ours {
    fn inbound_transform(&self, message: RawMessage) -> io::Result<Message> {
        if !self.topics.contains(&message.topic) {
            return Err(io::Error::other("it is of a topic of others"));
        }
        if message.data.len() > self.max_bytes {
            return Err(io::Error::other("it is too large for a block"));
        }
        let RawMessage { source, data, sequence_number, topic, .. } = message;
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

/// Builds gossipsub, subscribed to all topics.
pub fn behaviour(keypair: &Keypair, topics: &Topics, limits: &Limits) -> Result<Gossip, String> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(gossip_rpc(limits.max_block_bytes))
        .message_id_fn(message_id)
        .support_floodsub()
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .history_length(HISTORY)
        .history_gossip(3)
        .duplicate_cache_time(Duration::from_mins(2))
        .flood_publish(true)
        .mesh_n(8)
        .mesh_n_low(6)
        .mesh_n_high(12)
        .mesh_outbound_min(3)
        // An RPC beyond any of these ends the stream that brought it, and in one connection only four streams are heard.
        .max_publish_messages(MESSAGES_PER_RPC)
        .max_control_messages_sent(MESSAGES_PER_RPC)
        .max_control_message_size(gossip_control(limits.max_block_bytes))
        .max_ihave_messages_heartbeat(10)
        .gossip_retransimission(2)
        .connection_handler_queue_len(limits.gossip_send_queue)
        .publish_queue_duration(Duration::from_secs(5))
        .forward_queue_duration(Duration::from_secs(1))
        .idontwant_on_publish(true)
        .prune_peers(0)
        .build()
        .map_err(|error| error.to_string())?;
    let hashes = topics.0.iter().map(IdentTopic::hash);
    let ours = Ours { topics: hashes.clone().collect(), max_bytes: gossip_message(limits.max_block_bytes) };
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(hashes.collect()),
        max_subscribed_topics: topics.0.len(),
        max_subscriptions_per_request: SUBSCRIPTIONS_PER_MESSAGE,
    };
    let authenticity = MessageAuthenticity::Signed(keypair.clone());
    let mut gossip = Gossip::new_with_subscription_filter_and_transform(authenticity, config, filter, ours)?;
    for topic in &topics.0 {
        gossip.subscribe(topic).map_err(|error| error.to_string())?;
    }
    Ok(gossip)
}

/// go-libp2p-pubsub's `DefaultMsgIdFn`: the author's bytes and the sequence number, big-endian.
fn message_id(message: &Message) -> MessageId {
    let mut id = message.source.map_or_else(Vec::new, PeerId::to_bytes);
    id.extend_from_slice(&message.sequence_number.unwrap_or_default().to_be_bytes());
    id.into()
}

pub const fn acceptance(verdict: Verdict) -> MessageAcceptance {
    match verdict {
        Verdict::Accept => MessageAcceptance::Accept,
        Verdict::Ignore => MessageAcceptance::Ignore,
        Verdict::Reject => MessageAcceptance::Reject,
    }
}

/// A message that waits for its verdict.
#[derive(Debug, PartialEq, Eq)]
pub struct UnjudgedMessage {
    pub message: MessageId,
    /// Who handed it to us.
    pub source: PeerId,
    pub bytes: usize,
    since: Instant,
}

/// The messages whose verdict is awaited, at most a given number.
pub struct Tickets {
    next: Ticket,
    waiting: BTreeMap<Ticket, UnjudgedMessage>,
    max: usize,
}

impl Tickets {
    pub const fn new(max: usize) -> Self {
        // No ticket is used twice in a process: the node counts its own from far above.
        Self { next: Ticket(0), waiting: BTreeMap::new(), max }
    }

    /// A ticket for this message, if there is room. Tickets that are too old to matter make room.
    pub fn admit(&mut self, message: MessageId, source: PeerId, bytes: usize, now: Instant) -> Option<Ticket> {
        if self.waiting.len() >= self.max {
            self.waiting.retain(|_, waiting| now.duration_since(waiting.since) < JUDGED_WITHIN);
        }
        if self.waiting.len() >= self.max {
            return None;
        }
        let ticket = self.next;
        self.next = ticket.next();
        self.waiting.insert(ticket, UnjudgedMessage { message, source, bytes, since: now });
        Some(ticket)
    }

    /// Each ticket is judged once; `None` afterwards, or when it has become too old.
    pub fn take(&mut self, ticket: Ticket) -> Option<UnjudgedMessage> {
        self.waiting.remove(&ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_those_of_go() {
        let source = PeerId::random();
        let topic = IdentTopic::new("t").hash();
        let message = Message { source: Some(source), data: vec![1], sequence_number: Some(258), topic };
        let expected = [&source.to_bytes()[..], &[0, 0, 0, 0, 0, 0, 1, 2]].concat();
        assert_eq!(message_id(&message).0, expected);
    }

    #[test]
    fn topics_are_those_of_go() {
        let topics = Topics::new(&["a-headerSync".to_owned(), "a-dataSync".to_owned()]);
        let topic = topics.of(Lane(1)).expect("two lanes");
        assert_eq!(topic.hash().as_str(), "/a-dataSync/header-sub/v0.0.1");
        assert_eq!(topics.lane(&topic.hash()), Some(Lane(1)));
        assert_eq!(topics.lane(&IdentTopic::new("other").hash()), None);
        assert!(topics.of(Lane(2)).is_none());
    }

    #[test]
    fn what_will_not_be_judged_is_not_let_in() {
        let [topic, other] = ["ours", "theirs"].map(|name| IdentTopic::new(name).hash());
        let ours = Ours { topics: vec![topic.clone()], max_bytes: 3 };
        let lets_in = |topic: &TopicHash, bytes| {
            let message = RawMessage {
                source: None,
                data: vec![1; bytes],
                sequence_number: Some(1),
                topic: topic.clone(),
                signature: None,
                key: None,
                validated: false,
            };
            ours.inbound_transform(message).is_ok()
        };
        assert!(lets_in(&topic, 3) && !lets_in(&topic, 4) && !lets_in(&other, 3));
    }

    #[test]
    fn tickets_are_bounded_unique_and_judged_once() {
        let now = Instant::now();
        let source = PeerId::random();
        let mut tickets = Tickets::new(2);
        let admit = |tickets: &mut Tickets, id: u8, now| tickets.admit(vec![id].into(), source, 1, now);
        let first = admit(&mut tickets, 1, now).expect("room");
        let second = admit(&mut tickets, 2, now).expect("room");
        assert_ne!(first, second);
        assert_eq!(admit(&mut tickets, 3, now), None);
        assert_eq!(tickets.take(first).map(|waiting| waiting.message), Some(vec![1].into()));
        assert_eq!(tickets.take(first), None);
        let third = admit(&mut tickets, 3, now).expect("room again");
        // Nobody judges them in time: they make room.
        let later = now + JUDGED_WITHIN;
        let fourth = admit(&mut tickets, 4, later).expect("room");
        assert!(fourth > third && third > second);
        assert_eq!(tickets.take(third), None);
    }
}

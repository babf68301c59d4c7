//! What the sidecar says of itself to an operator: one table, from which come the struct that a client has, what the
//! server writes, what the client reads, and what `ctl` prints.
//!
//! A new field of the status goes to four places: the schema; [`crate::sync::Status`]; where the core fills that; and
//! a row of the table below:
//!
//! ```text
//! /// Blocks that were thrown away.                            for readers of the code
//! dropped_blocks: u64 {                                        its name and type in `StatusView`
//!     json: "droppedBlocks",                                   as in the schema
//!     text: Some("dropped blocks"),                            the label of its row; `None`: it has none of its own
//!     write: |to, now| to.set_dropped_blocks(now.core.dropped_blocks),
//!     read: |from| from.get_dropped_blocks(),
//! }
//! ```
//!
//! Text rows stand in the order of the table. Those that say more than one field's value are composed in
//! `cli/ctl/show/status.rs`. A type that no field has yet needs an arm of [`StatusValue`].

use std::num::NonZeroU64;
use std::time::Duration;

use super::blocksync_capnp as wire;
use super::convert::{
    count, height, key, millis, optional_checkpoint, optional_id, optional_text, range, set_checkpoint, set_id,
    set_range, set_texts, texts,
};
use super::info::{self, ServerInfo};
use super::report::{read_wanted, write_wanted};
use crate::block::{BlockId, Height};
use crate::sync::{AheadOfClock, Checkpoint, DaPosition, PassedOver, Received, Status, UnknownProposer, Wanted};

/// All that is known when the status is asked for: by the core, by the node, and by the API itself.
pub(super) struct StatusNow<'a> {
    pub info: ServerInfo,
    pub core: &'a Status,
    pub uptime: Duration,
    pub listen: &'a [String],
    pub awaits_signer: bool,
    pub sessions: u32,
    pub streams: u32,
}

/// One field of a [`StatusView`], to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusField<'a> {
    /// As in the schema.
    pub name: &'static str,
    /// Of its row among others; `None`: it has none, or none of its own.
    pub label: Option<&'static str>,
    pub value: StatusValue<'a>,
}

/// What the fields of a status are made of. `None`: there is nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusValue<'a> {
    Info(&'a ServerInfo),
    Received(Received),
    Duration(Duration),
    Flag(bool),
    Number(Option<u64>),
    Text(Option<&'a str>),
    Texts(&'a [String]),
    Block(Option<BlockId>),
    Checkpoint(Option<Checkpoint>),
    PassedOver(Option<PassedOver>),
    UnknownProposer(Option<UnknownProposer>),
    AheadOfClock(Option<AheadOfClockView>),
    Wanted(&'a [Wanted]),
    /// First and last.
    Heights(Option<(Height, Height)>),
}

/// [`AheadOfClock`] as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AheadOfClockView {
    /// So many blocks were refused, copies counted.
    pub blocks: u64,
    /// How far the time of the last one was ahead.
    pub last_by: Duration,
    /// So long ago the first one was refused.
    pub since: Duration,
}

macro_rules! status {
    ($(
        $(#[$doc:meta])*
        $field:ident: $type:ty {
            json: $name:literal,
            text: $label:expr,
            write: |$to:ident, $now:ident| $write:expr,
            read: |$from:ident| $read:expr,
        }
    )*) => {
        /// What the sidecar says of itself to an operator. Not [`Status`], because this is what travels: of a halt its
        /// text, of the heads what a host is told; and besides what the node and the API know of themselves.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct StatusView {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl StatusView {
            /// In the order in which people read them.
            #[must_use]
            pub fn fields(&self) -> Vec<StatusField<'_>> {
                vec![$(StatusField { name: $name, label: $label, value: (&self.$field).into() },)*]
            }
        }

        pub(super) fn write(mut to: wire::status::Builder<'_>, now: &StatusNow<'_>) {
            $({
                let ($to, $now) = (&mut to, now);
                $write;
            })*
        }

        pub(super) fn read(from: wire::status::Reader<'_>) -> capnp::Result<StatusView> {
            Ok(StatusView {
                $($field: {
                    let $from = from;
                    $read
                },)*
            })
        }
    };
}

status! {
    info: ServerInfo {
        json: "info",
        text: None,
        write: |to, now| info::write(to.reborrow().init_info(), &now.info),
        read: |from| info::read(from.get_info()?)?,
    }
    uptime: Duration {
        json: "uptimeMs",
        text: Some("uptime"),
        write: |to, now| to.set_uptime_ms(millis(now.uptime)),
        read: |from| Duration::from_millis(from.get_uptime_ms()),
    }
    peers: u32 {
        json: "peers",
        text: Some("peers"),
        write: |to, now| to.set_peers(count(now.core.peers)),
        read: |from| from.get_peers(),
    }
    /// Addresses, each with `/p2p/<peer id>`.
    listen: Vec<String> {
        json: "listen",
        text: Some("listens on"),
        write: |to, now| set_texts(to.reborrow().init_listen(count(now.listen.len())), now.listen),
        read: |from| texts(from.get_listen()?)?,
    }
    received: Received {
        json: "received",
        text: Some("received"),
        write: |to, now| set_received(to.reborrow().init_received(), now.core.received),
        read: |from| received(from.get_received()?),
    }
    /// Bytes of the stored blocks; the database adds to it.
    stored_bytes: u64 {
        json: "storedBytes",
        text: None,
        write: |to, now| to.set_stored_bytes(now.core.stored_bytes),
        read: |from| from.get_stored_bytes(),
    }
    /// How many blocks are kept; `None`: all.
    retain_blocks: Option<u64> {
        json: "retainBlocks",
        text: None,
        write: |to, now| to.set_retain_blocks(now.core.history.retain_blocks.map_or(0, NonZeroU64::get)),
        read: |from| bound(from.get_retain_blocks()),
    }
    /// How many bytes of blocks are kept at most.
    max_bytes: Option<u64> {
        json: "maxBytes",
        text: None,
        write: |to, now| to.set_max_bytes(now.core.history.max_bytes.map_or(0, NonZeroU64::get)),
        read: |from| bound(from.get_max_bytes()),
    }
    /// What DA has never confirmed is pruned, too.
    prune_unconfirmed: bool {
        json: "pruneUnconfirmed",
        text: None,
        write: |to, now| to.set_prune_unconfirmed(now.core.history.prune_unconfirmed),
        read: |from| from.get_prune_unconfirmed(),
    }
    /// What lies below the tail is being fetched, or will be.
    backfills: bool {
        json: "backfills",
        text: None,
        write: |to, now| to.set_backfills(now.core.history.backfills()),
        read: |from| from.get_backfills(),
    }
    held_blocks: u32 {
        json: "heldBlocks",
        text: Some("held blocks"),
        write: |to, now| to.set_held_blocks(count(now.core.held_blocks)),
        read: |from| from.get_held_blocks(),
    }
    open_requests: u32 {
        json: "openRequests",
        text: Some("open requests"),
        write: |to, now| to.set_open_requests(count(now.core.open_requests)),
        read: |from| from.get_open_requests(),
    }
    pending_sightings: u32 {
        json: "pendingSightings",
        text: Some("DA sightings waiting"),
        write: |to, now| to.set_pending_sightings(count(now.core.pending_sightings)),
        read: |from| from.get_pending_sightings(),
    }
    /// Connected hosts.
    sessions: u32 {
        json: "sessions",
        text: None,
        write: |to, now| to.set_sessions(now.sessions),
        read: |from| from.get_sessions(),
    }
    streams: u32 {
        json: "streams",
        text: None,
        write: |to, now| to.set_streams(now.streams),
        read: |from| from.get_streams(),
    }
    // What follows has a row only when something is wrong.
    /// Somebody holds another branch that the sequencer signed; only DA can decide.
    forked: bool {
        json: "forked",
        text: None,
        write: |to, now| to.set_forked(now.core.forked),
        read: |from| from.get_forked(),
    }
    /// Peers have blocks above ours, and none of them has the next one any more.
    history_unavailable: bool {
        json: "historyUnavailable",
        text: None,
        write: |to, now| to.set_history_unavailable(now.core.history_unavailable),
        read: |from| from.get_history_unavailable(),
    }
    /// Why publishing has stopped.
    halt: Option<String> {
        json: "halt",
        text: Some("HALTED"),
        write: |to, now| if let Some(halt) = now.core.halted { to.set_halt(halt.to_string()) },
        read: |from| optional_text(from.get_halt()?)?,
    }
    /// Why nothing can be published now.
    not_ready: Option<String> {
        json: "notReady",
        text: Some("not ready"),
        write: |to, now| if let Some(why) = &now.core.not_ready { to.set_not_ready(why) },
        read: |from| optional_text(from.get_not_ready()?)?,
    }
    vetoed: Option<BlockId> {
        json: "vetoed",
        text: Some("VETOED by the host"),
        write: |to, now| if let Some(id) = now.core.vetoed { set_id(to.reborrow().init_vetoed(), id) },
        read: |from| optional_id(from.get_vetoed()?)?,
    }
    /// Why hard stands still, although it could rise.
    hard_waits_for: Option<String> {
        json: "hardWaitsFor",
        text: Some("HARD WAITS"),
        write: |to, now| if let Some(waits) = now.core.hard_waits { to.set_hard_waits_for(waits.to_string()) },
        read: |from| optional_text(from.get_hard_waits_for()?)?,
    }
    /// Open positions on DA: the host is to report what stands there.
    wanted: Vec<Wanted> {
        json: "wanted",
        text: Some("wanted from DA"),
        write: |to, now| write_wanted(to.reborrow().init_wanted(count(now.core.wanted.len())), &now.core.wanted),
        read: |from| read_wanted(from.get_wanted()?)?,
    }
    /// What the store began with: DA is read above it.
    floor: Option<Checkpoint> {
        json: "floor",
        text: None,
        write: |to, now| if let Some(floor) = now.core.heads.floor {
            set_checkpoint(to.reborrow().init_floor(), Checkpoint { id: floor.id, da: floor.da });
        },
        read: |from| optional_checkpoint(from.get_floor()?)?,
    }
    /// Sightings at or below the floor's block, since the start: they decide nothing.
    below_floor: u64 {
        json: "belowFloor",
        text: None,
        write: |to, now| to.set_below_floor(now.core.below_trusted),
        read: |from| from.get_below_floor(),
    }
    /// Sightings of keys that are not in the schedule, since the start.
    passed_over: u64 {
        json: "passedOver",
        text: None,
        write: |to, now| to.set_passed_over(now.core.passed_over),
        read: |from| from.get_passed_over(),
    }
    /// The lowest of them above hard.
    lowest_passed_over: Option<PassedOver> {
        json: "lowestPassedOver",
        text: None,
        write: |to, now| if let Some(over) = now.core.lowest_passed_over {
            set_passed_over(to.reborrow().init_lowest_passed_over(), over);
        },
        read: |from| {
            let over = from.has_lowest_passed_over().then(|| from.get_lowest_passed_over()).transpose()?;
            over.map(read_passed_over).transpose()?
        },
    }
    /// Peers say that they have blocks by somebody whom the schedule does not name there.
    unknown_proposer: Option<UnknownProposer> {
        json: "unknownProposer",
        text: Some("UNKNOWN PROPOSER"),
        write: |to, now| if let Some(unknown) = now.core.unknown_proposer {
            set_unknown_proposer(to.reborrow().init_unknown_proposer(), unknown);
        },
        read: |from| {
            let unknown = from.has_unknown_proposer().then(|| from.get_unknown_proposer()).transpose()?;
            unknown.map(read_unknown_proposer).transpose()?
        },
    }
    /// Blocks are refused, since their time is ahead of our clock.
    ahead_of_clock: Option<AheadOfClockView> {
        json: "aheadOfClock",
        text: Some("AHEAD OF CLOCK"),
        write: |to, now| if let Some(ahead) = now.core.ahead_of_clock {
            set_ahead_of_clock(to.reborrow().init_ahead_of_clock(), ahead, now.uptime);
        },
        read: |from| {
            let ahead = from.has_ahead_of_clock().then(|| from.get_ahead_of_clock()).transpose()?;
            ahead.map(read_ahead_of_clock)
        },
    }
    /// The consumer for which blocks are kept that would be pruned.
    pruning_waits_for: Option<String> {
        json: "pruningWaitsFor",
        text: None,
        write: |to, now| to.set_pruning_waits_for(now.core.pruning_waits_for.as_deref().unwrap_or_default()),
        read: |from| optional_text(from.get_pruning_waits_for()?)?,
    }
    storage_full: bool {
        json: "storageFull",
        text: None,
        write: |to, now| to.set_storage_full(now.core.storage_full),
        read: |from| from.get_storage_full(),
    }
    /// What hosts and operators had said, and damage took: what it was, and what is to be done.
    lost_words: Vec<String> {
        json: "lostWords",
        text: Some("SAY AGAIN"),
        write: |to, now| {
            let words = &now.core.lost_words;
            set_texts(to.reborrow().init_lost_words(count(words.len())), words);
        },
        read: |from| texts(from.get_lost_words()?)?,
    }
    /// There is a guard, but no signer: neither a key file nor a host's `Signer`.
    awaits_signer: bool {
        json: "awaitsSigner",
        text: None,
        write: |to, now| to.set_awaits_signer(now.awaits_signer),
        read: |from| from.get_awaits_signer(),
    }
    /// Lost to damage and not fetched again yet: first and last height.
    lost: Option<(Height, Height)> {
        json: "lost",
        text: None,
        write: |to, now| if let Some(lost) = &now.core.heads.lost { set_range(to.reborrow().init_lost(), lost) },
        read: |from| from.has_lost().then(|| range(from.get_lost()?)).transpose()?,
    }
}

fn set_passed_over(mut to: wire::passed_over::Builder<'_>, over: PassedOver) {
    to.set_height(over.height.get());
    to.set_proposer(&over.proposer.0);
    to.set_da_height(over.position.height);
    to.set_index(over.position.index);
}

fn read_passed_over(from: wire::passed_over::Reader<'_>) -> capnp::Result<PassedOver> {
    Ok(PassedOver {
        height: height(from.get_height())?,
        proposer: key(from.get_proposer()?)?,
        position: DaPosition { height: from.get_da_height(), index: from.get_index() },
    })
}

fn set_unknown_proposer(mut to: wire::unknown_proposer::Builder<'_>, unknown: UnknownProposer) {
    to.set_height(unknown.height.get());
    to.set_proposer(&unknown.proposer.0);
    to.set_count(unknown.count);
}

fn read_unknown_proposer(from: wire::unknown_proposer::Reader<'_>) -> capnp::Result<UnknownProposer> {
    Ok(UnknownProposer {
        height: height(from.get_height())?,
        proposer: key(from.get_proposer()?)?,
        count: from.get_count(),
    })
}

fn set_ahead_of_clock(mut to: wire::ahead_of_clock::Builder<'_>, ahead: AheadOfClock, uptime: Duration) {
    to.set_blocks(ahead.blocks);
    to.set_last_by_ms(millis(ahead.last_by));
    to.set_since_ms(millis(uptime.saturating_sub(ahead.since)));
}

fn read_ahead_of_clock(from: wire::ahead_of_clock::Reader<'_>) -> AheadOfClockView {
    AheadOfClockView {
        blocks: from.get_blocks(),
        last_by: Duration::from_millis(from.get_last_by_ms()),
        since: Duration::from_millis(from.get_since_ms()),
    }
}

fn set_received(mut to: wire::received::Builder<'_>, received: Received) {
    to.set_published(received.published);
    to.set_gossip(received.gossip);
    to.set_range(received.range);
    to.set_da(received.da);
}

fn received(from: wire::received::Reader<'_>) -> Received {
    Received { published: from.get_published(), gossip: from.get_gossip(), range: from.get_range(), da: from.get_da() }
}

/// 0 is no bound.
fn bound(from: u64) -> Option<u64> {
    (from > 0).then_some(from)
}

macro_rules! values {
    ($($type:ty => |$field:ident| $value:expr,)*) => {
        $(impl<'a> From<&'a $type> for StatusValue<'a> {
            fn from($field: &'a $type) -> Self {
                $value
            }
        })*
    };
}

values! {
    ServerInfo => |info| StatusValue::Info(info),
    Received => |received| StatusValue::Received(*received),
    Duration => |duration| StatusValue::Duration(*duration),
    bool => |flag| StatusValue::Flag(*flag),
    u32 => |number| StatusValue::Number(Some((*number).into())),
    u64 => |number| StatusValue::Number(Some(*number)),
    Option<u64> => |number| StatusValue::Number(*number),
    Option<String> => |text| StatusValue::Text(text.as_deref()),
    Vec<String> => |texts| StatusValue::Texts(texts),
    Option<BlockId> => |block| StatusValue::Block(*block),
    Option<Checkpoint> => |checkpoint| StatusValue::Checkpoint(*checkpoint),
    Option<PassedOver> => |over| StatusValue::PassedOver(*over),
    Option<UnknownProposer> => |unknown| StatusValue::UnknownProposer(*unknown),
    Option<AheadOfClockView> => |ahead| StatusValue::AheadOfClock(*ahead),
    Vec<Wanted> => |wanted| StatusValue::Wanted(wanted),
    Option<(Height, Height)> => |heights| StatusValue::Heights(*heights),
}

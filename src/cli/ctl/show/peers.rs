//! Who is a peer, who is kept away, and who consumes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, Printer, id_json, millis, plain, print, seconds, table};
use crate::api::client::{PeerLists, PeerView};
use crate::block::BlockId;
use crate::config::units::show_bytes;
use crate::sync::BanInfo;

impl Printer {
    pub fn peers(self, peers: &PeerLists) -> Result<(), Failure> {
        if self.json {
            peers.peers.iter().try_for_each(|peer| print(&peer_json(peer).to_string()))?;
            return peers.bans.iter().try_for_each(|ban| print(&ban_json(ban).to_string()));
        }
        let rows: Vec<_> = peers.peers.iter().map(peer_row).collect();
        print(&table(PEER_COLUMNS, &rows))?;
        if peers.bans.is_empty() {
            return Ok(());
        }
        let ban = |ban: &BanInfo| {
            let by = if ban.by_operator { "operator" } else { "sidecar" };
            [plain(&ban.subject), seconds(ban.left), by.into(), plain(&ban.reason)]
        };
        let rows: Vec<_> = peers.bans.iter().map(ban).collect();
        print(&format!("\n{}", table(["BANNED", "FOR", "BY", "BECAUSE IT"], &rows)))
    }

    pub fn consumers(self, consumers: &[(String, BlockId)]) -> Result<(), Failure> {
        if self.json {
            let line = |(name, acked): &(String, BlockId)| json!({ "name": name, "acked": id_json(*acked) });
            return consumers.iter().try_for_each(|consumer| print(&line(consumer).to_string()));
        }
        let rows: Vec<_> = consumers.iter().map(|(name, acked)| [plain(name), acked.to_string()]).collect();
        print(&table(["CONSUMER", "ACKNOWLEDGED"], &rows))
    }
}

const PEER_COLUMNS: [&str; 11] = [
    "PEER",
    "DIR",
    "CONNECTED",
    "LATENCY",
    "BLOCKS",
    "BYTES",
    "SELECTION",
    "BAN SCORE",
    "LAST OFFENCE",
    "ADDRESS",
    "AGENT",
];

fn peer_row(peer: &PeerView) -> [String; 11] {
    let direction = match (peer.connected.is_some(), peer.outbound, peer.persistent) {
        (false, ..) => "missing",
        (_, true, true) => "out, persistent",
        (_, false, true) => "in, persistent",
        (_, true, _) => "out",
        (_, false, _) => "in",
    };
    let millis = |duration: Option<Duration>| {
        duration.map_or_else(|| "-".into(), |duration| format!("{:.1}ms", duration.as_secs_f64() * 1e3))
    };
    let offence = |(what, ago): &(String, Duration)| format!("{} ago: {}", seconds(*ago), plain(what));
    let known = || peer.known.first().map_or_else(|| "-".into(), |known| plain(known));
    [
        plain(&peer.peer),
        direction.into(),
        peer.connected.map_or_else(|| "-".into(), seconds),
        millis(peer.latency),
        peer.blocks.to_string(),
        show_bytes(peer.bytes),
        format!("{}, {} failed", millis(peer.expected_wait), peer.failures),
        format!("{} bans, {} bad", peer.bans, peer.bad_signatures),
        peer.last_offence.as_ref().map_or_else(|| "-".into(), offence),
        peer.address.as_ref().map_or_else(known, |address| plain(address)),
        plain(&peer.agent),
    ]
}

fn peer_json(peer: &PeerView) -> Value {
    let micros = |duration: Option<Duration>| duration.and_then(|latency| u64::try_from(latency.as_micros()).ok());
    json!({
        "peerId": peer.peer,
        "connected": peer.connected.is_some(),
        "address": peer.address,
        "known": peer.known,
        "outbound": peer.outbound,
        "persistent": peer.persistent,
        "agent": peer.agent,
        "connectedMs": peer.connected.map(millis),
        "latencyUs": micros(peer.latency),
        "blocks": peer.blocks,
        "bytes": peer.bytes,
        "selection": {
            "expectedWaitUs": micros(peer.expected_wait),
            "failures": peer.failures,
            "restMs": millis(peer.rests),
        },
        "ban": { "bans": peer.bans, "badSignatures": peer.bad_signatures },
        "lastOffence": peer.last_offence.as_ref().map(|(what, ago)| json!({ "what": what, "agoMs": millis(*ago) })),
    })
}

fn ban_json(ban: &BanInfo) -> Value {
    json!({ "banned": ban.subject, "reason": ban.reason, "leftMs": millis(ban.left), "byOperator": ban.by_operator })
}

//! What the sidecar says of itself.

use serde_json::{Value, json};

use super::{Failure, Printer, TextRow, columns, durability_name, id_json, millis, or_none, plain, seconds};
use crate::api::client::{HeadsView, ServerInfo, StatusValue, StatusView};
use crate::block::{BlockId, Height};
use crate::cli::phase_name;
use crate::config::units::show_bytes;
use crate::sync::{Phase, Received};
use crate::util::hex::encode as hex;

/// What an operator can do when no peer has the next block.
const HISTORY_GONE: &str = "no peer has the next block any more: report it from DA, add a peer that keeps more, or \
                            begin later (sync.from)";

impl Printer {
    pub fn info(self, info: &ServerInfo) -> Result<(), Failure> {
        self.say(|| info_json(info), || columns(&info_rows(info)))
    }

    pub fn health(self, info: &ServerInfo) -> Result<(), Failure> {
        let phase = phase_name(info.phase);
        self.say(|| json!({ "phase": phase, "heads": heads_json(&info.heads) }), || phase.to_owned())
    }

    pub fn status(self, status: &StatusView) -> Result<(), Failure> {
        self.say(|| status_json(status), || columns(&status_rows(status)))
    }
}

fn heads_json(heads: &HeadsView) -> Value {
    json!({
        "tail": heads.tail.get(),
        "hard": heads.hard.map(id_json),
        "soft": heads.soft.map(id_json),
        "target": heads.target.map(Height::get),
        "epoch": heads.epoch,
        "scannedThrough": heads.scanned_through,
    })
}

fn info_json(info: &ServerInfo) -> Value {
    json!({
        "version": info.version,
        "schemaRevision": info.schema_revision,
        "features": info.features,
        "chainId": info.chain_id,
        "initialHeight": info.initial_height.get(),
        "storeId": hex(&info.store_id),
        "peerId": info.peer_id,
        "limits": {
            "maxMessageBytes": info.limits.max_message_bytes,
            "maxBlockBytes": info.limits.max_block_bytes,
            "maxInlineBytes": info.limits.max_inline_bytes,
            "maxEvents": info.limits.max_events,
            "maxWaitMs": millis(info.limits.max_wait),
            "maxCalls": info.limits.max_calls,
        },
        "phase": phase_name(info.phase),
        "heads": heads_json(&info.heads),
        "proposer": info.proposer.map(|key| key.to_string()),
        "durability": durability_name(info.durability),
    })
}

fn info_rows(info: &ServerInfo) -> Vec<TextRow> {
    let heads = &info.heads;
    vec![
        ("version", format!("{}, schema revision {}", plain(&info.version), info.schema_revision)),
        ("chain", format!("{}, from height {}", plain(&info.chain_id), info.initial_height)),
        ("peer id", plain(&info.peer_id)),
        ("store id", hex(&info.store_id)),
        ("signs with", or_none(info.proposer)),
        ("durability", durability_name(info.durability).into()),
        ("largest block", show_bytes(info.limits.max_block_bytes)),
        ("phase", phase_name(info.phase).into()),
        ("tail", heads.tail.to_string()),
        ("hard", or_none(heads.hard)),
        ("soft", or_none(heads.soft)),
        ("target", or_none(heads.target)),
        ("epoch", heads.epoch.to_string()),
        ("DA scanned", heads.scanned_through.to_string()),
    ]
}

fn status_json(status: &StatusView) -> Value {
    status.fields().iter().map(|field| (field.name.to_owned(), value_json(&field.value))).collect()
}

fn value_json(value: &StatusValue<'_>) -> Value {
    match *value {
        StatusValue::Info(info) => info_json(info),
        StatusValue::Received(received) => json!({
            "published": received.published,
            "gossip": received.gossip,
            "range": received.range,
            "da": received.da,
        }),
        StatusValue::Duration(duration) => millis(duration).into(),
        StatusValue::Flag(flag) => flag.into(),
        StatusValue::Number(number) => number.into(),
        StatusValue::Text(text) => text.into(),
        StatusValue::Texts(texts) => texts.into(),
        StatusValue::Block(id) => id.map(id_json).into(),
        StatusValue::Heights(heights) => heights.map(|(from, to)| json!({ "from": from.get(), "to": to.get() })).into(),
    }
}

/// Each field's own row, in the table's order, and in its place the row that is composed for it.
fn status_rows(status: &StatusView) -> Vec<TextRow> {
    let mut rows = info_rows(&status.info);
    for field in status.fields() {
        match field.label {
            Some(label) => rows.extend(value_texts(&field.value).into_iter().map(|text| (label, text))),
            None => rows.extend(composed_row(field.name, status)),
        }
    }
    rows
}

/// One for each row; none where there is nothing to say.
fn value_texts(value: &StatusValue<'_>) -> Vec<String> {
    match *value {
        // They have rows of their own.
        StatusValue::Info(_) => Vec::new(),
        StatusValue::Received(Received { published, gossip, range, da }) => {
            vec![format!("{published} published, {gossip} gossip, {range} range, {da} da")]
        }
        StatusValue::Duration(duration) => vec![seconds(duration)],
        StatusValue::Flag(flag) => vec![flag.to_string()],
        StatusValue::Number(number) => number.iter().map(u64::to_string).collect(),
        StatusValue::Text(text) => text.into_iter().map(plain).collect(),
        StatusValue::Texts(texts) => texts.iter().map(|text| plain(text)).collect(),
        StatusValue::Block(id) => id.iter().map(BlockId::to_string).collect(),
        StatusValue::Heights(heights) => heights.iter().map(|(from, to)| format!("{from} to {to}")).collect(),
    }
}

/// The row in the place of a field that has none of its own: what says more than one field's value.
fn composed_row(field: &str, status: &StatusView) -> Option<TextRow> {
    Some(match field {
        "storedBytes" => ("stores", stored(status)),
        "sessions" => ("hosts", format!("{} sessions, {} streams", status.sessions, status.streams)),
        "forked" if status.forked => ("FORKED", "the sequencer signed another branch, too; only DA can decide".into()),
        "historyUnavailable" if status.history_unavailable => {
            let below = status.info.phase == Phase::Following;
            let gone =
                if below { "no peer has what lies below the tail: add one that keeps more" } else { HISTORY_GONE };
            ("HISTORY GONE", gone.into())
        }
        "pruningWaitsFor" => {
            let consumer = plain(status.pruning_waits_for.as_ref()?);
            let advice = "if it is gone for good: ctl forget-consumer";
            ("pruning waits", format!("for the consumer {consumer} to acknowledge; {advice} {consumer}"))
        }
        "storageFull" if status.storage_full => {
            let why = match status.max_bytes {
                Some(max) if status.stored_bytes >= max => "store.max_bytes is reached, and nothing may be pruned yet",
                _ => "make room",
            };
            ("DISK FULL", format!("nothing is taken in: {why}; it goes on by itself"))
        }
        "lost" => {
            let (from, to) = status.lost?;
            ("LOST to damage", format!("heights {from} to {to}; they are fetched again"))
        }
        _ => return None,
    })
}

/// How much of the chain is here, and how much is kept.
fn stored(status: &StatusView) -> String {
    let heads = &status.info.heads;
    let blocks = heads.soft.map_or(0, |soft| (soft.height.get() + 1).saturating_sub(heads.tail.get()));
    let kept = match (status.retain_blocks, status.max_bytes) {
        (None, None) if status.backfills => "archival, with what lies below the tail".to_owned(),
        (None, None) => "archival".to_owned(),
        (Some(blocks), None) => format!("keeps {blocks} blocks"),
        (None, Some(bytes)) => format!("keeps {}", show_bytes(bytes)),
        (Some(blocks), Some(bytes)) => format!("keeps {blocks} blocks, {} at most", show_bytes(bytes)),
    };
    let unconfirmed = if status.prune_unconfirmed { ", prunes what DA has not confirmed" } else { "" };
    format!("{blocks} blocks, {}; {kept}{unconfirmed}", show_bytes(status.stored_bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::client::Limits;
    use crate::block::Hash;
    use crate::store::Durability;

    fn id(height: u64) -> BlockId {
        BlockId { height: Height::new(height).unwrap(), hash: Hash([7; 32]) }
    }

    fn info() -> ServerInfo {
        ServerInfo {
            version: "1.2.3".into(),
            schema_revision: 1,
            features: vec![],
            chain_id: "demo".into(),
            initial_height: Height::MIN,
            store_id: [1; 16],
            peer_id: "12D3".into(),
            limits: Limits {
                max_message_bytes: 1 << 20,
                max_block_bytes: 8 << 20,
                max_inline_bytes: 1 << 19,
                max_events: 10,
                max_wait: Duration::from_secs(30),
                max_calls: 64,
            },
            phase: Phase::Syncing,
            heads: HeadsView {
                tail: Height::MIN,
                hard: None,
                soft: Some(id(5)),
                target: Height::new(9),
                epoch: 2,
                scanned_through: 17,
            },
            proposer: None,
            durability: Durability::Power,
        }
    }

    /// A sidecar of which nothing is worth a word.
    fn quiet() -> StatusView {
        StatusView {
            info: info(),
            uptime: Duration::from_millis(61_500),
            peers: 3,
            listen: vec!["/ip4/a".into(), "/ip4/b".into()],
            received: Received { published: 1, gossip: 2, range: 3, da: 4 },
            stored_bytes: 2048,
            retain_blocks: None,
            max_bytes: None,
            prune_unconfirmed: false,
            backfills: false,
            held_blocks: 5,
            open_requests: 6,
            pending_sightings: 7,
            sessions: 8,
            streams: 9,
            forked: false,
            history_unavailable: false,
            halt: None,
            not_ready: None,
            vetoed: None,
            wanted: None,
            pruning_waits_for: None,
            storage_full: false,
            lost: None,
        }
    }

    /// Everything is wrong with it.
    fn troubled() -> StatusView {
        StatusView {
            retain_blocks: Some(100),
            max_bytes: Some(2048),
            prune_unconfirmed: true,
            forked: true,
            history_unavailable: true,
            halt: Some("it diverged".into()),
            not_ready: Some("no guard".into()),
            vetoed: Some(id(6)),
            wanted: Some(id(7)),
            pruning_waits_for: Some("prover".into()),
            storage_full: true,
            lost: Some((Height::MIN, id(3).height)),
            ..quiet()
        }
    }

    #[test]
    fn the_rows_of_a_status() {
        let own = info_rows(&info()).len();
        let rows = |status: &StatusView| status_rows(status).split_off(own);
        let common = |stores: &str| {
            [
                ("uptime", "1m 1s"),
                ("peers", "3"),
                ("listens on", "/ip4/a"),
                ("listens on", "/ip4/b"),
                ("received", "1 published, 2 gossip, 3 range, 4 da"),
                ("stores", stores),
                ("held blocks", "5"),
                ("open requests", "6"),
                ("DA sightings waiting", "7"),
                ("hosts", "8 sessions, 9 streams"),
            ]
            .map(|(label, text)| (label, text.to_owned()))
        };
        assert_eq!(rows(&quiet()), common("5 blocks, 2 KiB; archival"));
        let hash = Hash([7; 32]);
        let wrong = [
            ("FORKED", "the sequencer signed another branch, too; only DA can decide".to_owned()),
            ("HISTORY GONE", HISTORY_GONE.to_owned()),
            ("HALTED", "it diverged".to_owned()),
            ("not ready", "no guard".to_owned()),
            ("VETOED by the host", format!("6/{hash}")),
            ("wanted by DA", format!("7/{hash}")),
            (
                "pruning waits",
                "for the consumer prover to acknowledge; if it is gone for good: ctl forget-consumer prover".to_owned(),
            ),
            (
                "DISK FULL",
                "nothing is taken in: store.max_bytes is reached, and nothing may be pruned yet; it goes on by itself"
                    .to_owned(),
            ),
            ("LOST to damage", "heights 1 to 3; they are fetched again".to_owned()),
        ];
        let stores = "5 blocks, 2 KiB; keeps 100 blocks, 2 KiB at most, prunes what DA has not confirmed";
        assert_eq!(rows(&troubled()), [&common(stores)[..], &wrong].concat());
    }

    #[test]
    fn the_json_of_a_status_has_every_field_under_its_name_in_the_schema() {
        let block = |height: u64| json!({ "height": height, "hash": Hash([7; 32]).to_string() });
        let line = json!({
            "info": info_json(&info()),
            "uptimeMs": 61_500,
            "peers": 3,
            "listen": ["/ip4/a", "/ip4/b"],
            "received": { "published": 1, "gossip": 2, "range": 3, "da": 4 },
            "storedBytes": 2048,
            "retainBlocks": 100,
            "maxBytes": 2048,
            "pruneUnconfirmed": true,
            "backfills": false,
            "heldBlocks": 5,
            "openRequests": 6,
            "pendingSightings": 7,
            "sessions": 8,
            "streams": 9,
            "forked": true,
            "historyUnavailable": true,
            "halt": "it diverged",
            "notReady": "no guard",
            "vetoed": block(6),
            "wanted": block(7),
            "pruningWaitsFor": "prover",
            "storageFull": true,
            "lost": { "from": 1, "to": 3 },
        });
        assert_eq!(status_json(&troubled()), line);
        let quiet = status_json(&quiet());
        for none in ["retainBlocks", "maxBytes", "halt", "notReady", "vetoed", "wanted", "pruningWaitsFor", "lost"] {
            assert_eq!(quiet[none], Value::Null, "{none}");
        }
    }
}

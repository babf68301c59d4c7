//! What the sidecar says of itself.

use serde_json::{Value, json};

use super::{Failure, Printer, TextRow, columns, durability_name, id_json, millis, or_none, plain, seconds};
use crate::api::client::{AheadOfClockView, HeadsView, ServerInfo, StatusValue, StatusView};
use crate::block::{BlockId, Height};
use crate::cli::phase_name;
use crate::config::units::show_bytes;
use crate::sync::{Checkpoint, DaEvidence, FORKED, PassedOver, Received, UnknownProposer, Wanted, history_gone};
use crate::util::hex::encode as hex;

/// What there is to say of a node that has a guard and no key.
const NO_SIGNER: &str =
    "a host is to pass one to `open` (or set signer.key); blocks that a host has signed itself are taken";

impl Printer {
    pub fn info(self, info: &ServerInfo) -> Result<(), Failure> {
        self.say(|| info_json(info), || columns(&info_rows(info)))
    }

    pub fn health(self, info: &ServerInfo) -> Result<(), Failure> {
        let phase = phase_name(info.phase);
        self.say(|| json!({ "phase": phase, "heads": heads_json(&info.heads) }), || phase.to_owned())
    }

    /// As `sync.from` takes it.
    pub fn checkpoint(self, checkpoint: Checkpoint) -> Result<(), Failure> {
        self.say(
            || {
                let mut line = checkpoint_json(checkpoint);
                line["syncFrom"] = checkpoint.to_string().into();
                line
            },
            || checkpoint.to_string(),
        )
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
            "maxReportBytes": info.limits.max_report_bytes,
        },
        "phase": phase_name(info.phase),
        "heads": heads_json(&info.heads),
        "proposer": info.proposer.map(|key| key.to_string()),
        "durability": durability_name(info.durability),
        "maxBlockBytes": info.max_block_bytes,
        "daEvidence": info.da_evidence.map(DaEvidence::name),
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
        ("largest block", largest_block(info)),
        ("DA evidence", info.da_evidence.map_or("newer than this program", DaEvidence::name).into()),
        ("phase", phase_name(info.phase).into()),
        ("tail", heads.tail.to_string()),
        ("hard", or_none(heads.hard)),
        ("soft", or_none(heads.soft)),
        ("target", or_none(heads.target)),
        ("epoch", heads.epoch.to_string()),
        ("DA scanned", heads.scanned_through.to_string()),
    ]
}

/// The chain's, and ours where that is lower.
fn largest_block(info: &ServerInfo) -> String {
    let (ours, chains) = (info.limits.max_block_bytes, info.max_block_bytes);
    let all = show_bytes(chains);
    if ours < chains { format!("{all}, of which this node takes {}", show_bytes(ours)) } else { all }
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
        StatusValue::Checkpoint(checkpoint) => checkpoint.map(checkpoint_json).into(),
        StatusValue::PassedOver(over) => over.map(passed_over_json).into(),
        StatusValue::UnknownProposer(unknown) => unknown.map(unknown_json).into(),
        StatusValue::AheadOfClock(ahead) => ahead.map(ahead_json).into(),
        StatusValue::Wanted(wanted) => wanted.iter().map(wanted_json).collect(),
        StatusValue::Heights(heights) => heights.map(|(from, to)| json!({ "from": from.get(), "to": to.get() })).into(),
    }
}

pub fn checkpoint_json(Checkpoint { id, da }: Checkpoint) -> Value {
    json!({ "id": id_json(id), "daHeight": da })
}

fn passed_over_json(PassedOver { height, proposer, position }: PassedOver) -> Value {
    json!({
        "height": height.get(),
        "proposer": proposer.to_string(),
        "daHeight": position.height,
        "index": position.index,
    })
}

fn unknown_json(UnknownProposer { height, proposer, count }: UnknownProposer) -> Value {
    json!({ "height": height.get(), "proposer": proposer.to_string(), "count": count })
}

fn ahead_json(AheadOfClockView { blocks, last_by, since }: AheadOfClockView) -> Value {
    json!({ "blocks": blocks, "lastByMs": millis(last_by), "sinceMs": millis(since) })
}

fn wanted_json(Wanted { position, height, digest }: &Wanted) -> Value {
    json!({
        "daHeight": position.height,
        "index": position.index,
        "height": height.get(),
        "digest": digest.to_string(),
    })
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
        // They have rows of their own, or are told together with other fields.
        StatusValue::Info(_) | StatusValue::Checkpoint(_) | StatusValue::PassedOver(_) => Vec::new(),
        StatusValue::Received(Received { published, gossip, range, da }) => {
            vec![format!("{published} published, {gossip} gossip, {range} range, {da} da")]
        }
        StatusValue::Duration(duration) => vec![seconds(duration)],
        StatusValue::Flag(flag) => vec![flag.to_string()],
        StatusValue::Number(number) => number.iter().map(u64::to_string).collect(),
        StatusValue::Text(text) => text.into_iter().map(plain).collect(),
        StatusValue::Texts(texts) => texts.iter().map(|text| plain(text)).collect(),
        StatusValue::Block(id) => id.iter().map(BlockId::to_string).collect(),
        StatusValue::UnknownProposer(unknown) => unknown.iter().map(unknown_text).collect(),
        StatusValue::AheadOfClock(ahead) => ahead.iter().map(ahead_text).collect(),
        StatusValue::Wanted(wanted) => wanted_text(wanted).into_iter().collect(),
        StatusValue::Heights(heights) => heights.iter().map(|(from, to)| format!("{from} to {to}")).collect(),
    }
}

fn unknown_text(unknown: &UnknownProposer) -> String {
    format!("{unknown}; {} such were seen", unknown.count)
}

fn ahead_text(AheadOfClockView { blocks, last_by, since }: &AheadOfClockView) -> String {
    let (last_by, since) = (seconds(*last_by), seconds(*since));
    format!("{blocks} blocks were refused in {since}: the last one is {last_by} ahead of our clock: is that right?")
}

/// The lowest on DA, which is the one that matters first, and how many there are.
fn wanted_text(wanted: &[Wanted]) -> Option<String> {
    let Wanted { position, height, .. } = wanted.first()?;
    let others = match wanted.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    Some(format!("what stands at DA height {}, index {} (block {height}){others}", position.height, position.index))
}

/// The row in the place of a field that has none of its own: what says more than one field's value.
fn composed_row(field: &str, status: &StatusView) -> Option<TextRow> {
    Some(match field {
        "storedBytes" => ("stores", stored(status)),
        "sessions" => ("hosts", format!("{} sessions, {} streams", status.sessions, status.streams)),
        "forked" if status.forked => ("FORKED", FORKED.into()),
        "historyUnavailable" if status.history_unavailable => ("HISTORY GONE", history_gone(status.info.phase).into()),
        "floor" => ("begins on DA", floor_text(status)?),
        "lowestPassedOver" => ("PASSED OVER on DA", passed_over_text(status)?),
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
        "awaitsSigner" if status.awaits_signer => ("NO SIGNER", NO_SIGNER.into()),
        "lost" => {
            let (from, to) = status.lost?;
            ("LOST to damage", format!("heights {from} to {to}; they are fetched again"))
        }
        _ => return None,
    })
}

fn floor_text(status: &StatusView) -> Option<String> {
    let floor = status.floor?;
    Some(match status.below_floor {
        0 => format!("with {floor}"),
        seen => format!("with {floor}; of what DA has at or below it {seen} were seen, and decide nothing"),
    })
}

fn passed_over_text(status: &StatusView) -> Option<String> {
    let PassedOver { height, proposer, position } = status.lowest_passed_over?;
    let seen = match status.passed_over {
        0 => String::new(),
        seen => format!(" ({seen} such were seen since the start)"),
    };
    Some(format!(
        "block {height} at DA height {} is signed by {proposer}, whom the schedule does not name there{seen}: if it is right, \
         ctl schedule add",
        position.height
    ))
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
    use crate::block::{Hash, PublicKey};
    use crate::store::Durability;
    use crate::sync::{DaPosition, Phase};

    fn id(height: u64) -> BlockId {
        BlockId { height: Height::new(height).unwrap(), hash: Hash([7; 32]) }
    }

    fn info() -> ServerInfo {
        ServerInfo {
            version: "1.2.3".into(),
            schema_revision: 2,
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
                max_report_bytes: 1 << 18,
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
            max_block_bytes: 8 << 20,
            da_evidence: Some(DaEvidence::Block),
        }
    }

    fn at(height: u64) -> DaPosition {
        DaPosition { height, index: 1 }
    }

    fn wanted(height: u64) -> Wanted {
        Wanted { position: at(50 + height), height: id(height).height, digest: Hash([8; 32]) }
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
            hard_waits_for: None,
            wanted: Vec::new(),
            floor: None,
            below_floor: 0,
            passed_over: 0,
            lowest_passed_over: None,
            unknown_proposer: None,
            ahead_of_clock: None,
            pruning_waits_for: None,
            storage_full: false,
            lost_words: Vec::new(),
            awaits_signer: false,
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
            hard_waits_for: Some("it is ahead".into()),
            wanted: vec![wanted(7), wanted(8)],
            floor: Some(Checkpoint { id: id(4), da: 50 }),
            below_floor: 3,
            passed_over: 2,
            lowest_passed_over: Some(PassedOver {
                height: id(9).height,
                proposer: PublicKey([3; 32]),
                position: at(60),
            }),
            unknown_proposer: Some(UnknownProposer { height: id(9).height, proposer: PublicKey([3; 32]), count: 4 }),
            ahead_of_clock: Some(AheadOfClockView {
                blocks: 12,
                last_by: Duration::from_millis(3_610_500),
                since: Duration::from_secs(90),
            }),
            pruning_waits_for: Some("prover".into()),
            storage_full: true,
            lost_words: vec!["the host's veto".into(), "the schedule's entry at height 7".into()],
            awaits_signer: true,
            lost: Some((Height::MIN, id(3).height)),
            ..quiet()
        }
    }

    fn common_rows(stores: &str) -> [(&'static str, String); 10] {
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
    }

    /// Of what is wrong with a node in trouble.
    fn rows_of_troubles() -> Vec<(&'static str, String)> {
        let (hash, key) = (Hash([7; 32]), PublicKey([3; 32]));
        vec![
            ("FORKED", "the sequencer signed another branch, too; only DA can decide".to_owned()),
            ("HISTORY GONE", history_gone(Phase::Syncing).to_owned()),
            ("HALTED", "it diverged".to_owned()),
            ("not ready", "no guard".to_owned()),
            ("VETOED by the host", format!("6/{hash}")),
            ("HARD WAITS", "it is ahead".to_owned()),
            ("wanted from DA", "what stands at DA height 57, index 1 (block 7), and 1 more".to_owned()),
            (
                "begins on DA",
                format!("with 4/{hash}@50; of what DA has at or below it 3 were seen, and decide nothing"),
            ),
            (
                "PASSED OVER on DA",
                format!(
                    "block 9 at DA height 60 is signed by {key}, whom the schedule does not name there (2 such were seen since \
                     the start): if it is right, ctl schedule add"
                ),
            ),
            ("UNKNOWN PROPOSER", format!("{}; 4 such were seen", troubled().unknown_proposer.unwrap())),
            (
                "AHEAD OF CLOCK",
                "12 blocks were refused in 1m 30s: the last one is 1h 10s ahead of our clock: is that right?"
                    .to_owned(),
            ),
            (
                "pruning waits",
                "for the consumer prover to acknowledge; if it is gone for good: ctl forget-consumer prover".to_owned(),
            ),
            (
                "DISK FULL",
                "nothing is taken in: store.max_bytes is reached, and nothing may be pruned yet; it goes on by itself"
                    .to_owned(),
            ),
            ("SAY AGAIN", "the host's veto".to_owned()),
            ("SAY AGAIN", "the schedule's entry at height 7".to_owned()),
            ("NO SIGNER", NO_SIGNER.to_owned()),
            ("LOST to damage", "heights 1 to 3; they are fetched again".to_owned()),
        ]
    }

    #[test]
    fn the_rows_of_a_status() {
        let own = info_rows(&info()).len();
        let rows = |status: &StatusView| status_rows(status).split_off(own);
        assert_eq!(rows(&quiet()), common_rows("5 blocks, 2 KiB; archival"));
        let stores = "5 blocks, 2 KiB; keeps 100 blocks, 2 KiB at most, prunes what DA has not confirmed";
        assert_eq!(rows(&troubled()), [&common_rows(stores)[..], &rows_of_troubles()].concat());
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
            "hardWaitsFor": "it is ahead",
            "wanted": [
                { "daHeight": 57, "index": 1, "height": 7, "digest": Hash([8; 32]).to_string() },
                { "daHeight": 58, "index": 1, "height": 8, "digest": Hash([8; 32]).to_string() },
            ],
            "floor": { "id": block(4), "daHeight": 50 },
            "belowFloor": 3,
            "passedOver": 2,
            "lowestPassedOver": {
                "height": 9, "proposer": PublicKey([3; 32]).to_string(), "daHeight": 60, "index": 1
            },
            "unknownProposer": { "height": 9, "proposer": PublicKey([3; 32]).to_string(), "count": 4 },
            "aheadOfClock": { "blocks": 12, "lastByMs": 3_610_500, "sinceMs": 90_000 },
            "pruningWaitsFor": "prover",
            "storageFull": true,
            "lostWords": ["the host's veto", "the schedule's entry at height 7"],
            "awaitsSigner": true,
            "lost": { "from": 1, "to": 3 },
        });
        assert_eq!(status_json(&troubled()), line);
        let quiet = status_json(&quiet());
        for none in [
            "retainBlocks",
            "maxBytes",
            "halt",
            "notReady",
            "vetoed",
            "hardWaitsFor",
            "floor",
            "unknownProposer",
            "aheadOfClock",
            "pruningWaitsFor",
            "lost",
        ] {
            assert_eq!(quiet[none], Value::Null, "{none}");
        }
        assert_eq!((&quiet["wanted"], &quiet["lostWords"]), (&json!([]), &json!([])));
    }
}

//! How answers look: aligned text, or JSON with the schema's names.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Code, Failure};
use crate::api::client::{
    Event, HeadsView, Info, Payload, PeerView, Peers, PublishResult, Published, SoftBlock, StatusValue, StatusView,
};
use crate::block::{BlockId, Hash};
use crate::cli::phase_name;
use crate::config::units::show_bytes;
use crate::store::Durability;
use crate::sync::{BanInfo, DaPosition, Evidence, EvidenceSide, Origin, Phase, Received};
use crate::util::hex::encode as hex;
use crate::util::printable::{Escape, Limit, printable};
use crate::verify::ScheduleEntry;

/// In which form to answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub json: bool,
}

/// Prints one line, or several that belong together. A reader that has seen enough is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    finish(out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Prints bytes as they are.
pub fn print_raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    finish(out.write_all(bytes).and_then(|()| out.flush()))
}

fn finish(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Ok(()) => Ok(()),
        // As `head` does it to whatever writes into it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(Code::Io, format!("cannot print: {error}"))),
    }
}

/// Text of others, without anything that a terminal would obey, and of bounded length.
pub fn plain(text: &str) -> String {
    printable(text, Escape::DebugButQuotes, Limit::TextChars(512))
}

/// Two columns, the first as wide as its widest.
fn columns(rows: &[Row]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// A table with a heading, each column as wide as its widest cell.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heading)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines.join("\n")
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".into(), |value| value.to_string())
}

fn id_json(id: BlockId) -> Value {
    json!({ "height": id.height.get(), "hash": id.hash.to_string() })
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Power => "power",
        Durability::Process => "process",
    }
}

fn origin_name(origin: Option<Origin>) -> &'static str {
    match origin {
        Some(Origin::Published) => "published",
        Some(Origin::Gossip) => "gossip",
        Some(Origin::Range) => "range",
        Some(Origin::Da) => "da",
        None => "unknown",
    }
}

fn heads_json(heads: &HeadsView) -> Value {
    json!({
        "tail": heads.tail.get(),
        "hard": heads.hard.map(id_json),
        "soft": heads.soft.map(id_json),
        "target": heads.target.map(crate::block::Height::get),
        "epoch": heads.epoch,
        "scannedThrough": heads.scanned_through,
    })
}

fn info_json(info: &Info) -> Value {
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

fn info_rows(info: &Info) -> Vec<(&'static str, String)> {
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

/// Two columns of text: a label, and what is said.
type Row = (&'static str, String);

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
fn status_rows(status: &StatusView) -> Vec<Row> {
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
        StatusValue::Info(info) => vec![plain(&info.version)],
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
fn composed_row(field: &str, status: &StatusView) -> Option<Row> {
    Some(match field {
        "storedBytes" => ("stores", stored(status)),
        "sessions" => ("hosts", format!("{} sessions, {} streams", status.sessions, status.streams)),
        "forked" if status.forked => ("FORKED", "the sequencer signed another branch, too; only DA can decide".into()),
        "historyUnavailable" if status.history_unavailable => {
            let gone = match status.info.phase {
                Phase::Following => "no peer has what lies below the tail: add one that keeps more",
                _ => {
                    "no peer has the next block any more: report it from DA, add a peer that keeps more, or begin later (sync.from)"
                }
            };
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// To the second: nobody wants to know more of an uptime.
fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

impl Answer {
    fn say(self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { print(&json().to_string()) } else { print(&text()) }
    }

    pub fn done(self) -> Result<(), Failure> {
        self.say(|| json!({ "done": true }), || "done".into())
    }

    pub fn info(self, info: &Info) -> Result<(), Failure> {
        self.say(|| info_json(info), || columns(&info_rows(info)))
    }

    pub fn health(self, info: &Info) -> Result<(), Failure> {
        let phase = phase_name(info.phase);
        self.say(|| json!({ "phase": phase, "heads": heads_json(&info.heads) }), || phase.to_owned())
    }

    pub fn status(self, status: &StatusView) -> Result<(), Failure> {
        self.say(|| status_json(status), || columns(&status_rows(status)))
    }

    pub fn peers(self, peers: &Peers) -> Result<(), Failure> {
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

    pub fn block(self, block: &SoftBlock, inclusion: Option<DaPosition>) -> Result<(), Failure> {
        self.say(
            || {
                let mut line = block_json(block);
                line["inclusion"] = inclusion.map_or(Value::Null, position_json);
                line
            },
            || {
                columns(&[
                    ("height", block.id.height.to_string()),
                    ("hash", block.id.hash.to_string()),
                    ("parent", or_none(block.parent)),
                    ("time", time(block.time_unix_nanos)),
                    ("host id", if block.host_id.is_empty() { "none".into() } else { hex(&block.host_id) }),
                    ("proposer", block.proposer.to_string()),
                    ("payload", show_bytes(block.payload.size())),
                    ("received by", origin_name(block.origin).into()),
                    ("confirmed", inclusion.map_or_else(|| "soft".into(), |at| format!("hard, {}", position(at)))),
                ])
            },
        )
    }

    pub fn published(self, result: &PublishResult) -> Result<(), Failure> {
        let published = |name: &str, published: &Published| {
            self.say(
                || {
                    json!({
                        "result": name,
                        "id": id_json(published.id),
                        "signedBlockBytes": published.signed_block.len(),
                        "durability": durability_name(published.durability),
                    })
                },
                || format!("{name} {}", published.id),
            )
        };
        // In text, the failure that follows says the rest.
        let only_json = |value: Value| if self.json { print(&value.to_string()) } else { Ok(()) };
        match result {
            PublishResult::Accepted(block) => published("accepted", block),
            PublishResult::Duplicate(block) => published("duplicate", block),
            PublishResult::Conflict(id) => only_json(json!({ "result": "conflict", "id": id_json(*id) })),
            PublishResult::NotNext { height, parent } => only_json(json!({
                "result": "notNext", "height": height.get(), "parent": parent.map(|hash| hash.to_string()),
            })),
            PublishResult::Invalid(why) => only_json(json!({ "result": "invalid", "why": why })),
            PublishResult::TooLarge { max_block_bytes } => {
                only_json(json!({ "result": "tooLarge", "maxBlockBytes": max_block_bytes }))
            }
            PublishResult::NotReady(why) => only_json(json!({ "result": "notReady", "why": why })),
            PublishResult::Halted(why) => only_json(json!({ "result": "halted", "why": why })),
            PublishResult::StorageFull => only_json(json!({ "result": "storageFull" })),
            PublishResult::Overloaded { retry_after } => {
                only_json(json!({ "result": "overloaded", "retryAfterMs": millis(*retry_after) }))
            }
            PublishResult::Draining => only_json(json!({ "result": "draining" })),
        }
    }

    pub fn evidence(self, evidence: &[Evidence]) -> Result<(), Failure> {
        if self.json {
            return evidence.iter().try_for_each(|one| print(&evidence_json(one).to_string()));
        }
        let rows: Vec<_> = evidence
            .iter()
            .map(|one| {
                [one.id.to_string(), one.height.to_string(), first_hash(one).to_string(), one.second.hash().to_string()]
            })
            .collect();
        print(&table(["ID", "HEIGHT", "FIRST", "SECOND"], &rows))
    }

    pub fn schedule(self, entries: &[ScheduleEntry]) -> Result<(), Failure> {
        if self.json {
            return entries.iter().try_for_each(|entry| {
                let line = json!({ "fromHeight": entry.from.get(), "proposer": entry.proposer.to_string() });
                print(&line.to_string())
            });
        }
        let rows: Vec<_> = entries.iter().map(|entry| [entry.from.to_string(), entry.proposer.to_string()]).collect();
        print(&table(["FROM", "PROPOSER"], &rows))
    }

    /// One event of a stream, as one line.
    pub fn event(self, event: &Event) -> Result<(), Failure> {
        self.say(|| event_json(event), || event_text(event))
    }
}

fn block_json(block: &SoftBlock) -> Value {
    json!({
        "id": id_json(block.id),
        "parentHash": block.parent.map(|hash| hash.to_string()),
        "timeUnixNanos": block.time_unix_nanos,
        "hostId": hex(&block.host_id),
        "proposer": block.proposer.to_string(),
        "header": hex(&block.header),
        "signature": hex(&block.signature),
        "payloadBytes": block.payload.size(),
        "origin": origin_name(block.origin),
    })
}

fn position_json(at: DaPosition) -> Value {
    json!({ "daHeight": at.height, "index": at.index })
}

fn position(at: DaPosition) -> String {
    if at == DaPosition::IMPLIED {
        return "as a block above it is".into();
    }
    format!("at DA height {}, index {}", at.height, at.index)
}

/// RFC 3339, in UTC.
fn time(unix_nanos: u64) -> String {
    // 64 bits of nanoseconds end in the year 2554.
    let at = std::time::UNIX_EPOCH + Duration::from_nanos(unix_nanos);
    humantime::format_rfc3339_nanos(at).to_string()
}

fn first_hash(evidence: &Evidence) -> Hash {
    match &evidence.first {
        EvidenceSide::Stored(id) => id.hash,
        EvidenceSide::Carried(signed) => signed.hash(),
    }
}

fn evidence_json(evidence: &Evidence) -> Value {
    let mut line = json!({
        "id": evidence.id.0,
        "height": evidence.height.get(),
        "first": { "hash": first_hash(evidence).to_string() },
        "second": {
            "hash": evidence.second.hash().to_string(),
            "header": hex(&evidence.second.header),
            "signature": hex(&evidence.second.signature),
        },
    });
    if let EvidenceSide::Carried(signed) = &evidence.first {
        line["first"]["header"] = hex(&signed.header).into();
        line["first"]["signature"] = hex(&signed.signature).into();
    }
    line
}

fn event_json(event: &Event) -> Value {
    match event {
        Event::Soft(block) => json!({ "soft": block_json(block) }),
        Event::Hard { id, position } => {
            json!({ "hard": { "id": id_json(*id), "daHeight": position.height, "index": position.index } })
        }
        Event::Retract { to, epoch } => json!({ "retract": { "to": to.map(id_json), "epoch": epoch } }),
        Event::Gap { from, to } => json!({ "gap": { "from": from.get(), "to": to.get() } }),
        Event::DataLoss { from, to } => json!({ "dataLoss": { "from": from.get(), "to": to.get() } }),
        Event::Equivocation { height, first, second } => json!({
            "equivocation": { "height": height.get(), "first": first.to_string(), "second": second.to_string() }
        }),
        Event::Progress => json!({ "progress": null }),
    }
}

fn event_text(event: &Event) -> String {
    match event {
        Event::Soft(block) => {
            let size = match &block.payload {
                Payload::Bytes(bytes) => bytes.len() as u64,
                Payload::Omitted(size) => *size,
            };
            let (height, hash) = (block.id.height, block.id.hash);
            format!("soft     {height:>8}  {hash}  {}  {}", show_bytes(size), origin_name(block.origin))
        }
        Event::Hard { id, position: at } => format!("hard     {:>8}  {}  {}", id.height, id.hash, position(*at)),
        Event::Retract { to: Some(to), epoch } => format!("retract  {:>8}  {}  epoch {epoch}", to.height, to.hash),
        Event::Retract { to: None, epoch } => format!("retract  everything  epoch {epoch}"),
        Event::Gap { from, to } => format!("gap      {from} to {to}"),
        Event::DataLoss { from, to } => format!("lost     {from} to {to}"),
        Event::Equivocation { height, first, second } => format!("equivoc. {height:>8}  {first}  {second}"),
        Event::Progress => "progress".into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_command_a_terminal() {
        assert_eq!(plain("it's \"fine\""), "it's \"fine\"");
        assert_eq!(plain("\u{1b}[2Jgone\n\u{202e}x"), "\\u{1b}[2Jgone\\n\\u{202e}x");
        assert_eq!(plain(&"a".repeat(600)).len(), 515);
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long one".to_owned(), "2".to_owned()]];
        assert_eq!(table(["NAME", "N"], &rows), "NAME      N\na         1\nlong one  2");
        assert_eq!(columns(&[("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2");
    }
}

//! Blocks, events, evidence, and who may propose.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, Printer, columns, id_json, or_none, print, table};
use crate::api::client::{Event, Payload, SoftBlock};
use crate::block::{Hash, SignedHeader, native};
use crate::cli::basis_name;
use crate::config::units::show_bytes;
use crate::sync::{Basis, Confirmation, Evidence, EvidenceSide, Origin};
use crate::util::hex::encode as hex;
use crate::verify::ScheduleEntry;

impl Printer {
    pub fn block(self, block: &SoftBlock, inclusion: Option<Confirmation>) -> Result<(), Failure> {
        self.say(
            || {
                let mut line = block_json(block);
                line["inclusion"] = inclusion.map_or(Value::Null, confirmed_json);
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
                    ("confirmed", inclusion.map_or_else(|| "soft".into(), |hard| format!("hard, {}", confirmed(hard)))),
                ])
            },
        )
    }

    pub fn evidence(self, evidence: &[Evidence]) -> Result<(), Failure> {
        if self.json {
            return evidence.iter().try_for_each(|one| print(&evidence_json(one).to_string()));
        }
        let rows: Vec<_> =
            evidence.iter().map(|one| [one.id.to_string(), first_side(one), side(&one.second)]).collect();
        print(&table(["ID", "FIRST", "SECOND"], &rows))
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

fn confirmed_json(Confirmation { position, basis }: Confirmation) -> Value {
    json!({ "daHeight": position.height, "index": position.index, "basis": basis_name(basis) })
}

fn confirmed(Confirmation { position, basis }: Confirmation) -> String {
    let at = format!("at DA height {}, index {}", position.height, position.index);
    match basis {
        Basis::Bytes => format!("by its bytes {at}"),
        Basis::Named => format!("by its name {at}"),
        Basis::Implied => "as a block above it is".into(),
        Basis::Trusted => "by the operator's word".into(),
    }
}

/// RFC 3339, in UTC.
fn time(unix_nanos: u64) -> String {
    // 64 bits of nanoseconds end in the year 2554.
    let at = std::time::UNIX_EPOCH + Duration::from_nanos(unix_nanos);
    humantime::format_rfc3339_nanos(at).to_string()
}

/// One of the two blocks, by its own height: the other one may stand right below it, and not link to it.
fn side(signed: &SignedHeader) -> String {
    let hash = signed.hash();
    native::decode_header(&signed.header)
        .map_or_else(|_| hash.to_string(), |header| format!("{}/{hash}", header.height))
}

fn first_side(evidence: &Evidence) -> String {
    match &evidence.first {
        EvidenceSide::Stored(id) => id.to_string(),
        EvidenceSide::Carried(signed) => side(signed),
    }
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
        Event::Hard { id, confirmed } => {
            let mut line = confirmed_json(*confirmed);
            line["id"] = id_json(*id);
            json!({ "hard": line })
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
        Event::Hard { id, confirmed: hard } => {
            format!("hard     {:>8}  {}  {}", id.height, id.hash, confirmed(*hard))
        }
        Event::Retract { to: Some(to), epoch } => format!("retract  {:>8}  {}  epoch {epoch}", to.height, to.hash),
        Event::Retract { to: None, epoch } => format!("retract  everything  epoch {epoch}"),
        Event::Gap { from, to } => format!("gap      {from} to {to}"),
        Event::DataLoss { from, to } => format!("lost     {from} to {to}"),
        Event::Equivocation { height, first, second } => format!("equivoc. {height:>8}  {first}  {second}"),
        Event::Progress => "progress".into(),
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

//! One answer of a stream: steps a cursor over one view of the store until the answer is full. What comes next is decided by
//! [`crate::sync::cursor`]; here bodies and bounds are added. Blocking, so it runs beside the RPC thread.
//!
//! Invariants:
//! 1. All of one answer is from one view, and nothing of it is beyond what was announced as durable.
//! 2. An answer has at most one event more than nothing when the first one is large, and never more than its bounds otherwise.
//! 3. A payload that comes in pieces is alone in its answer, so that an answer which a client does not finish is small.

use crate::block::{Block, BlockId, Hash, Height};
use crate::store::StoreError;
use crate::sync::cursor::{self, Cursor, Resumed, Start, Step, Wanted};
use crate::sync::{DaPosition, DataLoss, Epoch, EvidenceSide, Heads, Origin};

use super::view::View;

/// What a soft event costs beyond its payload and header: ids, signature, pointers.
const EVENT_BYTES: usize = 384;

/// One event, as it will be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Soft { block: Block, origin: Origin, body: Body },
    Hard { id: BlockId, position: DaPosition },
    Retract { to: Option<BlockId>, epoch: Epoch },
    Gap { from: Height, to: Height },
    DataLoss(DataLoss),
    Equivocation { height: Height, first: Hash, second: Hash },
}

/// How a payload is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Inline,
    Omitted,
    Chunked,
}

/// How much one answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub max_events: usize,
    pub max_bytes: usize,
    pub with_bodies: bool,
}

/// Where a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It cannot be judged yet where the host stands.
    Waiting(Start),
    At(Cursor),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gathered {
    pub events: Vec<Said>,
    pub place: Place,
    /// What may be told of the heads.
    pub heads: Heads,
}

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the host must resume from its own state: {0}")]
    Resume(&'static str),
    #[error("the host's hard block {theirs} is not on our chain, which has {ours} there")]
    Forked { theirs: BlockId, ours: BlockId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds where a stream begins.
pub(super) fn begin(
    start: Start,
    wanted: Wanted,
    initial_height: Height,
    view: &dyn View,
    announced: &Heads,
) -> Result<(Place, Heads), Ended> {
    let Some(heads) = cursor::visible(announced, &view.heads()?) else {
        return Ok((Place::Waiting(start), *announced));
    };
    match cursor::resume(&start, wanted, initial_height, &heads, view)? {
        Resumed::Started(cursor) => Ok((Place::At(cursor), heads)),
        Resumed::Waiting => Ok((Place::Waiting(start), heads)),
        Resumed::ForkedBelowHard { theirs, ours } => Err(Ended::Forked { theirs, ours }),
    }
}

/// Says as much as there is, within `bounds`.
pub(super) fn gather(
    place: Place,
    wanted: Wanted,
    initial_height: Height,
    view: &dyn View,
    announced: &Heads,
    bounds: Bounds,
) -> Result<Gathered, Ended> {
    let nothing = |place, heads| Ok(Gathered { events: Vec::new(), place, heads });
    let (mut cursor, heads) = match place {
        Place::Waiting(start) => match begin(start, wanted, initial_height, view, announced)? {
            (Place::At(cursor), heads) => (cursor, heads),
            (waiting, heads) => return nothing(waiting, heads),
        },
        Place::At(cursor) => match cursor::visible(announced, &view.heads()?) {
            Some(heads) => (cursor, heads),
            None => return nothing(Place::At(cursor), *announced),
        },
    };
    let mut events = Vec::new();
    let mut room = bounds.max_bytes;
    while events.len() < bounds.max_events {
        let mut ahead = cursor;
        match ahead.step(&heads, view)? {
            Step::Idle => {
                cursor = ahead;
                break;
            }
            Step::Lost => return Err(Ended::Resume("blocks were taken back that we do not have")),
            Step::Retract { to, epoch } => events.push(Said::Retract { to, epoch }),
            Step::Gap { from, to } => events.push(Said::Gap { from, to }),
            Step::DataLoss(loss) => events.push(Said::DataLoss(loss)),
            Step::Equivocation { after } => {
                let most = bounds.max_events - events.len();
                let evidence = view.evidence(after, most)?;
                if let (true, Some(last)) = (evidence.len() == most, evidence.last()) {
                    ahead.evidence_left(last.id);
                }
                for found in evidence.iter().filter(|found| ahead.concerns(found.height)) {
                    // Only carried evidence leaves the store.
                    let EvidenceSide::Carried(first) = &found.first else { continue };
                    let (first, second) = (first.hash(), found.second.hash());
                    events.push(Said::Equivocation { height: found.height, first, second });
                }
            }
            Step::Hard(height) => {
                let (Some(hash), Some(position)) = (view.hash(height)?, view.confirmation(height)?) else {
                    return Err(Ended::Resume("a block that was hard is damaged"));
                };
                let cost = EVENT_BYTES / 2;
                if cost > room && !events.is_empty() {
                    break;
                }
                room = room.saturating_sub(cost);
                events.push(Said::Hard { id: BlockId { height, hash }, position });
            }
            Step::Soft(height) => {
                let Some((block, origin)) = view.block(height)? else {
                    return Err(Ended::Resume("a block that was stored is damaged"));
                };
                if !ahead.link(block.id(), block.header().parent_hash) {
                    return Err(Ended::Resume("our chain is another than the one that was told"));
                }
                let payload = block.payload().len();
                let body = match bounds.with_bodies {
                    false => Body::Omitted,
                    true if payload > bounds.max_bytes => Body::Chunked,
                    true => Body::Inline,
                };
                let inline = if body == Body::Inline { payload } else { 0 };
                let cost = EVENT_BYTES + block.header_bytes().len() + inline;
                if !events.is_empty() && (cost > room || body == Body::Chunked) {
                    break;
                }
                room = room.saturating_sub(cost);
                events.push(Said::Soft { block, origin, body });
                if body == Body::Chunked {
                    cursor = ahead;
                    break;
                }
            }
        }
        cursor = ahead;
    }
    Ok(Gathered { events, place: Place::At(cursor), heads })
}

/// What becomes of a lookup.
#[derive(Debug)]
pub(super) enum Found {
    Block { block: Block, origin: Origin, inclusion: Option<DaPosition> },
    NotFound,
    Pruned(Height),
}

/// By height, by hash, or by both, which must then agree.
pub(super) fn look_up(
    height: Option<Height>,
    hash: Option<Hash>,
    view: &dyn View,
    announced: &Heads,
) -> Result<Found, StoreError> {
    let Some(heads) = cursor::visible(announced, &view.heads()?) else { return Ok(Found::NotFound) };
    let height = match (height, hash) {
        (Some(height), _) => height,
        (None, Some(hash)) => match view.height_of(hash)? {
            Some(height) => height,
            None => return Ok(Found::NotFound),
        },
        (None, None) => return Ok(Found::NotFound),
    };
    if height < heads.tail {
        return Ok(Found::Pruned(heads.tail));
    }
    if !heads.stores(height) {
        return Ok(Found::NotFound);
    }
    match view.block(height)? {
        Some((block, origin)) if hash.is_none_or(|hash| hash == block.hash()) => {
            let hard = heads.hard_height().is_some_and(|hard| height <= hard);
            let inclusion = if hard { view.confirmation(height)? } else { None };
            Ok(Found::Block { block, origin, inclusion })
        }
        _ => Ok(Found::NotFound),
    }
}

//! One answer of a stream: steps a cursor over one view of the store until the answer is full. What comes next is decided by
//! [`crate::sync::cursor`]; here bodies and bounds are added. Blocking, so it runs beside the RPC thread.
//!
//! Invariants:
//! 1. All of one answer is from one view, and nothing of it is beyond what was announced as durable.
//! 2. An answer has at most one event more than nothing when the first one is large, and never more than its bounds otherwise.
//! 3. A payload that comes in pieces is alone in its answer, so that an answer which a client does not finish is small.

use crate::block::{Block, BlockId, Hash, Height};
use crate::store::StoreError;
use crate::sync::cursor::{self, Cursor, EventFilter, LinkCheck, Resumed, Start, Step, WaitsFor};
use crate::sync::{Basis, Confirmation, DaPosition, DataLoss, Epoch, EvidenceId, EvidenceSide, Heads, Origin};

use super::view::HostView;

/// What a soft event costs beyond its payload and header: ids, signature, pointers.
const EVENT_BYTES: usize = 384;

/// One event, as it will be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FeedEvent {
    Soft { block: Block, origin: Origin, body: Body },
    Hard { id: BlockId, confirmed: Confirmation },
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
pub(super) enum StreamPosition {
    /// It cannot be judged yet where the host stands; and why, once that can be said.
    Waiting(Start, Option<WaitsFor>),
    At(Cursor),
}

impl StreamPosition {
    pub const fn waits_for(&self) -> Option<WaitsFor> {
        match self {
            Self::Waiting(_, waits_for) => *waits_for,
            Self::At(_) => None,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gathered {
    pub events: Vec<FeedEvent>,
    pub position: StreamPosition,
    /// What may be told of the heads.
    pub heads: Heads,
}

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedEnd {
    #[error("the host must resume from its own state: {0}")]
    Resume(&'static str),
    #[error("the host's hard block {theirs} is not on our chain, which has {ours} there")]
    Forked { theirs: BlockId, ours: BlockId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One view of the store, and what was announced of it.
#[derive(Clone, Copy)]
pub(super) struct AnnouncedView<'a> {
    pub view: &'a dyn HostView,
    pub announced: &'a Heads,
    pub initial_height: Height,
}

impl AnnouncedView<'_> {
    /// What may be told of the heads; `None`: the view is of another moment than the announcement.
    fn heads(&self) -> Result<Option<Heads>, StoreError> {
        Ok(cursor::visible(self.announced, &self.view.heads()?))
    }
}

/// Finds where a stream begins.
pub(super) fn begin(
    start: Start,
    wanted: EventFilter,
    from: AnnouncedView<'_>,
) -> Result<(StreamPosition, Heads), FeedEnd> {
    let Some(heads) = from.heads()? else {
        return Ok((StreamPosition::Waiting(start, None), *from.announced));
    };
    match cursor::resume(&start, wanted, from.initial_height, &heads, from.view)? {
        Resumed::Started(cursor) => Ok((StreamPosition::At(cursor), heads)),
        Resumed::Waiting(waits_for) => Ok((StreamPosition::Waiting(start, Some(waits_for)), heads)),
        Resumed::ForkedBelowHard { theirs, ours } => Err(FeedEnd::Forked { theirs, ours }),
    }
}

/// Says as much as there is, within `bounds`.
pub(super) fn gather(
    position: StreamPosition,
    wanted: EventFilter,
    from: AnnouncedView<'_>,
    bounds: Bounds,
) -> Result<Gathered, FeedEnd> {
    let nothing = |position, heads| Ok(Gathered { events: Vec::new(), position, heads });
    let (mut cursor, heads) = match position {
        StreamPosition::Waiting(start, before) => match begin(start, wanted, from)? {
            (StreamPosition::At(cursor), heads) => (cursor, heads),
            (StreamPosition::Waiting(start, now), heads) => {
                return nothing(StreamPosition::Waiting(start, now.or(before)), heads);
            }
        },
        StreamPosition::At(cursor) => match from.heads()? {
            Some(heads) => (cursor, heads),
            None => return nothing(StreamPosition::At(cursor), *from.announced),
        },
    };
    let mut answer = FeedAnswer { view: from.view, bounds, room: bounds.max_bytes, events: Vec::new() };
    while answer.events.len() < bounds.max_events {
        let mut ahead = cursor;
        let step = ahead.step(&heads, from.view)?;
        match answer.add(step, &mut ahead)? {
            Added::Taken => cursor = ahead,
            Added::Last => {
                cursor = ahead;
                break;
            }
            Added::NoRoom => break,
        }
    }
    Ok(Gathered { events: answer.events, position: StreamPosition::At(cursor), heads })
}

/// An answer that is being filled.
struct FeedAnswer<'a> {
    view: &'a dyn HostView,
    bounds: Bounds,
    /// Bytes that are left.
    room: usize,
    events: Vec<FeedEvent>,
}

/// What becomes of a step.
enum Added {
    /// It is said in this answer, and more may follow.
    Taken,
    /// The answer ends with it: there is nothing more to say, or nothing may follow.
    Last,
    /// It is left for the next answer.
    NoRoom,
}

impl FeedAnswer<'_> {
    /// `ahead` is the cursor that has made the step.
    fn add(&mut self, step: Step, ahead: &mut Cursor) -> Result<Added, FeedEnd> {
        match step {
            Step::Idle => return Ok(Added::Last),
            Step::Lost(why) => return Err(FeedEnd::Resume(why.reason())),
            Step::Retract { to, epoch } => self.events.push(FeedEvent::Retract { to, epoch }),
            Step::Gap { from, to } => self.events.push(FeedEvent::Gap { from, to }),
            Step::DataLoss(loss) => self.events.push(FeedEvent::DataLoss(loss)),
            Step::Equivocation { after } => self.add_evidence(after, ahead)?,
            Step::Hard(height) => return self.add_hard(height),
            Step::Soft(height) => return self.add_soft(height, ahead),
        }
        Ok(Added::Taken)
    }

    fn add_evidence(&mut self, after: EvidenceId, ahead: &mut Cursor) -> Result<(), FeedEnd> {
        let most = self.bounds.max_events - self.events.len();
        let evidence = self.view.evidence(after, most)?;
        if let (true, Some(last)) = (evidence.len() == most, evidence.last()) {
            ahead.evidence_left(last.id);
        }
        for found in evidence.iter().filter(|found| ahead.concerns(found.height)) {
            // Only carried evidence leaves the store.
            let EvidenceSide::Carried(first) = &found.first else { continue };
            let (first, second) = (first.hash(), found.second.hash());
            self.events.push(FeedEvent::Equivocation { height: found.height, first, second });
        }
        Ok(())
    }

    fn add_hard(&mut self, height: Height) -> Result<Added, FeedEnd> {
        let Some(hash) = self.view.hash(height)? else {
            return Err(hole(height).into());
        };
        let confirmed = confirmed(self.view, height)?;
        let cost = EVENT_BYTES / 2;
        if cost > self.room && !self.events.is_empty() {
            return Ok(Added::NoRoom);
        }
        self.room = self.room.saturating_sub(cost);
        self.events.push(FeedEvent::Hard { id: BlockId { height, hash }, confirmed });
        Ok(Added::Taken)
    }

    fn add_soft(&mut self, height: Height, ahead: &mut Cursor) -> Result<Added, FeedEnd> {
        let Some((block, origin)) = self.view.block(height)? else {
            return Err(hole(height).into());
        };
        if ahead.link(block.id(), block.header().parent_hash) == LinkCheck::Broken {
            return Err(FeedEnd::Resume("our chain is another than the one that was told"));
        }
        let payload = block.payload().len();
        let body = match self.bounds.with_bodies {
            false => Body::Omitted,
            true if payload > self.bounds.max_bytes => Body::Chunked,
            true => Body::Inline,
        };
        let inline = if body == Body::Inline { payload } else { 0 };
        let cost = EVENT_BYTES + block.header_bytes().len() + inline;
        if !self.events.is_empty() && (cost > self.room || body == Body::Chunked) {
            return Ok(Added::NoRoom);
        }
        self.room = self.room.saturating_sub(cost);
        self.events.push(FeedEvent::Soft { block, origin, body });
        Ok(if body == Body::Chunked { Added::Last } else { Added::Taken })
    }
}

/// What the heads say is stored, and is not.
fn hole(height: Height) -> StoreError {
    StoreError::Damaged { what: format!("block {height}") }
}

/// Why the block at this height, which is hard, is hard.
fn confirmed(view: &dyn HostView, height: Height) -> Result<Confirmation, StoreError> {
    let implied = Confirmation { position: DaPosition::IMPLIED, basis: Basis::Implied };
    Ok(view.confirmation(height)?.unwrap_or(implied))
}

/// What becomes of a lookup.
#[derive(Debug)]
pub(super) enum Lookup {
    Stored { block: Block, origin: Origin, inclusion: Option<Confirmation> },
    NotFound,
    Pruned(Height),
}

/// Up to which height a look-up may tell of a state of the store: what was announced, and is not taken back. Unlike a stream, a
/// look-up need not wait for the announcement of a rewind, or of what was pruned, that is on its way.
fn tellable(view: &dyn HostView, announced: &Heads, stored: &Heads) -> Result<Option<Height>, StoreError> {
    let announced_and_stored = announced.soft_height().min(stored.soft_height());
    let from = if stored.epoch > announced.epoch { view.retracted_since(announced.epoch)? } else { None };
    Ok(match from {
        Some(from) => announced_and_stored.min(from.prev()),
        None => announced_and_stored,
    })
}

/// By height, by hash, or by both, which must then agree.
pub(super) fn look_up(
    height: Option<Height>,
    hash: Option<Hash>,
    view: &dyn HostView,
    announced: &Heads,
) -> Result<Lookup, StoreError> {
    let heads = view.heads()?;
    let height = match (height, hash) {
        (Some(height), _) => height,
        (None, Some(hash)) => match view.height_of(hash)? {
            Some(height) => height,
            None => return Ok(Lookup::NotFound),
        },
        (None, None) => return Ok(Lookup::NotFound),
    };
    if height < heads.tail {
        return Ok(Lookup::Pruned(heads.tail));
    }
    if tellable(view, announced, &heads)?.is_none_or(|highest| height > highest) {
        return Ok(Lookup::NotFound);
    }
    match view.block(height)? {
        Some((block, origin)) if hash.is_none_or(|hash| hash == block.hash()) => {
            let hard = announced.hard_height().min(heads.hard_height());
            let inclusion = hard.is_some_and(|hard| height <= hard).then(|| confirmed(view, height)).transpose()?;
            Ok(Lookup::Stored { block, origin, inclusion })
        }
        _ => Ok(Lookup::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::{ChainId, Header, PublicKey, native};
    use crate::sync::{Evidence, EvidenceId};
    use crate::verify::Tip;

    /// Blocks from height 1 on; nobody has signed them.
    struct Model {
        blocks: Vec<Block>,
        tail: Height,
        /// What was taken back, once, and not announced yet.
        rewound_from: Option<Height>,
    }

    impl Model {
        /// Of these payload sizes.
        fn new(sizes: &[usize]) -> Self {
            let mut blocks: Vec<Block> = Vec::new();
            for (height, size) in (1..).zip(sizes) {
                let payload = Bytes::from(vec![0; *size]);
                let header = native::encode_header(&Header {
                    chain_id: ChainId::new("c").unwrap(),
                    height: Height::new(height).unwrap(),
                    time_unix_nanos: 0,
                    parent_hash: blocks.last().map(Block::hash),
                    payload_hash: Hash::of(&payload),
                    proposer: PublicKey([1; 32]),
                    host_id: Bytes::new(),
                });
                blocks.push(native::decode(&native::encode(&header, &[0; 64], &payload), 1 << 20).unwrap());
            }
            Self { blocks, tail: Height::MIN, rewound_from: None }
        }

        fn heads(&self) -> Heads {
            let soft = self.blocks.last().map(|block| Tip { id: block.id(), time_unix_nanos: 0 });
            let epoch = Epoch(self.rewound_from.map_or(0, |_| 1));
            Heads { soft, hard: self.blocks.first().map(Block::id), epoch, ..Heads::empty(self.tail) }
        }

        fn announcing<'a>(&'a self, announced: &'a Heads) -> AnnouncedView<'a> {
            AnnouncedView { view: self, announced, initial_height: Height::MIN }
        }

        /// What one answer after the other says, in words.
        fn answers(&self, bounds: Bounds) -> Vec<String> {
            let mut position = StreamPosition::Waiting(Start::Genesis, None);
            let mut answers = Vec::new();
            loop {
                let gathered = gather(position, EventFilter::Soft, self.announcing(&self.heads()), bounds).unwrap();
                if gathered.events.is_empty() {
                    return answers;
                }
                let words = gathered.events.iter().map(|said| match said {
                    FeedEvent::Soft { block, body: Body::Chunked, .. } => format!("{}!", block.height()),
                    FeedEvent::Soft { block, body: Body::Omitted, .. } => format!("{}-", block.height()),
                    FeedEvent::Soft { block, .. } => block.height().to_string(),
                    FeedEvent::Hard { id, .. } => format!("hard{}", id.height),
                    other => format!("{other:?}"),
                });
                answers.push(words.collect::<Vec<_>>().join(" "));
                position = gathered.position;
            }
        }
    }

    impl HostView for Model {
        fn heads(&self) -> Result<Heads, StoreError> {
            Ok(self.heads())
        }

        fn block(&self, height: Height) -> Result<Option<(Block, Origin)>, StoreError> {
            let index = usize::try_from(height.get() - 1).unwrap();
            Ok(self.blocks.get(index).map(|block| (block.clone(), Origin::Gossip)))
        }

        fn hash(&self, height: Height) -> Result<Option<Hash>, StoreError> {
            Ok(self.block(height)?.map(|(block, _)| block.hash()))
        }

        fn height_of(&self, hash: Hash) -> Result<Option<Height>, StoreError> {
            Ok(self.blocks.iter().find(|block| block.hash() == hash).map(Block::height))
        }

        fn confirmation(&self, height: Height) -> Result<Option<Confirmation>, StoreError> {
            let position = DaPosition { height: 5, index: 0 };
            Ok((height == Height::MIN).then_some(Confirmation { position, basis: Basis::Bytes }))
        }

        fn retracted_since(&self, _: Epoch) -> Result<Option<Height>, StoreError> {
            Ok(self.rewound_from)
        }

        fn evidence(&self, _: EvidenceId, _: usize) -> Result<Vec<Evidence>, StoreError> {
            Ok(Vec::new())
        }

        fn acks(&self) -> Result<Vec<(String, BlockId)>, StoreError> {
            Ok(Vec::new())
        }

        fn is_disowned(&self, _: Hash) -> Result<bool, StoreError> {
            Ok(false)
        }

        fn vetoed(&self) -> Result<Option<BlockId>, StoreError> {
            Ok(None)
        }
    }

    const WIDE: Bounds = Bounds { max_events: 100, max_bytes: 10_000, with_bodies: true };

    #[test]
    fn an_answer_keeps_to_its_bounds_and_nothing_is_left_out() {
        let model = Model::new(&[10, 10, 10]);
        assert_eq!(model.answers(WIDE), ["1 hard1 2 3"]);
        assert_eq!(model.answers(Bounds { max_events: 1, ..WIDE }), ["1", "hard1", "2", "3"]);
        assert_eq!(model.answers(Bounds { max_events: 3, ..WIDE }), ["1 hard1 2", "3"]);
        let model = Model::new(&[4000, 4000, 4000, 10]);
        assert_eq!(model.answers(WIDE), ["1 hard1 2", "3 4"]);
        assert_eq!(model.answers(Bounds { max_bytes: 4000, ..WIDE }), ["1", "hard1", "2", "3", "4"], "one at least");
    }

    #[test]
    fn what_comes_in_pieces_comes_alone() {
        let model = Model::new(&[10, 20_000, 20_000, 10]);
        assert_eq!(model.answers(WIDE), ["1 hard1", "2!", "3!", "4"]);
        assert_eq!(model.answers(Bounds { with_bodies: false, ..WIDE }), ["1- hard1 2- 3- 4-"]);
    }

    #[test]
    fn what_is_not_announced_is_not_told() {
        let model = Model::new(&[1, 1, 1]);
        let announced = Model::new(&[1, 1]).heads();
        let start = StreamPosition::Waiting(Start::Genesis, None);
        let told = gather(start.clone(), EventFilter::Soft, model.announcing(&announced), WIDE).unwrap();
        assert_eq!(told.events.len(), 3);
        let rewound = Heads { epoch: Epoch(1), ..model.heads() };
        let told = gather(start.clone(), EventFilter::Soft, model.announcing(&rewound), WIDE).unwrap();
        assert_eq!((told.events, told.position), (vec![], start));
        let found = look_up(Height::new(3), None, &model, &announced).unwrap();
        assert!(matches!(found, Lookup::NotFound), "{found:?}");
    }

    #[test]
    fn lookups_by_height_by_hash_and_by_both() {
        let model = Model::new(&[1, 1]);
        let heads = model.heads();
        let (first, second) = (model.blocks[0].id(), model.blocks[1].id());
        let found = |height, hash| match look_up(height, hash, &model, &heads).unwrap() {
            Lookup::Stored { block, inclusion, .. } => Some((block.id(), inclusion.is_some())),
            _ => None,
        };
        assert_eq!(found(Some(first.height), None), Some((first, true)));
        assert_eq!(found(None, Some(second.hash)), Some((second, false)));
        assert_eq!(found(Some(second.height), Some(second.hash)), Some((second, false)));
        assert_eq!(found(Some(second.height), Some(first.hash)), None);
        assert_eq!(found(None, Some(Hash([9; 32]))), None);
    }

    #[test]
    fn a_lookup_does_not_wait_for_the_announcement_of_a_rewind() {
        let announced = Model::new(&[1, 1, 1]).heads();
        let model = Model { rewound_from: Height::new(3), ..Model::new(&[1, 1, 1]) };
        let found = |height| match look_up(Height::new(height), None, &model, &announced).unwrap() {
            Lookup::Stored { block, inclusion, .. } => Some((block.height().get(), inclusion.is_some())),
            _ => None,
        };
        assert_eq!([1, 2, 3].map(found), [Some((1, true)), Some((2, false)), None], "another block 3 is there");
        let all = Model { rewound_from: Height::new(1), ..Model::new(&[1]) };
        assert!(matches!(look_up(Height::new(1), None, &all, &announced), Ok(Lookup::NotFound)));
    }

    #[test]
    fn a_lookup_does_not_wait_for_the_announcement_of_what_was_pruned() {
        let announced = Model::new(&[1, 1]).heads();
        let tail = Height::new(3).unwrap();
        let model = Model { tail, ..Model::new(&[1, 1, 1]) };
        let found = |height| look_up(Height::new(height), None, &model, &announced);
        assert!(matches!(found(2), Ok(Lookup::Pruned(below)) if below == tail));
        assert!(matches!(found(3), Ok(Lookup::NotFound)), "not announced yet");
    }
}

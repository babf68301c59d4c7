//! The types that the modules share: what the core, the node, the network, the store and the API tell each other.
//!
//! Plain data only. A module outside of the core translates its own library's types into these, so that foreign
//! libraries stay in their folders.

mod chain;
mod da;
mod exchange;
mod host;
mod ids;
mod peers;
mod proved;
mod store;

pub use chain::{DataLoss, Evidence, EvidenceSide, Heads};
pub use da::{
    Basis, Checkpoint, Confirmation, Content, DaNotes, DaReport, Finding, Floor, Found, HardWait, LeftOut,
    MAX_DA_HEIGHT, MAX_REPORT_SPAN, MAX_WANTED, Name, OversizedBlock, PassedOver, PassedOverRest, ReportAnswer,
    ReportRefusal, ReportTaken, Seen, SeenBlock, Sighting, Unremembered, Wanted,
};
pub use exchange::{BlockQuery, Fetch, FetchOutcome, Fetched, MAX_RANGE, Offence, Verdict};
pub use host::{
    AheadOfClock, Answer, Command, FORKED, Phase, Proposal, PublishAnswer, Received, RejectAnswer, Status,
    UnknownProposer, history_gone,
};
pub use ids::{CommitId, DaPosition, Epoch, EvidenceId, Origin, PeerId, RequestId, Ticket};
pub use peers::{BanInfo, PeerInfo, PeerList, PeerOrder, PeerStanding};
pub use proved::ProvedBlock;
pub use store::{
    Anchor, Batch, Change, Disowned, DisownedBy, GuardEntry, GuardState, Halt, LOST_BY_DAMAGE, LostWord, Recovered,
};

//! Planted bugs: the world, or what passes between it and the core, is made wrong in one way, and the invariants must notice.
//!
//! A simulator that has never failed has shown nothing. Each bug here is one that a real implementation had, or could well
//! have; each is planted from outside, by changing inputs, effects, or what the model of the node's loop does with them.
//!
//! Two that reliability engineers ask for do not apply as they stand, and something stands in for them:
//! - *a sequence number used again after a crash*: streams have none; what orders rewinds is the epoch ([`Bug::EpochForgotten`]);
//! - *the range clamp missing*: requests above the limit are never made, so it is the answer that is not clamped
//!   ([`Bug::UnclampedRange`]).

use std::num::NonZeroU64;

use blocksyncd::block::BlockId;
use blocksyncd::sync::{Batch, Change, DaReport, History, Input, Ticket, Trusted};
use blocksyncd::verify::AuthenticBlock;

use super::dice::Purpose;
use super::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A publish is answered before its block is on disk.
    AckBeforeDurable,
    /// Gossip is passed on before it was checked.
    ForwardBeforeVerify,
    /// A message that brings nothing new is held against who brought it.
    KnownIsReject,
    /// The second block of a height takes the place of the first one.
    OverwriteOnConflict,
    /// A rewind is not written to the retraction log.
    EpochForgotten,
    /// A block on DA is recognised by its hash, which does not cover the signature.
    HashWithoutSignature,
    /// DA could not be read, and is passed over.
    CursorPastOutage,
    /// A range answer does not stop where it should.
    UnclampedRange,
    /// A host that lags behind misses what came meanwhile.
    DropWhenLagging,
    /// The watermark says more than the store has.
    WatermarkAhead,
    /// Ranges are asked for one height too high, and what comes is taken for what was wanted.
    RangeOneFurther,
    /// Nothing bounds the blocks that wait above a gap.
    HeldUnbounded,
    /// Whoever passes on a forged block is banned at once.
    BanWeakRelay,
    /// A block of our own is gossiped before it is on disk.
    GossipBeforeDurable,
    /// Timeouts are measured on the wall clock.
    WallClockInTimeouts,
    /// The guard is lost at every start, and nobody notices.
    GuardForgotten,
    /// The guard of a signature is written before the commits that were decided before it, which then lower it.
    GuardOvertaken,
    /// A commit is said to be durable, and a crash shows that it was not.
    FsyncLies,
    /// DA sightings are reported as scanned, but not handed over.
    SightingsLost,
    /// What a consumer has acknowledged is not written.
    AckForgotten,
    /// A process that is to end goes on as before.
    DrainIgnored,
    /// One block fewer is kept than the operator wants.
    PrunedTooMuch,
    /// What is only soft is pruned, as if there were no DA layer.
    PrunedUnconfirmed,
    /// What consumers have acknowledged is forgotten at every start, and with it what is kept for them.
    ConsumersForgotten,
    /// Any block that the sequencer signed may begin an empty store.
    TrustedUnchecked,
    /// What is below the tail is never fetched.
    BackfillForgotten,
}

impl Bug {
    pub const ALL: [Self; 26] = [
        Self::AckBeforeDurable,
        Self::ForwardBeforeVerify,
        Self::KnownIsReject,
        Self::OverwriteOnConflict,
        Self::EpochForgotten,
        Self::HashWithoutSignature,
        Self::CursorPastOutage,
        Self::UnclampedRange,
        Self::DropWhenLagging,
        Self::WatermarkAhead,
        Self::RangeOneFurther,
        Self::HeldUnbounded,
        Self::BanWeakRelay,
        Self::GossipBeforeDurable,
        Self::WallClockInTimeouts,
        Self::GuardForgotten,
        Self::GuardOvertaken,
        Self::FsyncLies,
        Self::SightingsLost,
        Self::AckForgotten,
        Self::DrainIgnored,
        Self::PrunedTooMuch,
        Self::PrunedUnconfirmed,
        Self::ConsumersForgotten,
        Self::TrustedUnchecked,
        Self::BackfillForgotten,
    ];
}

impl World {
    /// What the store is given instead of what the core decided.
    pub fn mutate_batch(&self, batch: &mut Batch) {
        match self.bug {
            Some(Bug::EpochForgotten) => {
                for change in &mut batch.changes {
                    if let Change::Truncate { epoch, .. } = change {
                        epoch.0 = 0;
                    }
                }
            }
            Some(Bug::AckForgotten) => batch.changes.retain(|change| !matches!(change, Change::Ack { .. })),
            Some(Bug::OverwriteOnConflict) => {
                let second = batch.changes.iter().find_map(|change| match change {
                    Change::Evidence(evidence) => self.chain.signed(evidence.second.hash()),
                    _ => None,
                });
                if let Some(second) = second {
                    for change in &mut batch.changes {
                        if let Change::Append { block, .. } = change
                            && block.id().height == second.height()
                            && let Ok(other) = second.link(self.tip_below(second))
                        {
                            *block = other;
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// What the core is told to keep, instead of what its operator said.
    pub fn mutate_history(&self, history: History) -> History {
        match self.bug {
            Some(Bug::PrunedTooMuch) => {
                let one_less = |retain: NonZeroU64| NonZeroU64::new(retain.get() - 1).or(Some(retain));
                History { retain_blocks: history.retain_blocks.and_then(one_less), ..history }
            }
            Some(Bug::PrunedUnconfirmed) => History { prune_unconfirmed: true, ..history },
            Some(Bug::TrustedUnchecked) => {
                let another = |id: BlockId| {
                    self.twins
                        .iter()
                        .filter_map(|hash| self.chain.signed(*hash))
                        .find(|twin| twin.height() == id.height)
                };
                let another = |trusted: Trusted| Trusted {
                    id: another(trusted.id).map_or(trusted.id, AuthenticBlock::id),
                    ..trusted
                };
                History { trusted: history.trusted.map(another), ..history }
            }
            Some(Bug::BackfillForgotten) => History { backfill: false, ..history },
            _ => history,
        }
    }

    /// What the core is told instead of what the reporter said.
    pub fn mutate_report(&mut self, ticket: Ticket, mut report: DaReport) -> Input {
        if self.bug == Some(Bug::SightingsLost) && self.dice.common(Purpose::Bug).f64() < 0.2 {
            report.findings.clear();
        }
        Input::Da { ticket, report }
    }
}

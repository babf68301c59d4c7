//! What stands against a block, or against all that follow: the host's veto, the halt, and the evidence of contradictions.
//!
//! Invariants:
//! 1. A veto, a halt, and the end of either are on disk with the decision that made them.
//! 2. At most one piece of evidence per height, none for heights at or below hard; bounded by `limits.evidence` heights, the
//!    lowest of which are forgotten first.
//! 3. Only an operator ends a halt.

use std::collections::BTreeMap;

use super::chain::Chain;
use super::decision::Decision;
use super::{Change, Evidence, EvidenceSide, Halt, ProvedBlock, Verdict};
use crate::block::{BlockId, Height};
use crate::verify::AuthenticBlock;

#[derive(Debug)]
pub(super) struct Standing {
    vetoed: Option<BlockId>,
    halted: Option<Halt>,
    /// Heights above hard of which evidence is kept, and the blocks that it proves to exist, but for what was stored here when it was
    /// found.
    evidence: BTreeMap<Height, Vec<ProvedBlock>>,
    max_evidence: usize,
}

impl Standing {
    /// Goes on from what was on disk.
    pub fn new(vetoed: Option<BlockId>, halted: Option<Halt>, evidence: Vec<Evidence>, max_evidence: usize) -> Self {
        let mut standing = Self { vetoed, halted, evidence: BTreeMap::new(), max_evidence };
        for Evidence { height, first, second, .. } in evidence {
            let first = first.proved();
            standing.evidence.entry(height).or_default().extend(first.into_iter().chain(ProvedBlock::of(&second)));
        }
        standing
    }

    /// The block that the host's execution refuses.
    pub fn vetoed(&self) -> Option<BlockId> {
        self.vetoed
    }

    pub fn halted(&self) -> Option<Halt> {
        self.halted
    }

    /// Whether evidence is kept that the sequencer contradicted itself above hard.
    pub fn is_contradicted(&self) -> bool {
        !self.evidence.is_empty()
    }

    /// The highest height of which evidence is kept, of which not all blocks are such.
    pub fn highest_evidence_but(&self, is_such: impl Fn(BlockId) -> bool) -> Option<Height> {
        let counts = |proved: &Vec<ProvedBlock>| proved.is_empty() || proved.iter().any(|proved| !is_such(proved.id));
        self.evidence.iter().rev().find(|(_, proved)| counts(proved)).map(|(height, _)| *height)
    }

    /// The blocks that the evidence proves to exist.
    pub fn proved(&self) -> impl Iterator<Item = ProvedBlock> {
        self.evidence.values().flatten().copied()
    }

    pub fn veto(&mut self, block: BlockId, decision: &mut Decision) {
        self.vetoed = Some(block);
        decision.change(Change::Veto(self.vetoed));
    }

    pub fn lift_veto(&mut self, decision: &mut Decision) {
        self.vetoed = None;
        decision.change(Change::Veto(None));
    }

    pub fn halt(&mut self, halt: Halt, decision: &mut Decision) {
        self.halted = Some(halt);
        decision.change(Change::Halt(self.halted));
    }

    pub fn end_halt(&mut self, decision: &mut Decision) {
        self.halted = None;
        decision.change(Change::Halt(None));
    }

    /// The sequencer contradicted itself. The first time at a height this is kept, and gossip is to accept the block: others need
    /// to see it too.
    pub fn keep_evidence(
        &mut self,
        block: &AuthenticBlock,
        first: EvidenceSide,
        chain: &mut Chain,
        decision: &mut Decision,
    ) -> Verdict {
        let height = block.height();
        if chain.heads().hard_height().is_some_and(|hard| height <= hard) || self.evidence.contains_key(&height) {
            return Verdict::Ignore;
        }
        let id = chain.next_evidence();
        let second = block.block().signed_header();
        let proved = first.proved().into_iter().chain([ProvedBlock::with(block.hash(), block.block().header())]);
        self.evidence.insert(height, proved.collect());
        if self.evidence.len() > self.max_evidence {
            self.evidence.pop_first();
        }
        decision.change(Change::Evidence(Evidence { id, height, first, second }));
        Verdict::Accept
    }

    /// This height is hard: DA has decided about it and all below.
    pub fn forget_evidence(&mut self, hard: Height) {
        self.evidence = self.evidence.split_off(&hard.next());
    }
}

impl EvidenceSide {
    /// What of it need not be looked up in the store.
    fn proved(&self) -> Option<ProvedBlock> {
        match self {
            Self::Carried(signed) => ProvedBlock::of(signed),
            Self::Stored(_) => None,
        }
    }
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Diverged { ours, da, position } => write!(
                f,
                "DA height {} has block {da} where {ours} is stored: an operator must abandon the branch \
                 (ctl abandon-branch {ours}); but when that was reported wrongly, have it reported anew: ctl rescan-da --from {}",
                position.height, position.height
            ),
            Self::Contradicted { ours, position } => write!(
                f,
                "DA height {} names something else than {ours}: an operator must find out whether the host named it rightly \
                 (then ctl abandon-branch {ours}), or not (then have it reported anew: ctl rescan-da --from {})",
                position.height, position.height
            ),
            Self::HardContradicted { hard, da, position } => write!(
                f,
                "DA height {} has {da}, where {hard} became hard: one of the two was reported wrongly. \
                 When it is this one, have it reported anew (ctl rescan-da --from {}); else this store must be made anew",
                position.height, position.height
            ),
        }
    }
}

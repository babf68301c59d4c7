//! A store that begins with a block which the operator trusts.

use blocksyncd::sync::{
    Anchor, Basis, Change, Command, DaPosition, DataLoss, FetchOutcome, Floor, GuardState, HardWait, History, Input,
    ProvedBlock, PublishAnswer, Trusted, Verdict,
};
use blocksyncd::verify::{AuthenticBlock, Tip};

use super::blocks::{branch, chain, h, proposal};
use super::driver::{
    Core, Setup, appended, at, changes, commits, kept_block, open, peer, penalties, range_request, ranges, seen_block,
    seen_digest,
};

fn trusting(block: &AuthenticBlock) -> History {
    History { trusted: Some(Trusted { id: block.id(), da: None }), ..History::default() }
}

/// With nothing stored, it trusts block 5.
fn trusting_fifth(blocks: &[AuthenticBlock]) -> Core {
    Setup::follower().history(trusting(&blocks[4])).start()
}

fn stored(core: &Core) -> (u64, Option<u64>) {
    (core.heads().tail.get(), core.soft().map(|soft| soft.height.get()))
}

#[test]
fn an_empty_store_begins_with_it() {
    let blocks = chain(9);
    let mut core = trusting_fifth(&blocks);
    assert_eq!(stored(&core), (5, None));
    let fetch = range_request(&core.connect_at(1, &blocks[8]));
    let effects = core.answer(fetch.request, &blocks[4..8], FetchOutcome::Complete);
    assert_eq!(appended(&effects), blocks[4..].iter().map(AuthenticBlock::id).collect::<Vec<_>>());
    assert_eq!(stored(&core), (5, Some(9)));
    // Of what it links to, only the hash is known.
    assert_eq!(core.heads().base.map(|base| (base.id, base.time_unix_nanos)), Some((blocks[3].id(), 0)));
}

#[test]
fn what_is_asked_for_begins_with_it() {
    let blocks = chain(9);
    assert_eq!(ranges(&trusting_fifth(&blocks).connect_at(1, &blocks[8])), [(peer(1), 5, 4)]);
}

#[test]
fn blocks_above_wait_for_it() {
    let blocks = chain(7);
    let others = branch(&blocks[..3], "b", 4);
    let mut core = trusting_fifth(&blocks);
    for block in [&others[2], &blocks[5], &blocks[6]] {
        assert_eq!(core.gossip(block), Verdict::Accept);
    }
    assert_eq!((stored(&core), core.status().held_blocks), ((5, None), 3));
    assert_eq!(core.gossip(&blocks[4]), Verdict::Accept);
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[6].id()), 0));
}

#[test]
fn another_block_in_its_place_is_not_stored() {
    let blocks = chain(9);
    for other in [branch(&blocks[..4], "b", 1).remove(0), branch(&blocks[..3], "b", 2).remove(1)] {
        let mut core = trusting_fifth(&blocks);
        assert_eq!(core.gossip(&other), Verdict::Ignore);
        assert_eq!(appended(&core.da_has(std::slice::from_ref(&other))), []);
        assert_eq!((stored(&core), core.hard()), ((5, None), None));
    }
}

#[test]
fn who_gives_another_block_for_it_is_on_another_branch() {
    let blocks = chain(9);
    let others = branch(&blocks[..4], "b", 5);
    let mut core = trusting_fifth(&blocks);
    let fetch = range_request(&core.connect_at(1, &others[4]));
    let effects = core.answer(fetch.request, &others[..4], FetchOutcome::Complete);
    assert_eq!((ranges(&effects), penalties(&effects)), (vec![], vec![]), "signed it is, so nobody is blamed");
    assert_eq!((stored(&core), core.status().forked), ((5, None), true));
    // The others are asked.
    assert_eq!(ranges(&core.connect_at(2, &blocks[8]))[0].0, peer(2));
}

#[test]
fn nothing_else_can_be_published_there() {
    let blocks = chain(6);
    let other = branch(&blocks[..4], "b", 1).remove(0);
    let trusted = blocks[4].id();
    let core = || {
        let mut setup = Setup::signer().history(trusting(&blocks[4]));
        setup.at.guard = GuardState::Unused;
        setup.start()
    };
    assert_eq!(core().publish_signed(&other), PublishAnswer::Conflict(trusted));
    let on_whatever = blocksyncd::sync::Proposal { parent: None, ..proposal(&other) };
    assert_eq!(core().refusal(on_whatever), PublishAnswer::Conflict(trusted));
    assert_eq!(core().refusal(proposal(&other)), PublishAnswer::NotNext { height: h(5), parent: None });
    // The host has the block itself, and goes on with it.
    let mut core = core();
    assert_eq!(core.publish_signed(&blocks[4]), PublishAnswer::Accepted(trusted));
    assert_eq!(core.publish_signed(&blocks[5]), PublishAnswer::Accepted(blocks[5].id()));
}

#[test]
fn a_store_that_has_blocks_goes_on_from_them_and_keeps_to_it() {
    let blocks = chain(8);
    let other = branch(&blocks[..6], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks[..5], 0).history(trusting(&blocks[6])).start();
    assert_eq!(stored(&core), (1, Some(5)));
    let _ = core.gossip(&blocks[5]);
    assert_eq!(stored(&core), (1, Some(6)));
    let _ = core.gossip(&other);
    assert_eq!(core.publish_signed(&other), PublishAnswer::Conflict(blocks[6].id()));
    assert_eq!(core.soft(), Some(blocks[5].id()));
    let _ = core.gossip(&blocks[6]);
    assert_eq!(core.soft(), Some(blocks[6].id()));
    // Not even DA replaces it.
    let mut seen = blocks[..6].to_vec();
    seen.extend([other, blocks[6].clone()]);
    let _ = core.da_has(&seen);
    assert_eq!(core.hard(), Some(blocks[6].id()));
}

/// All of it was taken back: what it links to is still known.
#[test]
fn a_store_that_had_blocks_does_not_begin_anew() {
    let blocks = chain(8);
    let mut taken_back = Setup::follower().pruned_below(&blocks[2]).history(trusting(&blocks[4]));
    taken_back.at.heads.soft = None;
    assert_eq!(stored(&taken_back.start()), (3, None));
}

/// Nothing that it had is here, and what it began with may be gone from all peers.
#[test]
fn a_store_that_lost_everything_begins_with_it() {
    let blocks = chain(12);
    let anchor = Anchor { id: blocks[9].id(), position: at(30, 0) };
    for (lost_from, begins_at) in [(1, 5), (4, 5), (5, 5), (6, 6)] {
        let mut setup = Setup::follower().trusting(&blocks[4], Some(20));
        setup.at.heads.tail = h(lost_from);
        setup.at.heads.base = lost_from
            .checked_sub(2)
            .and_then(|base| Tip::below(blocks[usize::try_from(base).expect("small") + 1].block()));
        setup.at.heads.lost = Some(DataLoss { from: h(lost_from), to: h(11) });
        setup.at.anchor = Some(anchor);
        let mut core = setup.start();
        let floor = (begins_at == 5).then_some(Floor { id: blocks[4].id(), da: 20 });
        assert_eq!((stored(&core), core.heads().floor), ((begins_at, None), floor), "lost from {lost_from}");
        assert_eq!(core.heads().lost, Some(DataLoss { from: h(begins_at), to: h(11) }));
        let fetch = range_request(&core.connect_at(1, &blocks[11]));
        let begin = usize::try_from(begins_at).expect("small") - 1;
        let _ = core.answer(fetch.request, &blocks[begin..11], FetchOutcome::Complete);
        assert_eq!((core.soft(), core.heads().lost), (Some(blocks[11].id()), None));
        assert_eq!(core.hard(), (begins_at == 5).then_some(blocks[4].id()));
    }
}

/// It never stored the trusted block, and the operator thought better of it. What DA had for the blocks that are to be stored
/// now was not kept.
#[test]
fn a_start_that_led_to_nothing_is_forgotten() {
    let blocks = chain(8);
    for (trusted, begins_at, scanned_through) in [(Some(4), 5, 7), (Some(6), 7, 7), (Some(2), 3, 0), (None, 1, 0)] {
        let mut setup = Setup::follower();
        setup.config.history.trusted = trusted.map(|index: usize| Trusted { id: blocks[index].id(), da: None });
        setup.at.heads.tail = h(5);
        setup.at.heads.scanned_through = 7;
        let mut core = setup.start();
        let found = (core.heads().tail.get(), core.heads().scanned_through);
        assert_eq!(found, (begins_at, scanned_through), "{trusted:?}");
        assert_eq!(core.report(scanned_through, 8, vec![]).0.scanned_through, 8);
    }
}

/// Everything that it had is lost, and it is told to begin elsewhere: nothing would ever link to where it began.
#[test]
fn after_a_loss_of_everything_it_begins_where_it_is_told_to() {
    let blocks = chain(8);
    for (trusted, begins_at) in [(Some(4), 5), (Some(6), 7), (Some(2), 3), (None, 1)] {
        let mut setup = Setup::follower();
        setup.config.history.trusted = trusted.map(|index: usize| Trusted { id: blocks[index].id(), da: None });
        setup.at.heads.tail = h(5);
        setup.at.heads.lost = Some(DataLoss { from: h(5), to: h(8) });
        let mut core = setup.start();
        let lost = Some(DataLoss { from: h(begins_at), to: h(8) });
        assert_eq!((core.heads().tail, core.heads().lost), (h(begins_at), lost), "{trusted:?}");
        for block in &blocks[usize::try_from(begins_at).expect("small") - 1..] {
            let _ = core.gossip(block);
        }
        assert_eq!((core.soft(), core.heads().lost), (Some(blocks[7].id()), None), "{trusted:?}");
    }
}

#[test]
fn of_what_da_has_only_what_is_at_or_above_it_is_kept() {
    let blocks = chain(6);
    let mut core = trusting_fifth(&blocks);
    let _ = core.report(0, 1, (0..).zip(&blocks[2..]).map(|(index, block)| seen_digest(1, index, block)).collect());
    assert_eq!(core.status().pending_sightings, 2);
}

#[test]
fn da_may_bring_it() {
    let blocks = chain(6);
    let mut core = trusting_fifth(&blocks);
    let _ = core.da_has(&blocks[3..]);
    assert_eq!((stored(&core), core.hard()), ((5, Some(6)), Some(blocks[5].id())));
}

#[test]
fn da_may_show_its_digest_alone() {
    let blocks = chain(6);
    let mut core = trusting_fifth(&blocks);
    let (answer, _) = core.report(0, 1, vec![seen_digest(1, 0, &blocks[4])]);
    assert_eq!(answer.wanted, [open(1, 0, &blocks[4])]);
    let _ = core.report(1, 1, vec![seen_block(1, 0, &blocks[4])]);
    assert_eq!((stored(&core), core.hard()), ((5, Some(5)), Some(blocks[4].id())));
}

#[test]
fn hard_waits_for_da_to_show_it() {
    let blocks = chain(6);
    let mut core = trusting_fifth(&blocks);
    let waits = Some(HardWait::Trusted(blocks[4].id()));
    assert_eq!(core.status().hard_waits, Some(HardWait::Beginning(blocks[4].id())));
    let _ = core.gossip(&blocks[4]);
    assert_eq!((core.hard(), core.status().hard_waits), (None, waits));
    let _ = core.da_has(&blocks[5..]);
    assert_eq!((core.hard(), core.status().hard_waits), (None, waits));
    let _ = core.da_has(&blocks[4..5]);
    assert_eq!((core.hard(), core.status().hard_waits), (Some(blocks[5].id()), None));
}

// ---- With the DA height from which on DA is read --------------------------------------------------------------------

/// With nothing stored, it trusts block 5, and that DA has nothing above it through its height 20.
fn from_checkpoint(blocks: &[AuthenticBlock]) -> Core {
    Setup::follower().trusting(&blocks[4], Some(20)).start()
}

#[test]
fn it_is_hard_as_soon_as_it_is_stored() {
    let blocks = chain(7);
    let mut core = from_checkpoint(&blocks);
    let effects = core.give(Input::Wakeup);
    let floor = Some(Floor { id: blocks[4].id(), da: 20 });
    assert_eq!(changes(&effects), [Change::Begin { tail: h(5), floor }]);
    assert_eq!((core.heads().scanned_through, core.heads().floor, core.hard()), (20, floor, None));
    assert_eq!(core.gossip(&blocks[5]), Verdict::Accept);
    let effects = core.gossip_effects(1, Ok(blocks[4].clone()));
    let confirm = Change::Confirm { height: h(5), position: DaPosition::IMPLIED, basis: Basis::Trusted };
    assert!(changes(&effects).contains(&confirm), "{effects:#?}");
    assert_eq!((core.hard(), core.soft()), (Some(blocks[4].id()), Some(blocks[5].id())));
    assert_eq!(core.heads().decided_by_da(), None, "DA decided nothing");
    let _ = core.report(20, 21, vec![seen_digest(21, 0, &blocks[5])]);
    assert_eq!((core.hard(), core.heads().decided_by_da()), (Some(blocks[5].id()), Some(h(6))));
}

#[test]
fn da_is_read_from_there_on_and_not_before() {
    let blocks = chain(7);
    let other = branch(&blocks[..5], "b", 1).remove(0);
    let mut core = from_checkpoint(&blocks);
    let _ = core.gossip(&blocks[4]);
    let (answer, _) = core.report(0, 22, vec![seen_block(20, 7, &other), seen_block(21, 0, &blocks[5])]);
    assert_eq!((answer.scanned_through, core.hard()), (22, Some(blocks[5].id())));
    assert!(core.operator_is_refused(Command::RescanDa(20)).contains("from its height 21 on"));
    let _ = core.operator_may(Command::RescanDa(21));
    assert_eq!(core.heads().scanned_through, 20);
}

#[test]
fn what_da_shows_at_or_below_it_decides_nothing_and_is_counted() {
    let blocks = chain(7);
    let others = branch(&blocks[..3], "b", 2);
    let mut core = from_checkpoint(&blocks);
    let _ = core.gossip(&blocks[4]);
    let effects = core.report(20, 21, vec![seen_block(21, 0, &others[1]), seen_block(21, 1, &others[0])]).1;
    assert_eq!(changes(&effects), []);
    let status = core.status();
    assert_eq!((status.halted, status.below_trusted, core.hard()), (None, 2, Some(blocks[4].id())));
}

/// Whoever brings it, it is hard by the operator's word.
#[test]
fn da_may_show_it_late() {
    let blocks = chain(7);
    let other = branch(&blocks[..4], "b", 1).remove(0);
    let mut core = from_checkpoint(&blocks);
    assert_eq!(core.status().hard_waits, Some(HardWait::Beginning(blocks[4].id())), "it does not wait for DA");
    let _ = core.report(20, 21, vec![seen_block(21, 0, &other), seen_digest(21, 1, &blocks[4])]);
    assert_eq!((stored(&core), core.status().pending_sightings, core.status().wanted.len()), ((5, None), 0, 0));
    let effects = core.report(21, 22, vec![seen_block(22, 0, &blocks[4])]).1;
    let confirm = Change::Confirm { height: h(5), position: DaPosition::IMPLIED, basis: Basis::Trusted };
    assert!(changes(&effects).contains(&confirm), "{effects:#?}");
    assert_eq!((core.hard(), core.heads().decided_by_da()), (Some(blocks[4].id()), None));
}

#[test]
fn the_floor_outlives_restarts_and_changes_only_in_an_empty_store() {
    let blocks = chain(7);
    let floor = Floor { id: blocks[4].id(), da: 20 };
    for (trusted, expected) in [(Some(&blocks[5]), floor), (None, floor)] {
        let mut setup = Setup::follower().storing(&blocks[..6], 5).pruned_below(&blocks[4]);
        setup.at.heads.floor = Some(floor);
        setup.at.heads.scanned_through = 25;
        if let Some(trusted) = trusted {
            setup = setup.trusting(trusted, Some(40));
        }
        let mut core = setup.start();
        assert_eq!(commits(&core.give(Input::Wakeup)), []);
        assert_eq!((core.heads().floor, core.heads().scanned_through), (Some(expected), 25));
    }
    // Nor is one made where DA was read from its beginning.
    let mut core = Setup::follower().storing(&blocks[..6], 0).trusting(&blocks[4], Some(40)).start();
    let _ = core.give(Input::Wakeup);
    assert_eq!((core.heads().floor, core.hard()), (None, None));
    // What was seen under another one counts for nothing; but what was signed stays signed.
    let mut setup = Setup::follower().trusting(&blocks[4], Some(30));
    setup.at.heads.tail = h(5);
    setup.at.heads.floor = Some(floor);
    setup.at.heads.scanned_through = 35;
    setup.at.sightings = vec![kept_block(32, 0, &blocks[6])];
    let mut core = setup.start();
    let effects = core.give(Input::Wakeup);
    let begin = Change::Begin { tail: h(5), floor: Some(Floor { da: 30, ..floor }) };
    let proved = Change::KeepProved(ProvedBlock::with(blocks[6].hash(), blocks[6].block().header()));
    assert_eq!(changes(&effects), [begin, Change::DropSighting(at(32, 0)), proved]);
    assert_eq!(core.heads().scanned_through, 30);
}

#[test]
fn damage_does_not_take_the_cursor_below_the_floor() {
    let blocks = chain(7);
    let mut setup = Setup::follower().storing(&blocks[..6], 0).pruned_below(&blocks[4]);
    setup.at.heads.floor = Some(Floor { id: blocks[4].id(), da: 20 });
    let mut core = setup.start();
    let _ = core.give(Input::Wakeup);
    assert_eq!((core.heads().scanned_through, core.hard()), (20, Some(blocks[4].id())));
}

#[test]
fn a_key_signs_on_it_no_more_than_on_any_other() {
    let blocks = chain(6);
    let guard = GuardState::after(Some(blocks[5].id()));
    let mut core = Setup::signer().guard(guard).trusting(&blocks[4], Some(20)).start();
    let _ = core.gossip(&blocks[4]);
    assert_eq!(core.hard(), Some(blocks[4].id()));
    let other = branch(&blocks[..5], "b", 1).remove(0);
    assert_eq!(core.refusal(proposal(&other)), PublishAnswer::Conflict(blocks[5].id()));
}

// ---- Checkpoints ----------------------------------------------------------------------------------------------------

fn checkpoint(core: &Core) -> Option<(u64, u64)> {
    core.status().checkpoint.map(|checkpoint| (checkpoint.id.height.get(), checkpoint.da))
}

#[test]
fn a_checkpoint_has_nothing_above_it_on_da() {
    let blocks = chain(9);
    let mut core = Setup::follower().storing(&blocks[..4], 0).start();
    assert_eq!(checkpoint(&core), None);
    let _ = core.report(0, 5, vec![]);
    assert_eq!(checkpoint(&core), None, "never a soft block");
    let _ = core.report(5, 6, vec![seen_block(6, 0, &blocks[0])]);
    assert_eq!(checkpoint(&core), Some((1, 6)));
    let _ = core.report(6, 9, vec![seen_digest(8, 0, &blocks[4])]);
    assert_eq!(checkpoint(&core), Some((1, 7)));
    assert_eq!(core.status().checkpoint.expect("it has one").to_string(), format!("{}@7", blocks[0].id()));
    // Even what comes before its turn.
    let _ = core.report(9, 9, vec![seen_digest(12, 0, &blocks[5])]);
    assert_eq!(checkpoint(&core), Some((1, 7)));
}

#[test]
fn what_was_left_out_keeps_a_checkpoint_back() {
    let blocks = chain(4);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.sightings = 1).start();
    let _ = core.report(
        0,
        9,
        vec![seen_block(3, 0, &blocks[3]), seen_block(7, 0, &blocks[2]), seen_block(8, 0, &blocks[0])],
    );
    assert_eq!(checkpoint(&core), Some((1, 2)));
}

#[test]
fn a_node_that_scanned_nothing_has_no_checkpoint() {
    let blocks = chain(7);
    let mut core = from_checkpoint(&blocks);
    let _ = core.gossip(&blocks[4]);
    assert_eq!(checkpoint(&core), None);
    let _ = core.report(20, 22, vec![]);
    assert_eq!(checkpoint(&core), Some((5, 22)));
}

//! A store that begins with a block which the operator trusts.

use blocksyncd::sync::{DataLoss, FetchOutcome, GuardState, History, PublishAnswer, Verdict};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain, h, proposal};
use super::driver::{Core, Setup, appended, asked_by_hash, fetches, peer, penalties, range_request, ranges, seen_hash};

fn trusting(block: &AuthenticBlock) -> History {
    History { trusted: Some(block.id()), ..History::default() }
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

/// All of it was taken back, or lost: what it links to is still known, or what was lost is.
#[test]
fn a_store_that_had_blocks_does_not_begin_anew() {
    let blocks = chain(8);
    let mut taken_back = Setup::follower().pruned_below(&blocks[2]).history(trusting(&blocks[4]));
    taken_back.at.heads.soft = None;
    assert_eq!(stored(&taken_back.start()), (3, None));
    let mut lost = Setup::follower().history(trusting(&blocks[4]));
    lost.at.heads.lost = Some(DataLoss { from: h(1), to: h(3) });
    assert_eq!(stored(&lost.start()), (1, None));
}

/// It never stored the trusted block, and the operator thought better of it. What DA had for the blocks that are to be stored
/// now was not kept.
#[test]
fn a_start_that_led_to_nothing_is_forgotten() {
    let blocks = chain(8);
    for (trusted, begins_at, scanned_through) in [(Some(4), 5, 7), (Some(6), 7, 7), (Some(2), 3, 0), (None, 1, 0)] {
        let mut setup = Setup::follower();
        setup.config.history.trusted = trusted.map(|index: usize| blocks[index].id());
        setup.at.heads.tail = h(5);
        setup.at.heads.scanned_through = 7;
        let mut core = setup.start();
        let found = (core.heads().tail.get(), core.heads().scanned_through);
        assert_eq!(found, (begins_at, scanned_through), "{trusted:?}");
        assert_eq!(core.report(scanned_through, 8, vec![]).0.scanned_through, 8);
    }
}

#[test]
fn of_what_da_has_only_what_is_at_or_above_it_is_kept() {
    let blocks = chain(6);
    let mut core = trusting_fifth(&blocks);
    let _ = core.report(0, 1, (0..).zip(&blocks[2..]).map(|(index, block)| seen_hash(1, index, block)).collect());
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
fn da_may_name_it_for_others_to_give() {
    let blocks = chain(6);
    let mut core = trusting_fifth(&blocks);
    let _ = core.connect_at(1, &blocks[3]);
    let (answer, effects) = core.report(0, 1, vec![seen_hash(1, 0, &blocks[4])]);
    assert_eq!(answer.wanted, [blocks[4].id()]);
    assert_eq!(asked_by_hash(&effects), [(peer(1), blocks[4].hash())]);
    let _ = core.answer(fetches(&effects)[0].request, &blocks[4..5], FetchOutcome::Complete);
    assert_eq!((stored(&core), core.hard()), ((5, Some(5)), Some(blocks[4].id())));
}

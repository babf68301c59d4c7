//! Blocks that are asked for by their hashes: whoever has none of them has failed in nothing, and a hash that nobody has stops
//! nothing.

use std::time::Duration;

use blocksyncd::block::Hash;
use blocksyncd::sync::{BlockQuery, FetchOutcome, Finding, Input, Name};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain};
use super::driver::{Core, INSTANT, Setup, asked_by_hash, fetches, peer, ranges, seen_name, sorted, timing};
use super::neighbours::{Kind, Neighbourhood};

/// No pause between two requests for one hash is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A core with the first two of these blocks, to which DA names a third one that is none of them.
fn wanting(blocks: &[AuthenticBlock]) -> (Core, AuthenticBlock) {
    let wanted = branch(&blocks[..2], "b", 1).remove(0);
    let mut core = Setup::follower().named().storing(&blocks[..2], 2).start();
    let _ = core.report(0, 1, vec![named(&wanted)]);
    (core, wanted)
}

fn named(block: &AuthenticBlock) -> Finding {
    seen_name(1, 0, block.height().get(), Name::Block(block.hash()))
}

#[test]
fn a_hash_that_nobody_has_stops_no_range() {
    let blocks = chain(400);
    for peers in [1, 2, 4] {
        let (core, _) = wanting(&blocks);
        let mut around = Neighbourhood::of(core);
        (1..=peers).for_each(|name| around.meet(name, Kind::Serves, &blocks[..2]));
        around.pass(Duration::from_mins(3));
        (1..=peers).for_each(|name| around.now_has(name, &blocks));
        around.hears(1, &blocks[399]);
        let took = around.takes(Duration::from_mins(10), |around| around.soft() == 400);
        assert!(took.is_some_and(|took| took < Duration::from_secs(2)), "{peers} peers: {took:?}, {:?}", around.asked);
    }
}

/// Whoever else is there.
#[test]
fn a_hash_that_nobody_has_stops_no_range_beside_any_neighbour() {
    let blocks = chain(400);
    for kind in [Kind::Empty, Kind::Silent, Kind::HeadOnly, Kind::TooHeavy] {
        let (core, _) = wanting(&blocks);
        let mut around = Neighbourhood::of(core);
        (2..=5).for_each(|name| around.meet(name, kind, &blocks));
        around.meet(1, Kind::Serves, &blocks[..2]);
        around.pass(Duration::from_mins(1));
        around.now_has(1, &blocks);
        around.hears(1, &blocks[399]);
        let took = around.takes(Duration::from_mins(10), |around| around.soft() == 400);
        assert!(took.is_some_and(|took| took < Duration::from_secs(10)), "{kind:?}: {took:?}");
    }
}

/// A block a second by gossip, of which every 20th is lost.
#[test]
fn a_hash_that_nobody_has_makes_no_gap_stay() {
    let blocks = chain(600);
    let (core, _) = wanting(&blocks);
    let mut around = Neighbourhood::of(core);
    around.meet(1, Kind::Serves, &blocks[..2]);
    for made in 3..=600 {
        around.now_has(1, &blocks[..made]);
        if made % 20 != 0 {
            around.hears(1, &blocks[made - 1]);
        }
        around.pass(Duration::from_secs(1));
        assert!(around.soft() + 1 >= made as u64, "{} of {made}", around.soft());
    }
}

#[test]
fn who_has_not_the_block_has_failed_in_nothing() {
    let blocks = chain(2);
    let (core, wanted) = wanting(&blocks);
    let mut around = Neighbourhood::of(core);
    around.meet(1, Kind::Serves, &blocks);
    around.pass(Duration::from_mins(3));
    let times: Vec<_> = around.asked.hashes.iter().map(|(at, ..)| *at).collect();
    assert!(around.asked.hashes.iter().all(|(_, _, hash)| *hash == wanted.hash()));
    // First after a moment, then less and less often; never less often than that.
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    assert!(pauses[0] < timing().backoff_min * 2, "{pauses:?}");
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE + super::neighbours::ROUND_TRIP), "{pauses:?}");
    assert!(times.len() < 60, "{}", times.len());
    let standing = around.core.standing(1);
    assert_eq!((standing.failures, standing.rests), (0, Duration::ZERO));
}

#[test]
fn a_request_by_hash_takes_no_room_from_ranges() {
    let blocks = chain(9);
    let wanted = branch(&blocks[..2], "b", 1).remove(0);
    let setup = Setup::follower().named().storing(&blocks[..2], 2);
    let few = |limits: &mut blocksyncd::sync::Limits| (limits.requests_per_peer, limits.requests) = (1, 1);
    let mut core = setup.limits(few).start();
    let _ = core.connect_at(1, &blocks[1]);
    let (_, effects) = core.report(0, 1, vec![named(&wanted)]);
    assert_eq!(asked_by_hash(&effects), [(peer(1), wanted.hash())]);
    assert_eq!(ranges(&core.gossip_effects(1, Ok(blocks[8].clone()))), [(peer(1), 3, 6)]);
}

#[test]
fn the_block_that_da_names_is_asked_of_one_after_the_other() {
    let blocks = chain(2);
    let (mut core, wanted) = wanting(&blocks);
    let everybody: Vec<_> = (1..=6).map(peer).collect();
    let _ = core.give(Input::StorageFull(true));
    for name in 1..=6 {
        let _ = core.connect_at(name, &blocks[1]);
    }
    let mut effects = core.give(Input::StorageFull(false));
    let mut asked = Vec::new();
    for _ in 0..6 {
        let fetch = fetches(&effects).remove(0);
        assert_eq!(fetch.query, BlockQuery::Hash(wanted.hash()));
        asked.push(fetch.peer.clone());
        effects = core.answer(fetch.request, &[], FetchOutcome::NotFound);
    }
    // Then, after a pause, of those again who were asked the longest ago, with a longer one before the next.
    let mut pause = timing().backoff_min;
    for name in asked.clone() {
        assert_eq!(asked_by_hash(&effects), []);
        assert_eq!(asked_by_hash(&core.almost_pass(pause)), []);
        let fetch = fetches(&core.pass(INSTANT)).into_iter().find(|fetch| fetch.query != BlockQuery::Head);
        let fetch = fetch.expect("it is asked for again");
        assert_eq!(fetch.peer, name);
        effects = core.answer(fetch.request, &[], FetchOutcome::NotFound);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    assert_eq!(sorted(asked), everybody);
}

#[test]
fn who_is_new_or_has_a_new_head_is_asked_at_once() {
    let blocks = chain(4);
    let (core, wanted) = wanting(&blocks);
    let mut around = Neighbourhood::of(core);
    around.meet(1, Kind::Serves, &blocks[..1]);
    around.pass(Duration::from_mins(1));
    let known = [blocks[0].clone(), wanted.clone(), blocks[1].clone()];
    // Its head is another one: it may have got the block along with it.
    around.now_has(1, &known);
    around.give(Input::GossipMissed { peer: peer(1) });
    let took = around.takes(Duration::from_secs(20), |around| around.core.hard() == Some(wanted.id()));
    assert!(took.is_some_and(|took| took < timing().gossip_grace + super::neighbours::ROUND_TRIP * 3), "{took:?}");

    let (core, _) = wanting(&blocks);
    let mut around = Neighbourhood::of(core);
    around.meet(1, Kind::Serves, &blocks[..2]);
    around.pass(Duration::from_mins(1));
    around.meet(2, Kind::Serves, &known);
    let took = around.takes(Duration::from_secs(20), |around| around.core.hard() == Some(wanted.id()));
    assert!(took.is_some_and(|took| took < super::neighbours::ROUND_TRIP * 3), "{took:?}");
}

#[test]
fn the_block_that_da_names_is_asked_of_another_one_when_the_answer_takes_long() {
    let blocks = chain(2);
    let wanted = branch(&blocks, "b", 1).remove(0);
    let mut core = Setup::follower().named().storing(&blocks, 2).start();
    for name in 1..=3 {
        let _ = core.connect_at(name, &blocks[1]);
    }
    let mut asked = vec![fetches(&core.report(0, 1, vec![named(&wanted)]).1).remove(0).peer];
    for _ in 0..2 {
        assert_eq!(core.next_wakeup(), Some(core.elapsed() + timing().hedge_after));
        let more = asked_by_hash(&core.pass(timing().hedge_after));
        assert_eq!(more.len(), 1);
        asked.push(more[0].0.clone());
    }
    assert_eq!(sorted(asked), [peer(1), peer(2), peer(3)]);
    assert_eq!(asked_by_hash(&core.pass(timing().hedge_after)), []);
}

/// A crowd that answers nothing, and one who has the block.
#[test]
fn whoever_has_the_block_is_found_among_those_who_are_silent() {
    let blocks = chain(2);
    let (core, wanted) = wanting(&blocks);
    let mut around = Neighbourhood::of(core);
    (1..=50).for_each(|name| around.meet(name, Kind::HeadOnly, &blocks));
    around.meet(51, Kind::Serves, &[blocks[0].clone(), wanted.clone(), blocks[1].clone()]);
    let took = around.takes(Duration::from_mins(10), |around| around.core.hard() == Some(wanted.id()));
    assert!(took.is_some_and(|took| took < Duration::from_mins(2)), "{took:?}");
    let (all, one) = around.most_by_hash;
    assert!(all <= 8 && one == 1, "{all} at once, {one} of one");
    assert!(around.asked.hashes.iter().all(|(.., hash)| *hash == wanted.hash()), "{:?}", Hash::of(b""));
}

//! Hard: what DA decides, and by what.

use blocksyncd::sync::{
    Anchor, Basis, Change, Command, DaPosition, DaReport, FetchOutcome, Halt, HardWait, Input, Name, Phase,
    RejectAnswer, ReportRefusal, ReportTaken,
};
use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::blocks::{Spec, branch, chain, h, signed_otherwise};
use super::driver::{
    Setup, asked_by_hash, at, changes, digest, fetches, junk, junk_of, open, peer, seen_block, seen_digest, seen_name,
};

fn confirmed(changes: &[Change]) -> Vec<(u64, DaPosition, Basis)> {
    let confirm = |change: &Change| match change {
        Change::Confirm { height, position, basis } => Some((height.get(), *position, *basis)),
        _ => None,
    };
    changes.iter().filter_map(confirm).collect()
}

/// Three blocks that have an id of the rollup's own.
fn named() -> Vec<AuthenticBlock> {
    let mut blocks: Vec<AuthenticBlock> = Vec::new();
    for name in [b"one", b"two", b"six"] {
        let spec = Spec { host_id: Bytes::from_static(name), payload: Bytes::from_static(name), ..Spec::of("") };
        blocks.push(spec.on(blocks.last()));
    }
    blocks
}

#[test]
fn hard_rises_by_the_bytes_of_the_stored_block_or_their_digest() {
    let blocks = named();
    for finding in [seen_block(4, 9, &blocks[1]), seen_digest(4, 9, &blocks[1])] {
        // What is stored since long, and what is not durable yet.
        for fresh in [false, true] {
            let mut core = Setup::follower().storing(&blocks[..if fresh { 1 } else { 3 }], 1).start();
            if fresh {
                core.hold_writes();
                let _ = core.gossip(&blocks[1]);
            }
            let (answer, effects) = core.report(0, 4, vec![finding.clone()]);
            assert_eq!(answer, ReportTaken { scanned_through: 4, ..ReportTaken::default() });
            assert_eq!(core.hard(), Some(blocks[1].id()), "{finding:?}");
            if !fresh {
                assert_eq!(confirmed(&changes(&effects)), [(2, at(4, 9), Basis::Bytes)]);
            }
        }
    }
}

#[test]
fn hard_rises_by_names_where_the_chains_da_is_told_by_names() {
    let blocks = named();
    for name in [
        Name::Block(blocks[1].hash()),
        Name::HostId(Bytes::from_static(b"two")),
        Name::Payload(blocks[1].block().header().payload_hash),
    ] {
        let mut core = Setup::follower().named().storing(&blocks, 1).start();
        let (answer, effects) = core.report(0, 4, vec![seen_name(4, 9, 2, name)]);
        assert_eq!(answer, ReportTaken { scanned_through: 4, ..ReportTaken::default() });
        assert_eq!(confirmed(&changes(&effects)), [(2, at(4, 9), Basis::Named)]);
    }
}

/// The sequencer may sign one header in many ways.
#[test]
fn another_signature_of_the_stored_block_is_told_by_its_bytes_alone() {
    let blocks = chain(1);
    let copy = signed_otherwise(&blocks[0], 1);
    assert_eq!((copy.id(), digest(&copy) == digest(&blocks[0])), (blocks[0].id(), false));
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let (answer, _) = core.report(0, 1, vec![seen_digest(1, 0, &copy)]);
    assert_eq!((answer.wanted, core.hard()), (vec![open(1, 0, &copy)], None));
    let (answer, _) = core.report(1, 1, vec![seen_block(1, 0, &copy)]);
    assert_eq!((answer.wanted, core.hard()), (vec![], Some(blocks[0].id())));
}

#[test]
fn hard_rises_one_height_after_the_other() {
    let blocks = chain(4);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let _ = core.report(0, 1, vec![seen_digest(1, 0, &blocks[1]), seen_digest(1, 1, &blocks[3])]);
    assert_eq!((core.hard(), core.status().pending_sightings), (None, 2));
    let effects = core.report(1, 2, vec![seen_digest(2, 0, &blocks[0])]).1;
    assert_eq!(confirmed(&changes(&effects)), [(1, at(2, 0), Basis::Bytes), (2, at(1, 0), Basis::Bytes)]);
    assert_eq!((core.hard(), core.status().pending_sightings), (Some(blocks[1].id()), 1));
    let _ = core.report(2, 3, vec![seen_digest(3, 0, &blocks[2])]);
    assert_eq!((core.hard(), core.status().pending_sightings), (Some(blocks[3].id()), 0));
}

#[test]
fn what_is_judged_is_forgotten() {
    let blocks = chain(2);
    let other = branch(&[], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let effects = core.report(0, 1, vec![seen_block(1, 0, &blocks[0]), seen_block(1, 1, &other)]).1;
    let changes = changes(&effects);
    for index in 0..2 {
        assert!(changes.contains(&Change::DropSighting(at(1, index))), "{changes:#?}");
    }
    assert_eq!(core.status().pending_sightings, 0);
    let (_, effects) = core.report(1, 2, vec![seen_block(2, 0, &other), seen_digest(2, 1, &blocks[0])]);
    assert_eq!(super::driver::changes(&effects), [], "at or below hard nothing is of interest");
}

#[test]
fn the_lowest_position_wins_whatever_comes_first() {
    let blocks = chain(1);
    let other = branch(&[], "b", 1).remove(0);
    for order in [[0, 1], [1, 0]] {
        let both = [seen_block(1, 3, &other), seen_block(2, 0, &blocks[0])];
        let mut core = Setup::follower().storing(&blocks, 0).start();
        let _ = core.report(0, 2, order.map(|index: usize| both[index].clone()).to_vec());
        assert_eq!(core.hard(), Some(other.id()));
    }
}

#[test]
fn nothing_beyond_what_is_scanned_decides() {
    let blocks = chain(1);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    // Brought before its turn, as what is wanted is.
    let _ = core.report(0, 1, vec![seen_digest(2, 0, &blocks[0])]);
    assert_eq!((core.hard(), core.status().pending_sightings), (None, 1));
    let _ = core.report(1, 2, vec![]);
    assert_eq!(core.hard(), Some(blocks[0].id()));
}

#[test]
fn a_branch_that_lost_below_does_not_win_above() {
    let blocks = chain(2);
    let lost = branch(&[], "b", 2);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let _ = core.da_has(&[lost[1].clone(), blocks[1].clone()]);
    assert_eq!((core.hard(), core.heads().epoch.0), (Some(blocks[1].id()), 0));
}

#[test]
fn da_alone_can_build_the_chain() {
    let blocks = chain(3);
    let mut core = Setup::follower().start();
    let _ = core.da_has(&blocks);
    assert_eq!((core.soft(), core.hard()), (Some(blocks[2].id()), Some(blocks[2].id())));
}

#[test]
fn a_name_of_something_else_can_only_stop() {
    let blocks = named();
    for name in [
        Name::HostId(Bytes::from_static(b"three")),
        Name::Payload(blocks[0].hash()),
        Name::Block(branch(&blocks[..1], "b", 1)[0].hash()),
    ] {
        let mut core = Setup::follower().named().storing(&blocks, 1).start();
        let position = at(1, 0);
        let effects = core.report(0, 1, vec![seen_name(1, 0, 2, name.clone())]).1;
        let halt = Halt::Contradicted { ours: blocks[1].id(), position };
        assert!(changes(&effects).contains(&Change::Halt(Some(halt))));
        assert_eq!((core.status().halted, core.status().phase), (Some(halt), Phase::Halted));
        assert_eq!((core.soft(), core.hard()), (Some(blocks[2].id()), Some(blocks[0].id())));
        // Where nothing is stored it says nothing yet.
        let mut core = Setup::follower().named().storing(&blocks[..1], 1).start();
        let _ = core.report(0, 1, vec![seen_name(1, 0, 2, name)]);
        assert_eq!((core.status().halted, core.status().pending_sightings), (None, 1));
    }
}

#[test]
fn of_two_names_for_one_height_the_lower_counts_whichever_comes_first() {
    let blocks = named();
    let wrong = seen_name(3, 0, 2, Name::HostId(Bytes::from_static(b"two")));
    let right = seen_name(2, 5, 2, Name::Block(blocks[1].hash()));
    for order in [[0, 1], [1, 0]] {
        let both = [&right, &wrong];
        let mut core = Setup::follower().named().storing(&blocks[..1], 1).start();
        for index in order {
            let _ = core.report(0, 1, vec![both[index].clone()]);
        }
        assert_eq!(core.status().pending_sightings, 1);
        let _ = core.report(1, 3, vec![]);
        let effects = core.gossip_effects(1, Ok(blocks[1].clone()));
        assert_eq!(confirmed(&changes(&effects)), [(2, at(2, 5), Basis::Named)]);
    }
}

#[test]
fn a_block_that_is_named_and_not_here_is_asked_of_peers() {
    let blocks = named();
    let mut core = Setup::follower().named().storing(&blocks[..1], 1).start();
    let _ = core.connect_at(1, &blocks[0]);
    let (_, effects) = core.report(0, 1, vec![seen_name(1, 0, 2, Name::Block(blocks[1].hash()))]);
    assert_eq!(asked_by_hash(&effects), [(peer(1), blocks[1].hash())]);
    let _ = core.answer(fetches(&effects)[0].request, &blocks[1..2], FetchOutcome::Complete);
    assert_eq!(core.hard(), Some(blocks[1].id()));
}

/// Who has it may have pruned it, or lost it with its disk: nobody would ever say why hard stands still.
#[test]
fn what_is_named_and_nobody_leads_to_is_what_hard_waits_for() {
    let blocks = named();
    let names = [
        Name::Block(blocks[1].hash()),
        Name::HostId(Bytes::from_static(b"two")),
        Name::Payload(blocks[1].block().header().payload_hash),
    ];
    for name in names {
        let mut core = Setup::follower().named().storing(&blocks[..1], 1).start();
        let _ = core.report(0, 1, vec![seen_name(1, 3, 2, name)]);
        let wait = HardWait::Named { position: at(1, 3), height: h(2) };
        assert_eq!(core.status().hard_waits, Some(wait));
        assert!(wait.to_string().contains("names block 2 at DA height 1, index 3"), "{wait}");
        // A peer has more: it is on its way.
        let _ = core.connect_at(1, &blocks[2]);
        assert_eq!(core.status().hard_waits, None);
        let _ = core.gossip(&blocks[1]);
        assert_eq!((core.hard(), core.status().hard_waits), (Some(blocks[1].id()), None));
    }
}

#[test]
fn what_counts_for_nothing_on_this_chain_is_refused() {
    let blocks = named();
    let mut by_bytes = Setup::follower().start();
    let mut by_names = Setup::follower().named().start();
    let position = at(1, 0);
    for name in [Name::Block(blocks[0].hash()), Name::HostId(Bytes::new()), Name::Payload(blocks[0].hash())] {
        let refusal = by_bytes.refused_report(0, 1, vec![seen_name(1, 0, 1, name)]);
        assert_eq!(refusal, ReportRefusal::NotByName(position));
    }
    for finding in [seen_block(1, 0, &blocks[0]), seen_digest(1, 0, &blocks[0]), junk(1, 0)] {
        assert_eq!(by_names.refused_report(0, 1, vec![finding]), ReportRefusal::OnlyByName(position));
    }
    let name = |len| seen_name(1, 0, 1, Name::HostId(vec![7; len].into()));
    assert_eq!(by_names.refused_report(0, 1, vec![name(65)]), ReportRefusal::NameTooLong(position));
    let _ = by_names.report(0, 1, vec![name(64)]);
}

#[test]
fn what_da_shows_first_is_waited_for_whatever_else_it_gives() {
    let blocks = chain(3);
    let [rival, third] = ["b", "c"].map(|name| branch(&blocks[..1], name, 1).remove(0));
    let mut core = Setup::follower().storing(&blocks[..2], 1).start();
    let (answer, _) = core.report(0, 1, vec![seen_digest(1, 0, &rival), seen_block(1, 1, &third)]);
    assert_eq!((answer.wanted, core.soft()), (vec![open(1, 0, &rival)], Some(blocks[1].id())));
    assert_eq!(core.status().hard_waits, Some(HardWait::Bytes(open(1, 0, &rival))));
    // Nothing is taken back for what nobody has, and what is not of its height waits for nothing.
    let (answer, _) = core.report(1, 2, vec![seen_digest(2, 0, &blocks[2])]);
    assert_eq!(answer.wanted, [open(1, 0, &rival), open(2, 0, &blocks[2])]);
    let (answer, _) = core.report(2, 2, vec![seen_block(1, 0, &rival)]);
    assert_eq!((answer.wanted, core.hard()), (vec![open(2, 0, &blocks[2])], Some(rival.id())));
    assert_eq!(core.status().hard_waits, Some(HardWait::Bytes(open(2, 0, &blocks[2]))));
}

/// Whose bytes they are shows what is there, and takes it out of the way.
#[test]
fn an_open_position_is_closed_by_whatever_its_bytes_are() {
    let blocks = chain(2);
    let lost = branch(&branch(&[], "b", 1), "b", 1).remove(0);
    for bytes in [junk_of(1, 0, digest(&lost)), seen_block(1, 0, &lost)] {
        let mut core = Setup::follower().storing(&blocks, 1).start();
        let _ = core.report(0, 1, vec![seen_digest(1, 0, &lost), seen_block(1, 1, &blocks[1])]);
        assert_eq!(core.hard(), Some(blocks[0].id()));
        let _ = core.report(1, 1, vec![bytes]);
        assert_eq!((core.hard(), core.status().pending_sightings), (Some(blocks[1].id()), 0));
    }
}

#[test]
fn bytes_that_were_given_elsewhere_are_not_asked_for() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    for findings in
        [[seen_digest(1, 0, &other), seen_block(1, 1, &other)], [seen_block(1, 0, &other), seen_digest(1, 1, &other)]]
    {
        let mut core = Setup::follower().storing(&blocks, 1).start();
        let (answer, _) = core.report(0, 1, findings.to_vec());
        assert_eq!((answer.wanted, core.hard()), (vec![], Some(other.id())));
    }
}

#[test]
fn bytes_that_wait_for_others_are_not_asked_for() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks[..1], 1).start();
    core.hold_writes();
    let _ = core.gossip(&blocks[2]);
    let (answer, _) = core.report(0, 1, vec![seen_block(1, 0, &blocks[1]), seen_digest(1, 1, &blocks[2])]);
    assert_eq!((answer.wanted, core.hard()), (vec![], Some(blocks[2].id())));
}

#[test]
fn bytes_that_a_veto_keeps_waiting_are_not_asked_for() {
    let blocks = chain(2);
    let [rival, third] = ["b", "c"].map(|name| branch(&blocks[..1], name, 1).remove(0));
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let _ = core.reject(blocks[1].id());
    let _ = core.gossip(&rival);
    let _ = core.gossip(&third);
    let (answer, _) = core.report(0, 1, vec![seen_digest(1, 0, &rival)]);
    assert_eq!((answer.wanted, core.hard()), (vec![], Some(rival.id())));
}

/// A peer's block says nothing of DA; but it may be what stands there.
#[test]
fn what_a_peer_gives_is_recognised_by_its_digest() {
    let blocks = chain(2);
    let [rival, third] = ["b", "c"].map(|name| branch(&blocks[..1], name, 1).remove(0));
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let _ = core.report(0, 1, vec![seen_digest(1, 0, &rival)]);
    for other in [&third, &signed_otherwise(&rival, 1)] {
        let _ = core.gossip(other);
        assert_eq!((core.hard(), core.soft()), (Some(blocks[0].id()), Some(blocks[1].id())));
    }
    let _ = core.gossip(&rival);
    assert_eq!((core.hard(), core.status().wanted), (Some(rival.id()), vec![]));
}

/// However much there is to look up of what is stored.
#[test]
fn no_decision_looks_up_more_than_a_part() {
    let blocks = chain(600);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    core.hold_writes();
    let findings = (0..).zip(&blocks).map(|(index, block)| seen_digest(1, index, block)).collect();
    let ticket = core.ticket();
    let report = DaReport { after: 0, scanned_through: 1, findings };
    let _ = core.give(Input::Da { ticket, report });
    assert_eq!(core.status().wanted, []);
    let mut rounds = 0;
    while core.hard() != Some(blocks[599].id()) {
        assert_eq!(core.next_wakeup(), Some(core.elapsed()), "it goes on at once");
        let _ = core.give(Input::Wakeup);
        rounds += 1;
    }
    assert_eq!(rounds, 2);
    assert_eq!(core.next_wakeup(), None);
}

#[test]
fn what_was_hard_before_a_loss_is_what_comes_back() {
    let blocks = chain(3);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut setup = Setup::follower().storing(&blocks[..1], 1);
    setup.at.anchor = Some(Anchor { id: blocks[1].id(), position: at(7, 0) });
    let mut core = setup.start();
    let _ = core.gossip(&other);
    assert_eq!(core.soft(), Some(blocks[0].id()), "nothing else is taken there");
    let _ = core.gossip(&blocks[1]);
    let _ = core.gossip(&blocks[2]);
    assert_eq!(core.soft(), Some(blocks[2].id()));
    let _ = core.report(0, 9, blocks[1..].iter().zip(0..).map(|(block, index)| seen_block(9, index, block)).collect());
    assert_eq!(core.hard(), Some(blocks[2].id()));
}

/// Whoever reported what became hard then, or reports now, is wrong: the node does not stand still without a word.
#[test]
fn where_da_has_another_block_than_was_hard_before_a_loss_it_halts() {
    let blocks = chain(3);
    let other = branch(&blocks[..1], "b", 2);
    // Stored so far; which was hard; what DA has now, and where; what is contradicted.
    for (soft, anchor, da, contradicted) in [
        (1, 2, vec![seen_block(6, 9, &other[0]), seen_block(7, 0, &blocks[1])], 2),
        (2, 2, vec![seen_block(6, 9, &other[0]), seen_block(7, 0, &blocks[1])], 2),
        (1, 2, vec![seen_block(8, 0, &other[0])], 2),
        (3, 3, vec![seen_block(8, 0, &other[0])], 2),
        (1, 3, vec![seen_block(8, 0, &other[0]), seen_block(8, 1, &other[1])], 3),
    ] {
        let mut setup = Setup::follower().storing(&blocks[..soft], 1);
        setup.at.anchor = Some(Anchor { id: blocks[anchor - 1].id(), position: at(7, 0) });
        let mut core = setup.start();
        let from = da[0].position.height;
        let _ = core.report(0, 9, da);
        let halt = core.status().halted;
        let hard = blocks[contradicted - 1].id();
        assert!(
            matches!(halt, Some(Halt::HardContradicted { hard: told, .. }) if told == hard),
            "{soft} {anchor}: {halt:?}"
        );
        // It is found that the report was wrong.
        let _ = core.operator_may(Command::RescanDa(from));
        assert_eq!(core.status().halted, None);
        let kept = core.hard() == Some(blocks[0].id());
        let _ = core.report(0, 9, vec![seen_block(9, 0, &blocks[1])]);
        assert_eq!(core.hard() == Some(blocks[1].id()), kept, "what is hard by now stays");
    }
}

/// Others were told that it is hard.
#[test]
fn what_was_hard_before_a_loss_is_refused_by_no_host() {
    let blocks = chain(4);
    let mut setup = Setup::follower().storing(&blocks, 1);
    setup.at.anchor = Some(Anchor { id: blocks[2].id(), position: at(7, 0) });
    let mut core = setup.start();
    for (block, answer) in
        [(&blocks[1], RejectAnswer::Hard), (&blocks[2], RejectAnswer::Hard), (&blocks[3], RejectAnswer::Stopped)]
    {
        assert_eq!(core.reject(block.id()), answer, "{:?}", block.id());
    }
}

#[test]
fn what_was_hard_before_a_loss_is_pinned_until_it_is_hard_again() {
    let blocks = chain(3);
    let other = branch(&blocks[..2], "b", 1).remove(0);
    let mut setup = Setup::follower().storing(&blocks[..1], 1);
    setup.at.anchor = Some(Anchor { id: blocks[2].id(), position: at(7, 0) });
    let mut core = setup.start();
    let _ = core.da_has(&blocks[1..2]);
    assert_eq!(core.hard(), Some(blocks[1].id()));
    let _ = core.gossip(&other);
    assert_eq!(core.soft(), Some(blocks[1].id()));
}

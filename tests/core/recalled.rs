//! What a node that may sign waits for after a restart: all that it waited for before, but for what only peers had told. Each test
//! starts a second process from what the first one committed, with no peer to tell it anything.

use blocksyncd::sync::{Change, Command, DaNotes, Disowned, DisownedBy, Effect, Halt, Input, Verdict};
use blocksyncd::verify::{AuthenticBlock, ScheduleEntry};

use super::blocks::{Spec, branch, chain, h, proposal, public_key};
use super::driver::{Core, Setup, asks_for_signature, at, changes, junk, seen_block, seen_digest};

fn refuses(core: &mut Core, next: &AuthenticBlock) {
    let effects = core.propose(proposal(next));
    assert!(!asks_for_signature(&effects), "it signs {} a second time", next.id());
}

fn signs(core: &mut Core, next: &AuthenticBlock) {
    assert!(asks_for_signature(&core.propose(proposal(next))), "{:?}", core.status().not_ready);
}

fn keeps_proved(effects: &[Effect], block: &AuthenticBlock) -> bool {
    changes(effects).iter().any(|change| matches!(change, Change::KeepProved(proved) if proved.id == block.id()))
}

fn forgets_proved(effects: &[Effect], block: &AuthenticBlock) -> bool {
    changes(effects).contains(&Change::ForgetProved(block.id()))
}

/// Only a note said that something was left out, and not what.
#[test]
fn what_there_was_no_room_for() {
    let ours = chain(1);
    let (lost, mine) = (branch(&ours, "l", 2), branch(&ours, "x", 2));
    for late in [false, true] {
        let setup = || {
            let mut setup = Setup::signer().storing(&ours, 1).limits(|limits| limits.sightings = 1);
            setup.at.disowned = vec![Disowned { id: lost[0].id(), by: DisownedBy::Da }];
            setup
        };
        let mut core = setup().start();
        let shown = [seen_block(1, 0, &lost[1]), seen_block(1, 1, &mine[1])];
        let mut effects = Vec::new();
        if late {
            // When the second one comes, others are left out already.
            let third = branch(&ours, "y", 2).remove(1);
            effects.extend(core.report(0, 1, vec![shown[0].clone(), seen_block(1, 1, &third)]).1);
            effects.extend(core.report(1, 2, vec![seen_block(2, 0, &mine[1])]).1);
            effects.extend(core.operator_may(Command::Disown(third.id())));
        } else {
            effects.extend(core.report(0, 1, shown.to_vec()).1);
        }
        refuses(&mut core, &branch(&ours, "b", 1)[0]);
        assert!(keeps_proved(&effects, &mine[1]));
        refuses(&mut setup().after(&effects).start(), &branch(&ours, "b", 1)[0]);
    }
}

/// What of it is our own chain takes no room.
#[test]
fn what_is_stored_is_not_remembered_beside_the_store() {
    let ours = chain(4);
    let mut core = Setup::signer().storing(&ours, 1).limits(|limits| limits.sightings = 1).start();
    let (_, effects) = core.report(0, 1, vec![seen_block(1, 0, &ours[2]), seen_block(1, 1, &ours[3])]);
    assert!(!keeps_proved(&effects, &ours[3]));
    let next = branch(&ours, "a", 1).remove(0);
    signs(&mut Setup::signer().storing(&ours, 1).after(&effects).start(), &next);
}

/// It is remembered until it is stored, or DA has decided about its height.
#[test]
fn what_was_shown_is_remembered_no_longer_than_it_matters() {
    let ours = chain(4);
    let stray = branch(&branch(&[], "s", 2), "s", 1).remove(0);
    let other = branch(&ours[..2], "x", 2).remove(1);
    let mut core = Setup::follower().storing(&ours[..2], 1).limits(|limits| limits.sightings = 1).start();
    let shown = [seen_block(1, 0, &stray), seen_block(1, 1, &ours[3]), seen_block(1, 2, &other)];
    let (_, effects) = core.report(0, 1, shown.to_vec());
    assert!(keeps_proved(&effects, &ours[3]) && keeps_proved(&effects, &other));
    let effects = core.gossip_effects(200, Ok(ours[2].clone()));
    assert_eq!(core.soft(), Some(ours[3].id()));
    assert!(forgets_proved(&effects, &ours[3]) && !forgets_proved(&effects, &other));
    let effects = core.da_has(&ours[1..3]);
    assert_eq!((core.hard(), core.heads().scanned_through), (Some(ours[2].id()), 0), "it is read again");
    assert!(!forgets_proved(&effects, &other));
    let (_, effects) = core.report(0, 1, shown[1..].to_vec());
    assert_eq!(core.hard(), Some(ours[3].id()));
    assert!(forgets_proved(&effects, &other));
}

/// As many as are waited for at once. Of more it is remembered that there are more: nothing is signed before DA has told them anew,
/// and they are settled, too.
#[test]
fn more_than_can_be_remembered() {
    let ours = chain(1);
    let strays: Vec<_> = (0..6).map(|name| branch(&branch(&ours, &format!("{name}"), 1), "x", 1).remove(0)).collect();
    let setup = || {
        let setup = Setup::signer().storing(&ours, 1);
        setup.limits(|limits| (limits.sightings, limits.awaited) = (1, 2))
    };
    let shown: Vec<_> = (0..).zip(&strays).map(|(index, block)| seen_block(1, index, block)).collect();
    let mut core = setup().start();
    let mut effects = core.report(0, 1, shown.clone()).1;
    let next = branch(&ours, "b", 1).remove(0);
    let mut settled = Vec::new();
    while settled.len() < strays.len() {
        let kept = setup().after(&effects).at.proved.len();
        assert!(kept <= 2, "{kept}");
        refuses(&mut core, &next);
        core = setup().after(&effects).start();
        effects.extend(core.give(Input::Wakeup));
        refuses(&mut core, &next);
        while let Some(awaited) = strays.iter().find(|block| core.awaits(block)) {
            assert!(!settled.contains(&awaited.id()));
            settled.push(awaited.id());
            effects.extend(core.operator_may(Command::Disown(awaited.id())));
        }
        let scanned = core.heads().scanned_through;
        if scanned == 0 {
            refuses(&mut core, &next);
            effects.extend(core.report(0, 1, shown.clone()).1);
        }
    }
    signs(&mut core, &next);
    signs(&mut setup().after(&effects).start(), &next);
}

/// What DA has decided about need not be told anew.
#[test]
fn more_than_could_be_remembered_until_da_decided() {
    let ours = chain(3);
    let strays: Vec<_> = (0..4).map(|name| branch(&ours[..1], &format!("{name}"), 1).remove(0)).collect();
    let setup = Setup::signer().storing(&ours, 1).limits(|limits| (limits.sightings, limits.awaited) = (1, 1));
    let mut core = setup.start();
    let shown = [seen_block(2, 0, &ours[1])].into_iter().chain((1..).zip(&strays).map(|(i, it)| seen_block(2, i, it)));
    // The cursor is below, so that nothing is judged yet.
    let effects = core.report(0, 1, shown.collect()).1;
    let noted = changes(&effects).into_iter().rev().find_map(|change| match change {
        Change::DaNotes(notes) => notes.unremembered,
        _ => None,
    });
    assert_eq!(noted.map(|more| more.height), Some(h(2)));
    let effects = core.report(1, 2, vec![]).1;
    assert_eq!(core.hard(), Some(ours[1].id()));
    assert!(changes(&effects).contains(&Change::DaNotes(DaNotes::default())));
}

/// DA is to be reported again, or was reported otherwise: the signature was given all the same.
#[test]
fn what_the_host_takes_back() {
    let ours = chain(1);
    let mine = branch(&ours, "x", 2).remove(1);
    let setup = || Setup::signer().storing(&ours, 1);
    let next = branch(&ours, "b", 1).remove(0);
    for corrected in [false, true] {
        let mut core = setup().start();
        let mut effects = core.report(0, 1, vec![seen_block(1, 0, &mine)]).1;
        effects.extend(core.operator_may(Command::RescanDa(1)));
        if corrected {
            effects.extend(core.report(0, 1, vec![junk(1, 0)]).1);
        }
        refuses(&mut core, &next);
        let setup = setup().after(&effects);
        assert!(setup.at.sightings.is_empty());
        refuses(&mut setup.start(), &next);
    }
}

/// This process may keep fewer sightings than the one before.
#[test]
fn what_there_is_no_room_for_any_more() {
    let ours = chain(1);
    let (lost, mine) = (branch(&ours, "l", 2), branch(&ours, "x", 2));
    let setup = || {
        let mut setup = Setup::signer().storing(&ours, 1);
        setup.at.disowned = vec![Disowned { id: lost[0].id(), by: DisownedBy::Da }];
        setup
    };
    let mut core = setup().start();
    let (_, effects) = core.report(0, 1, vec![seen_block(1, 0, &lost[1]), seen_block(1, 1, &mine[1])]);
    let mut core = setup().after(&effects).limits(|limits| limits.sightings = 1).start();
    refuses(&mut core, &branch(&ours, "b", 1)[0]);
}

/// It proves what the key signed, whoever told it.
#[test]
fn what_there_is_evidence_of() {
    let ours = chain(2);
    let stray = branch(&branch(&[], "b", 2), "b", 1).remove(0);
    let setup = || Setup::signer().storing(&ours, 0);
    let next = branch(&ours, "a", 1).remove(0);
    let mut core = setup().start();
    let effects = core.gossip_effects(200, Ok(stray.clone()));
    assert!(changes(&effects).iter().any(|change| matches!(change, Change::Evidence(_))), "it is on disk");
    refuses(&mut core, &next);
    let mut core = setup().after(&effects).start();
    refuses(&mut core, &next);
    // Only an operator can know, and that is known after a restart, too.
    let more = core.operator_may(Command::Disown(stray.id()));
    signs(&mut core, &next);
    signs(&mut setup().after(&[effects, more].concat()).start(), &next);
}

/// Both sides were carried: two blocks above a gap.
#[test]
fn both_sides_of_the_evidence() {
    let ours = chain(1);
    let (one, other) = (branch(&ours, "x", 2).remove(1), branch(&ours, "y", 2).remove(1));
    for (disowned, left) in [(&one, &other), (&other, &one)] {
        let setup = || Setup::signer().storing(&ours, 0);
        let mut core = setup().start();
        let mut effects = core.gossip_effects(200, Ok(one.clone()));
        effects.extend(core.gossip_effects(200, Ok(other.clone())));
        let mut core = setup().after(&effects).start();
        let _ = core.operator_may(Command::Disown(disowned.id()));
        refuses(&mut core, &branch(&ours, "b", 1)[0]);
        let _ = core.operator_may(Command::Disown(left.id()));
        signs(&mut core, &branch(&ours, "b", 1)[0]);
    }
}

/// A rival of what is stored is on record, and matters when soft falls.
#[test]
fn a_rival_of_what_was_taken_back() {
    let ours = chain(3);
    let theirs = branch(&ours[..1], "x", 2);
    let mut core = Setup::signer().storing(&ours, 1).start();
    assert_eq!(core.gossip(&theirs[1]), Verdict::Accept, "it is evidence");
    let _ = core.da_has(&theirs[..1]);
    let _ = core.operator_may(Command::AbandonBranch(ours[1].id()));
    assert_eq!(core.hard(), Some(theirs[0].id()));
    refuses(&mut core, &branch(&[&ours[..1], &theirs[..1]].concat(), "b", 1)[0]);
}

/// A name proves nothing: what was taken back for it is out there.
#[test]
fn what_was_taken_back_for_a_name() {
    let blocks = chain(3);
    let mut setup = Setup::signer().storing(&blocks, 1).named();
    setup.at.halted = Some(Halt::Contradicted { ours: blocks[1].id(), position: at(1, 0) });
    let mut core = setup.start();
    let effects = core.operator_may(Command::AbandonBranch(blocks[1].id()));
    // The guard of a backup knows nothing of it.
    let mut setup = Setup::signer().storing(&blocks[..1], 1).named();
    for change in changes(&effects) {
        if let Change::Disown(disowned) = change {
            setup.at.disowned.push(disowned);
        }
    }
    assert_eq!(setup.at.disowned.len(), 2);
    refuses(&mut setup.start(), &branch(&blocks[..1], "b", 1)[0]);
}

/// The schedule takes its key away, and gives it back.
#[test]
fn what_a_proposer_signed_who_is_back() {
    let ours = chain(1);
    let mine =
        Spec { proposer: 2, ..Spec::of("x") }.on(Some(&Spec { proposer: 2, ..Spec::of("x") }.on(Some(&ours[0]))));
    let entry = ScheduleEntry { from: h(2), proposer: public_key(2) };
    let setup = || {
        let mut setup = Setup::signer().storing(&ours, 1);
        setup.config.signs = Some(public_key(2));
        setup
    };
    let next = Spec { proposer: 2, ..Spec::of("b") }.on(Some(&ours[0]));
    let mut core = setup().start();
    let mut effects = core.operator_may(Command::ExtendSchedule(entry));
    effects.extend(core.report(0, 1, vec![seen_block(1, 0, &mine)]).1);
    effects.extend(core.operator_may(Command::WithdrawSchedule(h(2))));
    let mut later = setup().after(&effects).start();
    for core in [&mut core, &mut later] {
        let _ = core.operator_may(Command::ExtendSchedule(entry));
        refuses(core, &next);
    }
}

/// A digest proves no signature.
#[test]
fn what_is_only_named_is_not_waited_for() {
    let ours = chain(1);
    let mine = branch(&ours, "x", 1).remove(0);
    let setup = || Setup::signer().storing(&ours, 1);
    let (_, effects) = setup().start().report(0, 1, vec![seen_digest(1, 0, &mine)]);
    signs(&mut setup().after(&effects).start(), &branch(&ours, "b", 1)[0]);
}

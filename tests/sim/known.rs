//! What is known to fail: one list, by the name of the kept world or of the world made by hand.
//!
//! Invariant: a mark is true. A world without a mark must hold; a world with one must fail, and as the mark says. So whoever
//! mends a fault sees the mark fail, and removes it; and nobody hides a new fault behind an old one.

/// A world that fails for a reason that is known.
struct Known {
    world: &'static str,
    /// The fault's name, and what it is.
    fault: &'static str,
    /// What the failure says, in part.
    shows: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        world: "s1002776",
        fault: "C1: a target that nobody on our branch leads to keeps backfill waiting",
        shows: "has not fetched what is below",
    },
    Known {
        world: "s8283",
        fault: "L: a proposal that comes while draining waits for a signature, and is not refused at once",
        shows: "without an answer",
    },
    Known {
        world: "replayed to the sequencer",
        fault: "C1: an old signed block, replayed, stops a sequencer",
        shows: "nothing was accepted",
    },
    Known {
        world: "served to the sequencer",
        fault: "C1: a peer on the losing branch stops a sequencer",
        shows: "nothing was accepted",
    },
    Known {
        world: "a stolen key's branch",
        fault: "C1: a peer on a branch that DA has decided against stops a sequencer",
        shows: "nothing was accepted",
    },
    Known {
        world: "a follower's phase",
        fault: "C1: a follower says that it is syncing to a target that nobody leads to",
        shows: "it was syncing in",
    },
    Known { world: "a junk copy of our block", fault: "C3: hard depends on what a host reported", shows: "DA decided" },
    Known {
        world: "behind a junk copy",
        fault: "C3: what was behind a junk copy is lost",
        shows: "is hard everywhere",
    },
    Known {
        world: "behind a junk copy, before another",
        fault: "C3: what was behind a junk copy is lost, and another block wins",
        shows: "DA decided",
    },
    Known {
        world: "on DA before the schedule",
        fault: "H2: a schedule that lags loses what DA had",
        shows: "all are hard",
    },
    Known {
        world: "peers beyond a rotation",
        fault: "H3: nothing is fetched from peers that are beyond a rotation",
        shows: "it has the old key's",
    },
    Known {
        world: "a report from the future",
        fault: "M4: `scannedThrough` is taken as it comes",
        shows: "all are hard",
    },
    Known {
        world: "a trusted block after a loss",
        fault: "M6: `sync.from` is ignored after a total loss",
        shows: "it has all",
    },
    Known {
        world: "a block while the key signs",
        fault: "L: what was signed and not used stays in the guard, and stops the sequencer",
        shows: "more are made",
    },
    Known {
        world: "answers while the disk is full",
        fault: "L: answers that come while our disk is full are held against the peer",
        shows: "failures: 1",
    },
];

/// What became of the runs of one world, against the list.
pub fn hold(world: &str, results: impl IntoIterator<Item = Result<(), String>>) {
    if let Err(why) = judge(KNOWN.iter().find(|known| known.world == world), results) {
        panic!("{world}: {why}");
    }
}

/// All runs must hold; with a mark, at least one must fail, and each that does must fail as it says.
fn judge(known: Option<&Known>, results: impl IntoIterator<Item = Result<(), String>>) -> Result<(), String> {
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    let Some(Known { fault, shows, .. }) = known else {
        return if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) };
    };
    if let Some(other) = failures.iter().find(|why| !why.contains(shows)) {
        return Err(format!("it is known to fail ({fault}) with \"{shows}\", but this is something else: {other}"));
    }
    if failures.is_empty() {
        return Err(format!("it holds now, and is known to fail ({fault}): remove its mark from tests/sim/known.rs"));
    }
    Ok(())
}

#[test]
fn a_mark_is_true() {
    let known = Known { world: "w", fault: "F", shows: "stuck" };
    let (held, stuck, other) = (Ok(()), Err("n1 is stuck".to_owned()), Err("n1 lies".to_owned()));
    for (mark, results, holds) in [
        (None, vec![held.clone()], true),
        (None, vec![held.clone(), stuck.clone()], false),
        (Some(&known), vec![held.clone(), stuck.clone()], true),
        (Some(&known), vec![held], false),
        (Some(&known), vec![stuck, other], false),
    ] {
        assert_eq!(judge(mark, results.clone()).is_ok(), holds, "{results:?}");
    }
}

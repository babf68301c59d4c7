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

const KNOWN: &[Known] = &[];

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

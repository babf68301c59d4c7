//! What long branches cost: no more than in proportion to their length, all together, and each input little, whatever is awaited.
//! Compared with itself: thirty-two times as much would take a thousand times as long if it were by the square, and may take three
//! hundred times as long on a busy machine.

use std::time::{Duration, Instant};

use blocksyncd::sync::{BlockQuery, Fetch, FetchOutcome, GuardEntry, GuardState, Input};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain};
use super::driver::{Core, Setup, fetches};

const SHORT: usize = 125;
const LONG: usize = 32 * SHORT;

/// The shortest of a few runs.
fn least(mut run: impl FnMut() -> Duration) -> Duration {
    (0..3).map(|_| run()).min().expect("three")
}

/// A branch beside `ours`, which leaves it above block 1.
fn grows_with(run: impl Fn(&[AuthenticBlock], &[AuthenticBlock]) -> Duration) {
    let ours = chain(3);
    let other = branch(&ours[..1], "b", LONG);
    let (short, long) = (least(|| run(&ours, &other[..SHORT])), least(|| run(&ours, &other)));
    is_in_proportion(short, long);
}

fn is_in_proportion(short: Duration, long: Duration) {
    assert!(long < short * 300, "{short:?} for {SHORT}, {long:?} for {LONG}");
}

fn gossip(core: &mut Core, blocks: &[AuthenticBlock]) -> Duration {
    let began = Instant::now();
    for block in blocks.iter().rev() {
        let _ = core.gossip(block);
    }
    began.elapsed()
}

/// A signer whose guard names the top of this branch, of which it has nothing.
fn guarded(ours: &[AuthenticBlock], mine: &[AuthenticBlock]) -> Core {
    let guard = GuardState::Signed(GuardEntry { last: mine[mine.len() - 1].id() });
    Setup::signer().storing(ours, 1).guard(guard).start()
}

/// The lowest block comes last, and with it all of them are known to have lost.
#[test]
fn a_long_lost_branch() {
    grows_with(|ours, lost| {
        let mut core = Setup::follower().storing(ours, 3).start();
        let _ = gossip(&mut core, &lost[3..]);
        gossip(&mut core, &lost[2..3])
    });
}

/// It is long open whether it lost.
#[test]
fn a_long_branch_below_the_guard() {
    grows_with(|ours, mine| gossip(&mut guarded(ours, mine), &mine[3..]));
}

/// Every input looks at what is awaited.
#[test]
fn a_long_branch_that_is_awaited() {
    grows_with(|ours, mine| {
        let mut core = guarded(ours, mine);
        let _ = gossip(&mut core, &mine[3..]);
        let began = Instant::now();
        for _ in 0..mine.len() {
            let _ = core.give(Input::Wakeup);
        }
        began.elapsed()
    });
}

/// What a block above soft stands on is asked for by its hash, down to where the branch leaves ours, far below.
fn walk_down(ours: &[AuthenticBlock], theirs: &[AuthenticBlock]) -> Duration {
    let mut core = Setup::signer().storing(ours, 1).start();
    let mut effects = core.connect_at(1, &theirs[theirs.len() - 1]);
    effects.extend(core.pass(Duration::from_secs(1)));
    // With each the disk of these tests counts all that it has.
    core.hold_writes();
    let began = Instant::now();
    for block in theirs[..theirs.len() - 1].iter().rev() {
        let by_hash = |fetch: &Fetch| fetch.query == BlockQuery::Hash(block.hash());
        let asked = fetches(&effects).into_iter().find(by_hash).expect("it is asked for").request;
        effects = core.answer(asked, std::slice::from_ref(block), FetchOutcome::Complete);
    }
    assert!(core.status().not_ready.is_some_and(|why| why.contains("DA decides")));
    began.elapsed()
}

#[test]
fn a_long_way_down_by_hash() {
    let walk = |length: usize| {
        let ours = chain(length);
        let theirs = branch(&ours[..1], "b", length);
        least(|| walk_down(&ours, &theirs))
    };
    is_in_proportion(walk(SHORT), walk(LONG));
}

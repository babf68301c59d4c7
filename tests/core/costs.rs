//! What long branches cost: no more than in proportion to their length, all together, and each input little, whatever is awaited.
//! Compared with itself: thirty-two times as much would take a thousand times as long if it were by the square, and may take three
//! hundred times as long on a busy machine.

use std::time::{Duration, Instant};

use blocksyncd::sync::{GuardEntry, GuardState, Input};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain};
use super::driver::{Core, Setup};

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

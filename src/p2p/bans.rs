//! Who is kept away, and until when. Every ban ends.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// Peer ids cost nothing, so that there may be many bans; of more than these the one that ends first is lifted.
const MAX_BANS: usize = 4096;

#[derive(Debug, Default)]
pub struct Bans {
    until: HashMap<PeerId, Instant>,
    /// The same, by when they end.
    ends: BTreeSet<(Instant, PeerId)>,
}

impl Bans {
    /// Bans a peer; a ban in force is never made shorter. Returns whose ban had to be lifted for it.
    pub fn add(&mut self, peer: PeerId, duration: Duration, now: Instant) -> Option<PeerId> {
        // So far ahead that it is never reached, should the sum not be a time.
        let until = now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()));
        let room =
            (!self.until.contains_key(&peer) && self.until.len() >= MAX_BANS).then(|| self.lift_first()).flatten();
        let until = self.until.get(&peer).map_or(until, |earlier| until.max(*earlier));
        if let Some(earlier) = self.until.insert(peer, until) {
            self.ends.remove(&(earlier, peer));
        }
        self.ends.insert((until, peer));
        room
    }

    pub fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Forgets one ban that has ended, and returns whose it was.
    pub fn pop_ended(&mut self, now: Instant) -> Option<PeerId> {
        self.next_end().filter(|until| *until <= now).and_then(|_| self.lift_first())
    }

    fn lift_first(&mut self) -> Option<PeerId> {
        let (_, peer) = self.ends.pop_first()?;
        self.until.remove(&peer);
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn bans_end_and_are_never_made_shorter() {
        let (now, peer, other) = (Instant::now(), PeerId::random(), PeerId::random());
        let mut bans = Bans::default();
        bans.add(peer, 2 * MINUTE, now);
        bans.add(peer, MINUTE, now);
        bans.add(other, Duration::MAX, now);
        assert_eq!(bans.next_end(), Some(now + 2 * MINUTE));
        assert_eq!(bans.pop_ended(now + MINUTE), None);
        assert_eq!(bans.pop_ended(now + 2 * MINUTE), Some(peer));
        assert_eq!(bans.pop_ended(now + 100 * MINUTE), None);
    }

    #[test]
    fn the_ban_that_ends_first_makes_room() {
        let now = Instant::now();
        let mut bans = Bans::default();
        let first = PeerId::random();
        assert_eq!(bans.add(first, MINUTE, now), None);
        for _ in 1..MAX_BANS {
            assert_eq!(bans.add(PeerId::random(), 2 * MINUTE, now), None);
        }
        assert_eq!(bans.add(PeerId::random(), MINUTE / 2, now), Some(first));
        assert_eq!((bans.until.len(), bans.ends.len()), (MAX_BANS, MAX_BANS));
    }
}

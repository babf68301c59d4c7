//! Who is kept away, why, and until when.
//!
//! Invariants:
//! 1. Every ban ends, at most [`LONGEST`] after it began or was read from disk, whatever the clock does meanwhile.
//! 2. A ban by the machine never makes one shorter that is in force; an operator may.
//! 3. There are at most [`MAX_BANS`]; of more, the one that ends first is lifted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::subject::Subject;
use crate::sync::PeerId;

/// Peer ids cost nothing, so that there may be many bans.
pub const MAX_BANS: usize = 4096;

pub const LONGEST: Duration = Duration::from_hours(24 * 365);

/// One ban. Times are since the Unix epoch: a ban outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    pub until: Duration,
    pub reason: String,
    pub by_operator: bool,
}

#[derive(Debug, Default)]
pub struct Bans {
    by_subject: BTreeMap<Subject, Ban>,
    /// The same, by when they end.
    ends: BTreeSet<(Duration, Subject)>,
    /// Bans of addresses, of which there are few: looked through at every connection.
    addresses: usize,
}

impl Bans {
    pub fn add(&mut self, subject: Subject, ban: Ban, now: Duration) {
        let mut ban = Ban { until: ban.until.min(now + LONGEST), ..ban };
        if let Some(earlier) = self.by_subject.get(&subject)
            && !ban.by_operator
            && earlier.until >= ban.until
        {
            ban = earlier.clone();
        }
        self.lift(&subject);
        if self.by_subject.len() >= MAX_BANS
            && let Some((_, first)) = self.ends.first().cloned()
        {
            self.lift(&first);
        }
        self.addresses += usize::from(matches!(subject, Subject::Addresses(_)));
        self.ends.insert((ban.until, subject.clone()));
        self.by_subject.insert(subject, ban);
    }

    /// Ends a ban before its time, and returns it if there was one.
    pub fn lift(&mut self, subject: &Subject) -> Option<Ban> {
        let ban = self.by_subject.remove(subject)?;
        self.ends.remove(&(ban.until, subject.clone()));
        self.addresses -= usize::from(matches!(subject, Subject::Addresses(_)));
        Some(ban)
    }

    /// The ban of this very peer.
    pub fn of_peer(&self, peer: &PeerId, now: Duration) -> Option<&Ban> {
        self.by_subject.get(&Subject::Peer(peer.clone())).filter(|ban| now < ban.until)
    }

    /// A ban of this address, or of a subnet that it lies in.
    pub fn of_address(&self, ip: IpAddr, now: Duration) -> Option<&Ban> {
        if self.addresses == 0 {
            return None;
        }
        self.by_subject.iter().find(|(subject, ban)| subject.covers(Some(ip)) && now < ban.until).map(|(_, ban)| ban)
    }

    pub fn next_end(&self) -> Option<Duration> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Forgets one ban that has ended, and returns whose it was.
    pub fn pop_ended(&mut self, now: Duration) -> Option<Subject> {
        let (_, subject) = self.ends.first().filter(|(until, _)| *until <= now).cloned()?;
        self.lift(&subject);
        Some(subject)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &Ban)> {
        self.by_subject.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::subject::Subnet;
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);
    const MINUTE: Duration = Duration::from_mins(1);

    fn peer(name: usize) -> Subject {
        Subject::Peer(PeerId::new(&name.to_be_bytes()))
    }

    fn ban(lasts: Duration) -> Ban {
        Ban { until: NOW + lasts, reason: "why".into(), by_operator: false }
    }

    #[test]
    fn bans_end_and_the_machine_never_makes_them_shorter() {
        let mut bans = Bans::default();
        bans.add(peer(1), ban(2 * MINUTE), NOW);
        bans.add(peer(1), ban(MINUTE), NOW);
        bans.add(peer(2), Ban { until: Duration::MAX, ..ban(MINUTE) }, NOW);
        assert_eq!(bans.next_end(), Some(NOW + 2 * MINUTE));
        assert_eq!(bans.pop_ended(NOW + MINUTE), None);
        assert_eq!(bans.pop_ended(NOW + 2 * MINUTE), Some(peer(1)));
        assert_eq!(bans.next_end(), Some(NOW + LONGEST));
        bans.add(peer(2), Ban { by_operator: true, ..ban(MINUTE) }, NOW);
        assert_eq!(bans.next_end(), Some(NOW + MINUTE), "an operator may");
        assert!(bans.lift(&peer(2)).is_some() && bans.lift(&peer(2)).is_none());
        assert!(bans.by_subject.is_empty() && bans.ends.is_empty());
    }

    #[test]
    fn a_ban_that_is_over_holds_nobody_even_before_it_is_forgotten() {
        let mut bans = Bans::default();
        let subnet = Subnet::parse("192.0.2.0/24").expect("a subnet");
        bans.add(Subject::Addresses(subnet), ban(MINUTE), NOW);
        bans.add(peer(1), ban(MINUTE), NOW);
        let (inside, id) = (IpAddr::from([192, 0, 2, 7]), PeerId::new(&1_usize.to_be_bytes()));
        assert!(bans.of_address(inside, NOW).is_some() && bans.of_peer(&id, NOW).is_some());
        assert!(bans.of_address(IpAddr::from([192, 0, 3, 7]), NOW).is_none());
        let later = NOW + MINUTE;
        assert!(bans.of_address(inside, later).is_none() && bans.of_peer(&id, later).is_none());
        assert!(bans.lift(&Subject::Addresses(subnet)).is_some());
        assert_eq!(bans.addresses, 0);
    }

    #[test]
    fn the_ban_that_ends_first_makes_room() {
        let mut bans = Bans::default();
        bans.add(peer(0), ban(MINUTE), NOW);
        for name in 1..MAX_BANS {
            bans.add(peer(name), ban(2 * MINUTE), NOW);
        }
        bans.add(peer(MAX_BANS), ban(MINUTE / 2), NOW);
        assert_eq!((bans.by_subject.len(), bans.ends.len()), (MAX_BANS, MAX_BANS));
        assert!(!bans.by_subject.contains_key(&peer(0)) && bans.by_subject.contains_key(&peer(MAX_BANS)));
    }
}

//! What is remembered of peers: where they were reached, when last, what they gave, which of them the operator added, and the
//! bans; kept in one small file.
//!
//! Invariants:
//! 1. It is bounded, in memory and on disk: [`MAX_PEERS`], [`MAX_ADDRESSES`] of each, the bans' own bound.
//! 2. Who was reached is never forgotten for one who was not, and who was added by the operator for nobody.
//! 3. Whatever the file contains, the node starts: what cannot be read is left out, and said in the log.
//! 4. A file is whole: written aside, synced, and renamed.

mod writer;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::address;
use super::gate::{Ban, Bans};
use super::policy::{self, MAX_PERSISTENT};
use crate::atomic_file::{self, DEFAULT_MODE, Durability};
use crate::foreign_file;
use crate::util::printable::{Escape, Limit, printable};

pub use writer::AddressBookWriter;

pub const MAX_PEERS: usize = 1024;
const MAX_ADDRESSES: usize = 4;

/// A file with all of it in it is smaller.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// The longest address, and the longest reason, that are kept.
const MAX_TEXT: usize = 256;

/// What is known of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressEntry {
    /// Multiaddrs without the peer id, the one that worked last first.
    pub addresses: Vec<String>,
    /// When a connection was there, since the Unix epoch.
    pub last_success: Option<Duration>,
    /// The operator added it while the node ran.
    pub added: bool,
    /// What it gave us, over all connections.
    pub blocks: u64,
    pub bytes: u64,
}

impl AddressEntry {
    /// Where the peer may be dialled: `may` says at which IP addresses.
    pub fn dialable(&self, may: impl Fn(IpAddr) -> bool) -> Vec<Multiaddr> {
        let addresses = self.addresses.iter().filter_map(|text| text.parse().ok());
        addresses.filter(|address| address::ip_of(address).is_some_and(&may)).collect()
    }

    /// The address that is tried first from now on.
    fn put_first(&mut self, address: &str) {
        self.addresses.retain(|known| known != address);
        self.addresses.insert(0, address.to_owned());
        self.addresses.truncate(MAX_ADDRESSES);
    }
}

/// What something that was learned means for the file on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressBookUpdate {
    /// The book is to be written.
    Changed,
    /// Nothing that is worth a write has changed.
    Unchanged,
}

/// Why nothing of a file can be used.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("it is of version {0}, and this program knows {VERSION}")]
    Version(u32),
}

/// Why a peer is to have an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Somebody named it: only one that was never reached either has to go for it.
    Heard,
    /// It was reached, or the operator adds it: for it, another one may have to go.
    Earned,
}

#[derive(Debug, Default)]
pub struct AddressBook {
    entries: BTreeMap<PeerId, AddressEntry>,
}

impl AddressBook {
    pub fn get(&self, peer: &PeerId) -> Option<&AddressEntry> {
        self.entries.get(peer)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &AddressEntry)> {
        self.entries.iter()
    }

    /// An address of somebody, perhaps: nobody was reached there yet.
    pub fn heard_of(&mut self, peer: PeerId, address: &str) -> AddressBookUpdate {
        let Some(entry) = self.entry(peer, Claim::Heard) else { return AddressBookUpdate::Unchanged };
        let known = entry.addresses.iter().any(|known| known == address);
        let fits = entry.addresses.len() < MAX_ADDRESSES && address.len() <= MAX_TEXT;
        if known || !fits {
            return AddressBookUpdate::Unchanged;
        }
        entry.addresses.push(address.to_owned());
        AddressBookUpdate::Changed
    }

    /// It is connected; `address` is where we dialled it.
    pub fn reached(&mut self, peer: PeerId, address: Option<&str>, now: Duration) {
        let Some(entry) = self.entry(peer, Claim::Earned) else { return };
        entry.last_success = Some(now);
        if let Some(address) = address.filter(|address| address.len() <= MAX_TEXT) {
            entry.put_first(address);
        }
    }

    pub fn gave(&mut self, peer: &PeerId, blocks: u64, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.blocks = entry.blocks.saturating_add(blocks);
            entry.bytes = entry.bytes.saturating_add(bytes);
        }
    }

    /// The operator adds it.
    pub fn add(&mut self, peer: PeerId, address: &str) -> Result<(), String> {
        let added = self.entries.values().filter(|entry| entry.added).count();
        if added >= MAX_PERSISTENT && self.entries.get(&peer).is_none_or(|entry| !entry.added) {
            return Err(format!("{MAX_PERSISTENT} persistent peers were added already: remove one"));
        }
        let Some(entry) = self.entry(peer, Claim::Earned) else { return Err("there is no room".into()) };
        entry.added = true;
        entry.put_first(address);
        Ok(())
    }

    /// The operator removes it: unchanged when the operator had not added it.
    pub fn remove(&mut self, peer: &PeerId) -> AddressBookUpdate {
        match self.entries.get_mut(peer) {
            Some(entry) if entry.added => {
                entry.added = false;
                AddressBookUpdate::Changed
            }
            _ => AddressBookUpdate::Unchanged,
        }
    }

    /// The entry of this peer, made if there is room.
    fn entry(&mut self, peer: PeerId, claim: Claim) -> Option<&mut AddressEntry> {
        if !self.entries.contains_key(&peer) && self.entries.len() >= MAX_PEERS {
            let least = self.entries.iter().filter(|(_, entry)| !entry.added);
            let (least, entry) = least.min_by_key(|(_, entry)| {
                // Of those that were reached, who gave little goes first; what counts is the magnitude.
                (entry.last_success.is_some(), entry.blocks.checked_ilog2(), entry.last_success)
            })?;
            if claim == Claim::Heard && entry.last_success.is_some() {
                return None;
            }
            let least = *least;
            self.entries.remove(&least);
        }
        Some(self.entries.entry(peer).or_default())
    }

    /// As text, with the bans.
    pub fn to_text(&self, bans: &Bans) -> String {
        let peer = |(peer, entry): (&PeerId, &AddressEntry)| PeerRow {
            peer: peer.to_base58(),
            addresses: entry.addresses.clone(),
            last_success: entry.last_success.map(|at| at.as_secs()),
            added: entry.added,
            blocks: entry.blocks,
            bytes: entry.bytes,
        };
        let ban = |(subject, ban): (&_, &Ban)| BanRow {
            subject: policy::show(subject),
            until: ban.until.as_secs(),
            reason: ban.reason.clone(),
            by_operator: ban.by_operator,
        };
        let file = FileOut {
            version: VERSION,
            peers: self.entries.iter().map(peer).collect(),
            bans: bans.iter().map(ban).collect(),
        };
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// Reads it back; what cannot be understood is left out, and counted.
    fn from_bytes(bytes: &[u8], bans: &mut Bans, now: Duration) -> Result<(Self, usize), Unreadable> {
        let file: FileIn = serde_json::from_slice(bytes)?;
        if file.version != VERSION {
            return Err(Unreadable::Version(file.version));
        }
        let (mut book, mut left_out) = (Self::default(), 0);
        for row in file.peers {
            let understood = serde_json::from_value(row).ok().and_then(PeerRow::understood);
            match understood.filter(|_| book.entries.len() < MAX_PEERS) {
                Some((peer, entry)) => drop(book.entries.insert(peer, entry)),
                None => left_out += 1,
            }
        }
        for row in file.bans {
            match serde_json::from_value::<BanRow>(row)
                .ok()
                .and_then(|row| Some((policy::subject(&row.subject).ok()?, row)))
            {
                Some((subject, row)) => {
                    let ban = Ban {
                        until: Duration::from_secs(row.until),
                        reason: short(&row.reason),
                        by_operator: row.by_operator,
                    };
                    if now < ban.until {
                        bans.add(subject, ban, now);
                    }
                }
                None => left_out += 1,
            }
        }
        Ok((book, left_out))
    }

    /// What the file says; nothing, when there is none.
    pub fn read(path: &Path, bans: &mut Bans, now: Duration) -> Self {
        let understood = match foreign_file::read(path, MAX_FILE_BYTES) {
            Err(why) if why.is_missing() => return Self::default(),
            Err(why) => Err(io::Error::from(why).into()),
            Ok(bytes) => Self::from_bytes(&bytes, bans, now),
        };
        match understood {
            Ok((book, 0)) => book,
            Ok((book, left_out)) => {
                tracing::warn!(path = %path.display(), left_out, "a part of what was remembered of peers is damaged, and left out");
                book
            }
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(path = %path.display(), error, "what was remembered of peers cannot be read; it starts anew");
                Self::default()
            }
        }
    }
}

/// Writes the file. Blocking.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("new");
    atomic_file::replace(path, &aside, text.as_bytes(), DEFAULT_MODE, Durability::Power).map(drop)
}

/// Safe to print, and short; what is so already stays as it is.
pub fn short(text: &str) -> String {
    printable(text, Escape::BeyondAscii, Limit::Bytes(MAX_TEXT))
}

const VERSION: u32 = 1;

#[derive(Serialize)]
struct FileOut {
    version: u32,
    peers: Vec<PeerRow>,
    bans: Vec<BanRow>,
}

#[derive(Deserialize)]
struct FileIn {
    version: u32,
    #[serde(default)]
    peers: Vec<serde_json::Value>,
    #[serde(default)]
    bans: Vec<serde_json::Value>,
}

#[derive(Deserialize, Serialize)]
struct PeerRow {
    peer: String,
    addresses: Vec<String>,
    last_success: Option<u64>,
    added: bool,
    blocks: u64,
    bytes: u64,
}

#[derive(Deserialize, Serialize)]
struct BanRow {
    subject: String,
    until: u64,
    reason: String,
    by_operator: bool,
}

impl PeerRow {
    fn understood(self) -> Option<(PeerId, AddressEntry)> {
        let usable = |text: &String| text.len() <= MAX_TEXT && address::check_seed_address(text).is_ok();
        let mut addresses: Vec<_> = self.addresses.into_iter().filter(usable).collect();
        addresses.truncate(MAX_ADDRESSES);
        let last_success = self.last_success.map(Duration::from_secs);
        let Self { added, blocks, bytes, .. } = self;
        Some((self.peer.parse().ok()?, AddressEntry { addresses, last_success, added, blocks, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::gate::Subject;
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);
    const ADDRESS: &str = "/ip4/192.0.2.1/tcp/7676";

    fn sample() -> (AddressBook, Bans, PeerId) {
        let (mut book, mut bans, peer) = (AddressBook::default(), Bans::default(), PeerId::random());
        book.reached(peer, Some(ADDRESS), NOW);
        book.gave(&peer, 3, 4);
        book.add(PeerId::random(), "/ip6/2001:db8::1/tcp/1").expect("room");
        let ban = Ban { until: NOW + Duration::from_mins(1), reason: "why".into(), by_operator: true };
        bans.add(Subject::Peer(address::to_core(peer)), ban.clone(), NOW);
        bans.add(policy::subject("192.0.2.0/24").expect("a subnet"), ban, NOW);
        (book, bans, peer)
    }

    #[test]
    fn what_is_written_is_read_back_but_for_bans_that_have_ended() {
        let (book, bans, peer) = sample();
        let text = book.to_text(&bans);
        let mut read_bans = Bans::default();
        let (read, left_out) = AddressBook::from_bytes(text.as_bytes(), &mut read_bans, NOW).expect("whole");
        assert_eq!((&read.entries, left_out), (&book.entries, 0));
        assert!(read_bans.iter().eq(bans.iter()));
        assert_eq!(read.get(&peer).map(|entry| entry.blocks), Some(3));
        let mut later = Bans::default();
        AddressBook::from_bytes(text.as_bytes(), &mut later, NOW + Duration::from_mins(1)).expect("whole");
        assert_eq!(later.iter().count(), 0);
    }

    #[test]
    fn damage_costs_what_is_damaged_and_no_more() {
        let (book, bans, peer) = sample();
        let text = book.to_text(&bans).replace("192.0.2.0/24", "192.0.2.0/99").replace(&peer.to_base58(), "nobody");
        let mut read_bans = Bans::default();
        let (read, left_out) = AddressBook::from_bytes(text.as_bytes(), &mut read_bans, NOW).expect("half of it");
        assert_eq!((read.entries.len(), read_bans.iter().count(), left_out), (1, 0, 3));
        for bad in ["", "{", "[]", "{\"version\":2}", "{\"version\":1,\"peers\":7}"] {
            assert!(AddressBook::from_bytes(bad.as_bytes(), &mut Bans::default(), NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_was_reached_is_not_forgotten_for_a_rumour() {
        let mut book = AddressBook::default();
        let [added, oldest] = [PeerId::random(), PeerId::random()];
        book.add(added, ADDRESS).expect("room");
        book.reached(oldest, Some(ADDRESS), NOW);
        while book.entries.len() < MAX_PEERS - 1 {
            book.reached(PeerId::random(), None, NOW + Duration::from_secs(1));
        }
        let [rumour, other] = [PeerId::random(), PeerId::random()];
        assert_eq!(book.heard_of(rumour, ADDRESS), AddressBookUpdate::Changed);
        assert_eq!(book.heard_of(rumour, ADDRESS), AddressBookUpdate::Unchanged);
        assert_eq!(book.heard_of(other, ADDRESS), AddressBookUpdate::Changed, "for a rumour, another one goes");
        book.reached(PeerId::random(), None, NOW + Duration::from_secs(1));
        assert_eq!(book.heard_of(rumour, ADDRESS), AddressBookUpdate::Unchanged, "now all were reached");
        book.reached(PeerId::random(), None, NOW + Duration::from_secs(2));
        assert!(book.get(&oldest).is_none() && book.get(&added).is_some());
        assert_eq!(book.entries.len(), MAX_PEERS);
    }

    #[test]
    fn a_peer_has_few_addresses_the_last_that_worked_first() {
        let (mut book, peer) = (AddressBook::default(), PeerId::random());
        for port in 1..10 {
            book.heard_of(peer, &format!("/ip4/192.0.2.1/tcp/{port}"));
        }
        book.reached(peer, Some(ADDRESS), NOW);
        let entry = book.get(&peer).expect("known");
        assert_eq!((entry.addresses.len(), entry.addresses[0].as_str()), (MAX_ADDRESSES, ADDRESS));
        assert_eq!(book.heard_of(PeerId::random(), &"x".repeat(MAX_TEXT + 1)), AddressBookUpdate::Unchanged);
    }

    #[test]
    fn what_the_operator_adds_is_bounded() {
        let mut book = AddressBook::default();
        let first = PeerId::random();
        book.add(first, ADDRESS).expect("room");
        for _ in 1..MAX_PERSISTENT {
            book.add(PeerId::random(), ADDRESS).expect("room");
        }
        assert!(book.add(PeerId::random(), ADDRESS).is_err());
        book.add(first, ADDRESS).expect("it is there already");
        assert_eq!(
            [book.remove(&first), book.remove(&first)],
            [AddressBookUpdate::Changed, AddressBookUpdate::Unchanged]
        );
        book.add(PeerId::random(), ADDRESS).expect("room again");
    }

    proptest! {
        #[test]
        fn whatever_the_file_contains_it_is_read(text in ".*", cut in any::<prop::sample::Index>()) {
            let _ = AddressBook::from_bytes(text.as_bytes(), &mut Bans::default(), NOW);
            let (book, bans, _) = sample();
            let whole = book.to_text(&bans);
            let _ = AddressBook::from_bytes(&whole.as_bytes()[..cut.index(whole.len())], &mut Bans::default(), NOW);
        }
    }
}

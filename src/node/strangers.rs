//! Proposers whom our schedule does not know are named in the log: each once, until the schedule changes.
//!
//! Peers claim them, and nobody's signature was checked: so many are named at most, lest somebody fill the log.

use std::collections::BTreeSet;

use crate::block::PublicKey;
use crate::sync::UnknownProposer;

const MAX_NAMED: usize = 8;

#[derive(Debug, Default)]
pub(super) struct NamedProposers(BTreeSet<PublicKey>);

impl NamedProposers {
    /// What the log has not said yet.
    pub fn news(&mut self, unknown: Option<UnknownProposer>) -> Option<UnknownProposer> {
        let unknown = unknown?;
        (self.0.len() < MAX_NAMED && self.0.insert(unknown.proposer)).then_some(unknown)
    }

    /// The schedule is another one.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Height;

    #[test]
    fn each_is_named_once_and_so_many_at_most() {
        let mut named = NamedProposers::default();
        let unknown = |name| UnknownProposer { height: Height::MIN, proposer: PublicKey([name; 32]), count: 1 };
        assert_eq!(named.news(None), None);
        assert_eq!(named.news(Some(unknown(0))), Some(unknown(0)));
        assert_eq!(named.news(Some(UnknownProposer { count: 2, ..unknown(0) })), None);
        let news = (1..=100).filter(|name| named.news(Some(unknown(*name))).is_some()).count();
        assert_eq!(news, MAX_NAMED - 1);
        named.forget();
        assert_eq!(named.news(Some(unknown(0))), Some(unknown(0)));
    }
}

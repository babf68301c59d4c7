//! Which inbound connection makes room for a new one, when all places are taken.
//!
//! Invariants:
//! 1. Somebody goes only if the peers that are left and the newcomer together come from more different subnets: from one
//!    more, or from the same but less crowded. So newcomers cannot push each other out for ever.
//! 2. A quarter of the peers, those that gave us most, is never sent away; within a subnet who gave least goes, of equals the
//!    youngest.

use std::collections::HashMap;
use std::time::Duration;

use super::subject::Subnet;

/// One inbound connection that may be sent away.
#[derive(Clone, Debug)]
pub struct Candidate<C> {
    pub id: C,
    pub subnet: Option<Subnet>,
    /// Blocks that its peer gave us.
    pub useful: u64,
    /// When it came, on any clock.
    pub since: Duration,
}

/// Who goes for a newcomer from `subnet`; `None`: nobody, the newcomer is not let in.
pub fn victim<C: Copy>(candidates: &[Candidate<C>], subnet: Option<Subnet>) -> Option<C> {
    let mut crowds: HashMap<Option<Subnet>, usize> = HashMap::new();
    for candidate in candidates {
        *crowds.entry(candidate.subnet).or_default() += 1;
    }
    let crowd_of = |subnet: Option<Subnet>| crowds.get(&subnet).copied().unwrap_or(0);

    let mut ranked: Vec<_> = candidates.iter().collect();
    ranked.sort_by_key(|candidate| std::cmp::Reverse(candidate.useful));
    let is_safe = |place: usize| place < candidates.len() / 4 && ranked[place].useful > 0;
    (0..ranked.len())
        .filter(|place| !is_safe(*place))
        .map(|place| ranked[place])
        // With one less there and one more here, here must not be the larger crowd.
        .filter(|candidate| crowd_of(candidate.subnet) > crowd_of(subnet) + 1)
        .max_by_key(|candidate| (crowd_of(candidate.subnet), std::cmp::Reverse(candidate.useful), candidate.since))
        .map(|candidate| candidate.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(subnet, useful, since)`, the id being the place in the list.
    fn candidates(list: &[(u8, u64, u64)]) -> Vec<Candidate<usize>> {
        let one = |(id, &(net, useful, since)): (usize, &(u8, u64, u64))| Candidate {
            id,
            subnet: subnet(net),
            useful,
            since: Duration::from_secs(since),
        };
        list.iter().enumerate().map(one).collect()
    }

    fn subnet(net: u8) -> Option<Subnet> {
        Subnet::parse(&format!("10.0.{net}.0/24"))
    }

    #[test]
    fn the_most_crowded_subnet_gives_its_least_useful_youngest() {
        for (name, list, newcomer, expected) in [
            ("nobody is there", &[][..], 1, None),
            ("all differ", &[(1, 0, 0), (2, 0, 0), (3, 0, 0)], 4, None),
            ("the newcomer's own is as crowded", &[(1, 0, 0), (1, 0, 0), (2, 0, 0)], 2, None),
            ("a pair gives one to a new subnet", &[(1, 0, 5), (1, 0, 9), (2, 0, 0)], 3, Some(1)),
            ("the larger crowd gives", &[(1, 0, 1), (1, 0, 2), (2, 0, 1), (2, 0, 1), (2, 0, 3)], 3, Some(4)),
            ("who gave something stays", &[(1, 7, 9), (1, 0, 5), (2, 0, 0)], 3, Some(1)),
            ("from the crowd itself nobody comes in", &[(1, 0, 1), (1, 0, 2), (1, 0, 3)], 1, None),
            (
                "the most useful quarter is safe, though its crowd is the largest",
                &[(1, 9, 9), (1, 8, 9), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0), (6, 0, 0), (7, 0, 0)],
                8,
                None,
            ),
            (
                "but not who gave nothing",
                &[(1, 0, 1), (1, 0, 9), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0), (6, 0, 0), (7, 0, 0)],
                8,
                Some(1),
            ),
        ] {
            assert_eq!(victim(&candidates(list), subnet(newcomer)), expected, "{name}");
        }
    }

    #[test]
    fn newcomers_do_not_push_each_other_out_for_ever() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut inside: Vec<u8> = vec![0; 12];
        let mut evictions = 0;
        for _ in 0..10_000 {
            let newcomer = random.u8(..20);
            let list: Vec<_> = inside.iter().map(|net| (*net, 0, 0)).collect();
            if let Some(victim) = victim(&candidates(&list), subnet(newcomer)) {
                inside[victim] = newcomer;
                evictions += 1;
            }
        }
        inside.sort_unstable();
        inside.dedup();
        assert_eq!(inside.len(), 12, "all differ in the end");
        // The sum of the squares of the crowds is 144 at first, 12 in the end, and every eviction makes it smaller by 2.
        assert!(evictions <= 66, "{evictions}");
    }
}

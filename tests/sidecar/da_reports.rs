//! DA as the host reports it: what decides, what is asked for, what is refused, how an operator reads it again, and how a
//! new node begins in the middle of it.

use blocksyncd::api::client::{DenialReason, Lookup, ReportResult, Which};
use blocksyncd::api::{ReportedAs, ReportedSighting};
use blocksyncd::block::{BlockId, Hash};
use blocksyncd::sync::{Basis, Confirmation, DaPosition, ReportTaken, Wanted};
use bytes::Bytes;

use super::host::{Host, time_of};
use super::place::{Place, Signed, sign};
use super::{height, hosts, within};

fn at(da_height: u64, index: u32) -> DaPosition {
    DaPosition { height: da_height, index }
}

fn sighting(position: DaPosition, block: &Signed, what: ReportedAs) -> ReportedSighting {
    ReportedSighting { position, height: Some(block.id.height), what }
}

fn bytes(block: &Signed) -> ReportedAs {
    ReportedAs::SignedBlock(block.bytes.clone())
}

#[track_caller]
fn taken(result: ReportResult) -> ReportTaken {
    match result {
        ReportResult::Taken(taken) => taken,
        other => panic!("not taken: {other:?}"),
    }
}

#[track_caller]
fn refused(result: ReportResult, reason: DenialReason, at: Option<DaPosition>) {
    match result {
        ReportResult::Refused(denial) => assert_eq!((denial.reason, denial.at), (reason, at), "{}", denial.why),
        other => panic!("not refused: {other:?}"),
    }
}

/// Why the block is hard.
async fn basis(host: &Host, id: BlockId) -> Option<Confirmation> {
    match within("a block", host.observer().block(Which::Id(id))).await.unwrap() {
        Lookup::Found { inclusion, .. } => inclusion,
        other => panic!("{id} is not here: {other:?}"),
    }
}

/// Blocks of the proposer that no sidecar has seen.
fn chain_of(place: &Place, n: usize) -> Vec<Signed> {
    let key = place.proposer();
    let mut chain: Vec<Signed> = Vec::new();
    for _ in 0..n {
        let parent = chain.last().map(|block| block.id);
        let next = parent.map_or(height(1), |parent| parent.height.next());
        chain.push(sign(&key, parent, time_of(next), format!("on DA alone, {next}").as_bytes()));
    }
    chain
}

#[test]
fn what_is_named_by_a_digest_is_wanted_until_its_bytes_are_here() {
    let place = Place::new();
    let alone = place.full_node("full", &[]);
    hosts(async {
        let b = Host::follower(&alone).await;
        let mut chain = chain_of(&place, 3);
        // Of the third one somebody has posted a copy of which the payload is another.
        let mut spoilt = chain[2].bytes.to_vec();
        *spoilt.last_mut().unwrap() ^= 1;
        chain[2].bytes = spoilt.into();
        let digests: Vec<_> =
            (0..).zip(&chain).map(|(index, block)| sighting(at(5, index), block, block.digest())).collect();
        let answer = taken(b.report_range(0, 7, &digests).await);
        let wanted = |block: &Signed, index| Wanted {
            position: at(5, index),
            height: block.id.height,
            digest: Hash::of(&block.bytes),
        };
        let all: Vec<_> = (0..).zip(&chain).map(|(index, block)| wanted(block, index)).collect();
        assert_eq!((answer.scanned_through, &answer.wanted), (7, &all), "many at once, lowest on DA first");
        let status = b.status().await;
        assert_eq!(status.wanted, all);
        assert!(status.hard_waits_for.is_some_and(|why| why.contains("DA height 5, index 0")));
        let text = alone.ctl(&["status"]).stdout;
        assert!(text.contains("wanted from DA") && text.contains("(block 1), and 2 more"), "{text}");

        // A report of nothing asks again, and the answer is the same after the process died.
        alone.kill();
        let alone = place.full_node("full", &[]);
        let mut b = b.reattach(&alone).await;
        assert_eq!(taken(b.report_range(7, 7, &[]).await).wanted, all);

        for (index, junk) in [(2, 1), (0, 0), (1, 0)] {
            let block = &chain[usize::try_from(index).unwrap()];
            let given = ReportedSighting { height: None, ..sighting(at(5, index), block, bytes(block)) };
            let answer = taken(within("an answer", b.reporter().give(&given)).await.unwrap());
            assert_eq!((answer.junk, answer.scanned_through), (junk, 7), "{index}");
        }
        b.until_hard(2).await;
        let because = Confirmation { position: at(5, 1), basis: Basis::Bytes };
        assert_eq!(basis(&b, chain[1].id).await, Some(because));
        let status = b.status().await;
        assert_eq!((status.info.heads.soft, status.wanted, status.hard_waits_for), (Some(chain[1].id), vec![], None));
        let shown = alone.ctl(&["get", "2"]).stdout;
        assert!(shown.contains("hard, by its bytes at DA height 5, index 1"), "{shown}");
    });
}

/// A host that read a digest off the wrong bytes: the right one comes to light with the bytes, and nothing is lost by it.
#[test]
fn a_digest_that_was_wrong_is_put_right_by_the_bytes() {
    let place = Place::new();
    let alone = place.full_node("full", &[]);
    hosts(async {
        let mut b = Host::follower(&alone).await;
        let chain = chain_of(&place, 2);
        let mixed_up = ReportedSighting { height: Some(height(1)), ..sighting(at(3, 0), &chain[0], chain[1].digest()) };
        let copy = sighting(at(4, 0), &chain[0], bytes(&chain[0]));
        taken(b.report_range(0, 5, &[mixed_up, copy]).await);
        let given = ReportedSighting { height: None, ..sighting(at(3, 0), &chain[0], bytes(&chain[0])) };
        let answer = taken(within("an answer", b.reporter().give(&given)).await.unwrap());
        assert_eq!((answer.junk, answer.wanted), (0, vec![]));
        b.until_hard(1).await;
        let because = Confirmation { position: at(3, 0), basis: Basis::Bytes };
        assert_eq!(basis(&b, chain[0].id).await, Some(because));
        // It may want the DA heights again behind which something was left out for that digest's sake.
        let second = sighting(at(6, 0), &chain[1], bytes(&chain[1]));
        taken(b.report_range(answer.scanned_through, 6, &[second]).await);
        b.until_hard(2).await;
    });
}

#[test]
fn a_block_on_da_that_is_larger_than_a_message_comes_in_pieces() {
    let place = Place::new();
    let alone = place.full_node("full", &[]);
    hosts(async {
        let mut b = Host::follower(&alone).await;
        let large = sign(&place.proposer(), None, time_of(height(1)), &vec![7; 6 << 20]);
        let limits = b.status().await.info.limits;
        assert!(large.bytes.len() as u64 > limits.max_message_bytes);
        let answer = taken(b.report_range(0, 1, &[sighting(at(1, 0), &large, large.digest())]).await);
        assert_eq!(answer.wanted.len(), 1);
        let given = sighting(at(1, 0), &large, bytes(&large));
        assert_eq!(taken(within("an answer", b.reporter().give(&given)).await.unwrap()).wanted, []);
        b.until_hard(1).await;
    });
}

/// A node may take less than its chain allows. On DA it tells what is too large for it from what is nothing at all.
#[test]
fn a_node_of_little_room_stands_still_at_a_larger_block_and_not_at_large_junk() {
    let place = Place::new();
    let small = ["--set", "limits.max_block_bytes=64KiB"];
    let alone = place.full_node("full", &small);
    hosts(async {
        let b = Host::follower(&alone).await;
        let large = sign(&place.proposer(), None, time_of(height(1)), &vec![7; 6 << 20]);
        let mut junk = large.clone();
        let mut spoilt = junk.bytes.to_vec();
        *spoilt.last_mut().unwrap() ^= 1;
        junk.bytes = spoilt.into();
        let both = [sighting(at(1, 0), &junk, junk.digest()), sighting(at(2, 0), &large, large.digest())];
        assert_eq!(taken(b.report_range(0, 3, &both).await).wanted.len(), 2);
        for (position, block, wanted) in [(at(1, 0), &junk, 1), (at(2, 0), &large, 0)] {
            let given = sighting(position, block, bytes(block));
            let answer = taken(within("an answer", b.reporter().give(&given)).await.unwrap());
            assert_eq!(answer.wanted.len(), wanted);
        }
        let status = b.status().await;
        assert_eq!((status.info.heads.soft, status.info.limits.max_block_bytes), (None, 64 << 10));
        let why = status.hard_waits_for.expect("it says why");
        assert!(why.contains("DA height 2, index 0") && why.contains("limits.max_block_bytes"), "{why}");

        // With more room it goes on, once DA is read again.
        alone.stop();
        let alone = place.full_node("full", &[]);
        let mut b = b.reattach(&alone).await;
        let answer = taken(b.report_range(b.da_position().await, 3, &both[1..]).await);
        for wanted in answer.wanted {
            assert_eq!(wanted.position, at(2, 0));
            taken(within("an answer", b.reporter().give(&sighting(at(2, 0), &large, bytes(&large)))).await.unwrap());
        }
        b.until_hard(1).await;
    });
}

#[test]
fn a_report_that_makes_no_sense_is_refused_with_a_reason_and_changes_nothing() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let chain = a.publish_chain(None, 2).await;
        a.until_soft(2).await;
        refused(a.report_range(0, u64::MAX, &[]).await, DenialReason::TooFar, None);
        refused(a.report_range(3, 2, &[]).await, DenialReason::Backwards, None);
        let one = |position, what| [sighting(position, &chain[0], what)];
        let report = async |sightings: &[ReportedSighting]| a.report_range(0, 1, sightings).await;
        let far = at(u64::MAX, 0);
        let result = report(&one(far, bytes(&chain[0]))).await;
        assert!(matches!(result, ReportResult::Refused(_)), "{result:?}");
        let host_id = |len: usize| ReportedAs::HostId(Bytes::from(vec![1; len]));
        refused(report(&one(at(1, 0), host_id(1 << 20))).await, DenialReason::NameTooLong, Some(at(1, 0)));
        refused(report(&one(at(1, 3), host_id(64))).await, DenialReason::NotByName, Some(at(1, 3)));
        let by_hash = ReportedAs::BlockHash(chain[0].id.hash);
        refused(report(&one(at(1, 0), by_hash)).await, DenialReason::NotByName, Some(at(1, 0)));
        // The second block, said to be the first.
        refused(report(&one(at(1, 1), bytes(&chain[1]))).await, DenialReason::OtherHeight, Some(at(1, 1)));
        assert_eq!(a.da_position().await, 0);
        let memory = a.status().await;
        assert_eq!((memory.pending_sightings, memory.info.heads.hard), (0, None));
        // It minds nothing of all that.
        taken(a.report_digests(1, &[chain[0].id, chain[1].id]).await);
        a.until_hard(2).await;
    });
}

#[test]
fn da_is_read_again_where_an_operator_says_so() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let chain = a.publish_first(3).await;
        a.until_soft(3).await;
        taken(a.report_digests(1, &chain[..1]).await);
        // It misses what is there.
        taken(a.report_range(1, 9, &[]).await);
        assert_eq!(a.da_position().await, 9);
        sequencer.ctl(&["rescan-da", "--from", "0"]).refused(65, &["refused"]);
        assert_eq!(sequencer.ask(&["rescan-da", "--from", "2"])["done"], true);
        assert_eq!(a.da_position().await, 1);
        // Durable: it is not forgotten with the process.
        sequencer.kill();
        let sequencer = place.sequencer(&[]);
        let mut a = a.reattach(&sequencer).await;
        assert_eq!(a.da_position().await, 1);
        let too_high = a.report_range(9, 10, &[]).await;
        assert_eq!(too_high, ReportResult::OutOfOrder { scanned_through: 1 });
        taken(a.report_digests(2, &chain[1..]).await);
        a.until_hard(3).await;
    });
}

#[test]
fn a_new_node_begins_at_the_checkpoint_that_another_one_prints() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        sequencer.ctl(&["checkpoint"]).refused(65, &["there is no checkpoint"]);
        let chain = a.publish_first(5).await;
        a.until_soft(5).await;
        taken(a.report_digests(1, &chain[..2]).await);
        taken(a.report_digests(2, &chain[2..3]).await);
        a.until_hard(3).await;

        let line = sequencer.ctl(&["checkpoint"]).stdout;
        let line = line.trim();
        assert_eq!(line, format!("{}@2", chain[2]));
        let json = sequencer.ask(&["checkpoint"]);
        assert_eq!((&json["syncFrom"], &json["daHeight"], &json["id"]["height"]), (&line.into(), &2.into(), &3.into()));

        let from = format!("sync.from={line}");
        let args = ["--seed", &sequencer.address(), "--set", &from];
        let full = place.full_node("full", &args);
        let mut b =
            Host::resume(&full, super::host::Role::Follower, super::host::Ledger::starting_at(&chain[..3])).await;
        b.until_soft(5).await;
        assert_eq!(b.da_position().await, 2, "reports go on exactly there");
        let status = b.status().await;
        assert_eq!(status.info.heads.hard, Some(chain[2]));
        assert_eq!(status.floor.map(|floor| floor.to_string()), Some(line.to_owned()));
        let trusted = basis(&b, chain[2]).await.expect("it is hard");
        assert_eq!(trusted.basis, Basis::Trusted);
        full.ctl(&["rescan-da", "--from", "2"]).refused(65, &["refused"]);
        for host in [&mut a, &mut b] {
            taken(host.report_digests(3, &chain[3..]).await);
            host.until_hard(5).await;
        }
        // What it was started with holds for an empty store only.
        full.stop();
        let full = place.full_node("full", &args);
        let b = b.reattach(&full).await;
        let heads = b.status().await.info.heads;
        assert_eq!((heads.hard, heads.soft), (Some(chain[4]), Some(chain[4])));
        assert_eq!(full.ctl(&["checkpoint"]).stdout, sequencer.ctl(&["checkpoint"]).stdout);
    });
}

#[test]
fn without_its_da_height_a_trusted_block_is_not_hard_and_the_status_says_what_is_missing() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let chain = a.publish_first(4).await;
        a.until_soft(4).await;
        let from = format!("sync.from={}", chain[1]);
        let full = place.full_node("full", &["--seed", &sequencer.address(), "--set", &from]);
        let b = Host::resume(&full, super::host::Role::Follower, super::host::Ledger::starting_at(&chain[..2])).await;
        let status = b.until_status("all blocks", |status| status.info.heads.soft == Some(chain[3])).await;
        assert_eq!((status.info.heads.hard, status.floor), (None, None));
        let why = status.hard_waits_for.expect("it says what it waits for");
        assert!(why.contains(&chain[1].to_string()) && why.contains("@DA"), "{why}");
        assert!(full.ctl(&["status"]).stdout.contains("HARD WAITS"), "{why}");
    });
}

#[test]
fn a_chain_whose_da_is_told_by_names_says_so_of_every_hard_block() {
    let place = Place::with_args(&["--sequencer", "--da-evidence", "named"]);
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let chain = a.publish_chain(None, 2).await;
        a.until_soft(2).await;
        assert_eq!(sequencer.ask(&["info"])["daEvidence"], "named");
        let given = [sighting(at(1, 0), &chain[0], bytes(&chain[0]))];
        refused(a.report_range(0, 1, &given).await, DenialReason::OnlyByName, Some(at(1, 0)));
        let name = |index, block: &Signed| sighting(at(1, index), block, ReportedAs::BlockHash(block.id.hash));
        taken(a.report_range(0, 1, &[name(0, &chain[0]), name(4, &chain[1])]).await);
        a.until_hard(2).await;
        let because = Confirmation { position: at(1, 4), basis: Basis::Named };
        assert_eq!(basis(&a, chain[1].id).await, Some(because));
        let tail = sequencer.ctl(&["--json", "tail", "--from", "genesis", "--count", "4"]).stdout;
        assert!(tail.lines().any(|line| line.contains("\"hard\"") && line.contains("\"basis\":\"named\"")), "{tail}");
        let text = sequencer.ctl(&["tail", "--from", "genesis", "--count", "4"]).stdout;
        assert!(text.contains("by its name at DA height 1, index 4"), "{text}");

        // A wrong name stops it, until DA is read again from there.
        let third = a.publish_chain(Some(chain[1].id), 1).await;
        a.until_soft(3).await;
        let wrong = sighting(at(2, 0), &third[0], ReportedAs::BlockHash(Hash::of(b"wrong")));
        taken(a.report_range(1, 2, &[wrong]).await);
        let halted = a.until_status("a halt", |status| status.halt.is_some()).await.halt.unwrap();
        assert!(halted.contains("rescan-da --from 2"), "it says what to do: {halted}");
        assert_eq!(sequencer.ask(&["rescan-da", "--from", "2"])["done"], true);
        a.until_status("going on", |status| status.halt.is_none()).await;
        let right = sighting(at(2, 0), &third[0], ReportedAs::BlockHash(third[0].id.hash));
        taken(a.report_range(1, 2, &[right]).await);
        a.until_hard(3).await;
        a.publish_chain(Some(third[0].id), 1).await;
    });
}

#[test]
fn a_key_that_the_schedule_does_not_name_is_passed_over_until_it_does() {
    let place = Place::new();
    let alone = place.full_node("full", &[]);
    hosts(async {
        let mut b = Host::follower(&alone).await;
        let first = chain_of(&place, 1).remove(0);
        let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let second = sign(&key, Some(first.id), time_of(height(2)), b"by the next proposer");
        let both = [sighting(at(1, 0), &first, bytes(&first)), sighting(at(2, 0), &second, bytes(&second))];
        let answer = taken(b.report_range(0, 4, &both).await);
        assert_eq!((answer.junk, answer.passed_over, answer.scanned_through), (0, 1, 4));
        b.until_hard(1).await;
        let status = b.status().await;
        let unknown = status.lowest_passed_over.expect("it says whose block");
        let proposer = blocksyncd::block::PublicKey(key.verifying_key().to_bytes());
        assert_eq!((unknown.height, unknown.proposer, unknown.position), (height(2), proposer, at(2, 0)));
        let text = alone.ctl(&["status"]).stdout;
        assert!(text.contains("PASSED OVER on DA") && text.contains(&proposer.to_string()), "{text}");
        let add = ["schedule", "add", "--from", "2", "--proposer", &proposer.to_string()];
        assert_eq!(alone.ctl(&add).code, Some(0));
        assert_eq!(b.da_position().await, 1, "it is read again from there");
        taken(b.report_range(1, 4, &both[1..]).await);
        b.until_hard(2).await;
        assert_eq!(b.status().await.lowest_passed_over, None);
    });
}

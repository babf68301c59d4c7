//! What the mock execution reports of DA, and how it answers what the sidecar says to that.

use blocksyncd::block::Hash;

use super::blocks::{self, Piece, block, chain, signed_by};
use super::da;
use super::host::Host;
use super::script::{Heard, Reply, Said, Script, Sighted};
use super::sidecar::Sidecar;

/// One DA blob of these blocks.
fn blob(blocks: &[Piece]) -> Vec<u8> {
    let mut blob = Vec::new();
    for block in blocks {
        prost::encode_length_delimiter(block.signed().len(), &mut blob).unwrap();
        blob.extend_from_slice(&block.signed());
    }
    blob
}

fn digest(block: &Piece) -> Said {
    Said::Digest(Hash::of(&block.signed()))
}

fn bytes(block: &Piece) -> Said {
    Said::Bytes(Hash::of(&block.signed()))
}

fn sighted((da_height, index): (u64, u32), block: &Piece, what: Said) -> Sighted {
    Sighted { da_height, index, height: block.id.height.get(), what }
}

/// The next report: after which DA height, through which, and what.
fn report(sidecar: &Sidecar) -> (u64, u64, Vec<Sighted>) {
    sidecar.next(|heard| match heard {
        Heard::Reported { after, scanned_through, sightings } => Some((after, scanned_through, sightings)),
        Heard::Uploaded(place) => panic!("{place:?} fits into a report"),
        _ => None,
    })
}

/// The first report says nothing: it asks what is wanted.
#[track_caller]
fn asks(sidecar: &Sidecar) {
    assert_eq!(report(sidecar), (0, 0, vec![]));
}

#[test]
fn da_is_reported_by_digest_and_only_what_can_be_no_block_is_left_out() {
    let chain = chain(4);
    let mut forged = chain[2].clone();
    forged.signature[0] ^= 1;
    // The next proposer's, of whom this host has not heard; only the sidecar knows whether that is in order.
    let rotated = signed_by(9, Some(chain[3].id), 5, b"rotated");
    let blobs = vec![
        vec![],
        vec![blob(&chain[..2]), b"junk".to_vec(), blob(&[forged, chain[2].clone()])],
        vec![blob(&chain[3..]), blob(&[rotated.clone(), chain[0].clone()])],
    ];
    let url = da::start(blocks::CHAIN_ID, blobs);
    let sidecar = Sidecar::start(Script::default());
    let _host = Host::start(&sidecar, &["--da", &url]);
    asks(&sidecar);
    let all = [
        ((2, 0), &chain[0]),
        ((2, 1), &chain[1]),
        // What is left out has a number all the same.
        ((2, 3), &chain[2]),
        ((3, 0), &chain[3]),
        ((3, 1), &rotated),
        // However often it is there.
        ((3, 2), &chain[0]),
    ];
    let all = all.map(|(place, block)| sighted(place, block, digest(block)));
    assert_eq!(report(&sidecar), (0, 3, all.to_vec()));
}

#[test]
fn a_report_goes_on_where_the_answer_before_stands() {
    let chain = chain(3);
    let blobs = (0..3).map(|n| vec![blob(&chain[n..=n])]).collect();
    let url = da::start(blocks::CHAIN_ID, blobs);
    let taken = |scanned_through| Reply::Taken(scanned_through, vec![]);
    let replies = [taken(0), Reply::StorageFull, taken(1), taken(0), Reply::OutOfOrder(2), taken(3)];
    let sidecar = Sidecar::start(Script { replies: replies.into(), ..Script::default() });
    let _host = Host::start(&sidecar, &["--da", &url, "--da-poll", "1ms"]);
    asks(&sidecar);
    for after in [0, 0, 1, 0, 2] {
        let from = usize::try_from(after).unwrap();
        let rest = (after + 1..).zip(&chain[from..]);
        let rest = rest.map(|(da_height, block)| sighted((da_height, 0), block, digest(block)));
        assert_eq!(report(&sidecar), (after, 3, rest.collect::<Vec<_>>()));
    }
}

#[test]
fn what_is_wanted_is_given_as_it_stands_there_and_moves_nothing() {
    let chain = chain(2);
    let mut forged = chain[1].clone();
    forged.signature[0] ^= 1;
    let url =
        da::start(blocks::CHAIN_ID, vec![vec![blob(&[forged.clone(), chain[0].clone()])], vec![blob(&chain[1..])]]);
    let replies = [
        // Wanted before this session, of another host's report; one of the places is not there at all.
        Reply::Taken(0, vec![(1, 0), (1, 7), (2, 0)]),
        Reply::Taken(0, vec![(1, 0), (1, 7), (2, 0)]),
        // It is given once, whatever is said of it.
        Reply::Taken(0, vec![(1, 0), (1, 7)]),
        Reply::Taken(1, vec![(1, 1)]),
        Reply::Taken(1, vec![]),
    ];
    let sidecar = Sidecar::start(Script { replies: replies.into(), ..Script::default() });
    let _host = Host::start(&sidecar, &["--da", &url, "--da-poll", "1ms"]);
    asks(&sidecar);
    let given = |place: (u64, u32), block: &Piece| Sighted { height: 0, ..sighted(place, block, bytes(block)) };
    assert_eq!(report(&sidecar), (0, 0, vec![given((1, 0), &forged)]));
    assert_eq!(report(&sidecar), (0, 0, vec![given((2, 0), &chain[1])]));
    let digests = [sighted((1, 1), &chain[0], digest(&chain[0])), sighted((2, 0), &chain[1], digest(&chain[1]))];
    assert_eq!(report(&sidecar), (0, 2, digests.to_vec()));
    assert_eq!(report(&sidecar), (0, 0, vec![given((1, 1), &chain[0])]));
    // And on from where the last answer stands.
    assert_eq!(report(&sidecar), (1, 2, digests[1..].to_vec()));
}

#[test]
fn bytes_are_given_at_once_when_that_is_asked_for_and_in_pieces_when_they_are_large() {
    let small = block(None, 1, b"small");
    let large = block(Some(small.id), 2, &vec![7; 6 << 20]);
    let url =
        da::start(blocks::CHAIN_ID, vec![vec![blob(std::slice::from_ref(&small)), blob(std::slice::from_ref(&large))]]);
    let sidecar = Sidecar::start(Script { max_report_bytes: 1 << 20, ..Script::default() });
    let _host = Host::start(&sidecar, &["--da", &url, "--report-bodies"]);
    asks(&sidecar);
    let given = |index, block: &Piece| Sighted { height: 0, ..sighted((1, index), block, bytes(block)) };
    assert_eq!(report(&sidecar), (0, 0, vec![given(0, &small)]), "the DA height is not through yet");
    let uploaded = sidecar.next(|heard| match heard {
        Heard::Uploaded(place) => Some(place),
        _ => None,
    });
    assert_eq!(uploaded, given(1, &large));
    assert_eq!(report(&sidecar), (0, 1, vec![]));
}

#[test]
fn where_names_decide_one_place_of_each_height_is_named() {
    let chain = chain(2);
    let (one, two) = (&chain[0], &chain[1]);
    let other = block(None, 1, b"another first block");
    let on_other = block(Some(other.id), 2, b"on it");
    let rotated = signed_by(9, Some(two.id), 3, b"not by this chain's rule");
    let all = [one.clone(), other, on_other, two.clone(), one.clone(), rotated];
    let url = da::start(blocks::CHAIN_ID, vec![vec![blob(&all)]]);
    let sidecar = Sidecar::start(Script { named: true, ..Script::default() });
    let _host = Host::start(&sidecar, &["--da", &url]);
    asks(&sidecar);
    let named = |index, block: &Piece| sighted((1, index), block, Said::Name(block.id.hash));
    assert_eq!(report(&sidecar), (0, 1, vec![named(0, one), named(3, two)]));
}

/// It would name another block at a height that it has named, or on a block that it has not, and the sidecar would have to halt.
#[test]
fn what_was_named_is_known_after_a_restart() {
    let chain = chain(3);
    let other = block(None, 1, b"another first block");
    let on_other = block(Some(other.id), 2, b"on it");
    let third_on_other = block(Some(on_other.id), 3, b"and on that");
    let first = vec![blob(&chain[..2])];
    let then = vec![blob(&[other, on_other, third_on_other, chain[2].clone()])];
    let sidecar = Sidecar::start(Script { named: true, ..Script::default() });
    let url = da::start(blocks::CHAIN_ID, vec![first.clone()]);
    let named = |place, block: &Piece| sighted(place, block, Said::Name(block.id.hash));
    let mut host = Host::start(&sidecar, &["--da", &url]);
    asks(&sidecar);
    assert_eq!(report(&sidecar), (0, 1, vec![named((1, 0), &chain[0]), named((1, 1), &chain[1])]));
    host.kill();
    let url = da::start(blocks::CHAIN_ID, vec![first, then]);
    let _host = Host::start(&sidecar, &["--da", &url]);
    assert_eq!(report(&sidecar), (1, 1, vec![]));
    assert_eq!(report(&sidecar), (1, 2, vec![named((2, 3), &chain[2])]));
}

#[test]
fn a_report_that_can_never_be_taken_ends_the_host_with_the_reason() {
    let url = da::start(blocks::CHAIN_ID, vec![vec![]]);
    let replies = [Reply::Taken(0, vec![]), Reply::TooFar];
    let sidecar = Sidecar::start(Script { replies: replies.into(), ..Script::default() });
    let mut host = Host::start(&sidecar, &["--da", &url]);
    assert_eq!(host.wait().code(), Some(65));
    assert!(host.kill().contains("refuses a report: it is too far"));
}

//! What a reporter brings is bounded in bytes, whatever it says and however it says it.

use blocksyncd::api::client::{Client, ClientError, DenialReason, ReportResult, Reporter};
use blocksyncd::api::{ReportedAs, ReportedSighting};
use blocksyncd::block::{Hash, Height};
use blocksyncd::sync::DaPosition;
use bytes::Bytes;
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use super::api::blocksync_capnp as wire;
use super::stub::{BLOCKS, MAX_BLOCK, Sidecar};
use super::{ALL, open, run};

fn sighting(height: u64, what: ReportedAs) -> ReportedSighting {
    let position = DaPosition { height, index: 1 };
    ReportedSighting { position, height: Height::new(height), what }
}

async fn reporter(sidecar: &Sidecar) -> Reporter {
    open(sidecar, ALL).await.reporter.unwrap()
}

/// Another implementation's reporter, with manners of its own.
async fn other_reporter(sidecar: &Sidecar) -> wire::da_reporter::Client {
    let (reader, writer) = tokio::net::UnixStream::connect(&sidecar.socket).await.unwrap().into_split();
    let network =
        VatNetwork::new(reader.compat(), writer.compat_write(), Side::Client, capnp::message::ReaderOptions::default());
    let mut rpc = RpcSystem::new(Box::new(network), None);
    let root: wire::block_sync::Client = rpc.bootstrap(Side::Server);
    tokio::task::spawn_local(rpc);
    let mut open = root.open_request();
    let mut hello = open.get().init_hello();
    hello.set_schema_revision(wire::SCHEMA_REVISION);
    hello.set_want_reporter(true);
    let opened = open.send().promise.await.unwrap();
    let wire::open_result::Which::Granted(granted) = opened.get().unwrap().get_result().unwrap().which().unwrap()
    else {
        panic!("it is granted");
    };
    granted.unwrap().get_reporter().unwrap()
}

#[track_caller]
fn refused(result: ReportResult, reason: DenialReason, at: Option<DaPosition>) {
    let ReportResult::Refused(denial) = result else { panic!("not refused: {result:?}") };
    assert_eq!((denial.reason, denial.at), (reason, at), "{}", denial.why);
}

#[test]
fn a_name_that_is_too_long_is_refused_with_its_place() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let reporter = reporter(&sidecar).await;
        let named = |bytes: usize| sighting(7, ReportedAs::HostId(Bytes::from(vec![1; bytes])));
        for bytes in [65, 64 << 10] {
            let result = reporter.report(0, 9, &[named(64), named(bytes)]).await.unwrap();
            refused(result, DenialReason::NameTooLong, Some(named(1).position));
        }
        assert!(sidecar.reports.borrow().is_empty(), "nothing of a refused report is passed on");
        let taken = reporter.report(0, 9, &[named(64)]).await.unwrap();
        assert!(matches!(taken, ReportResult::Taken(_)), "{taken:?}");
        assert_eq!(*sidecar.reports.borrow(), [named(64)]);
    });
}

#[test]
fn a_report_that_brings_too_much_is_refused_and_nothing_of_it_is_kept() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let limits = Client::connect(&sidecar.socket).await.unwrap().info().await.unwrap().limits;
        assert!(limits.max_report_bytes < limits.max_message_bytes);
        let reporter = other_reporter(&sidecar).await;
        // Each alone is nothing; in memory they are too many.
        let too_many = u32::try_from(limits.max_report_bytes / 160 + 1).unwrap();
        for (count, fits) in [(too_many, false), (too_many / 2, true)] {
            let mut report = reporter.report_request();
            report.get().set_scanned_through(9);
            let mut list = report.get().init_sightings(count);
            for index in 0..count {
                let mut sighting = list.reborrow().get(index);
                sighting.set_da_height(9);
                sighting.set_height(1);
                sighting.init_what().set_signed_block(&[]);
            }
            let answer = report.send().promise.await.unwrap();
            let result = answer.get().unwrap().get_result().unwrap();
            match result.which().unwrap() {
                wire::report_result::Which::Taken(_) => assert!(fits),
                wire::report_result::Which::Refused(refusal) => {
                    assert!(!fits);
                    let refusal = refusal.unwrap();
                    assert_eq!(refusal.get_reason(), Ok(wire::RefusalReason::TooLarge));
                    assert!(refusal.get_why().unwrap().to_str().unwrap().contains("report less at a time"));
                }
                wire::report_result::Which::OutOfOrder(_) => panic!("it is in order"),
            }
        }
        assert_eq!(u32::try_from(sidecar.reports.borrow().len()), Ok(too_many / 2));
        // Our own client does not even try.
        let ours = self::reporter(&sidecar).await;
        let digests = vec![sighting(1, ReportedAs::Digest(Hash::of(b""))); too_many as usize];
        assert!(matches!(ours.report(0, 9, &digests).await, Err(ClientError::Invalid(_))));
        let (first, rest) = ours.portion(&digests);
        assert!(!first.is_empty() && !rest.is_empty());
        assert!(matches!(ours.report(0, 9, first).await.unwrap(), ReportResult::Taken(_)));
    });
}

#[test]
fn a_large_block_on_da_is_given_in_pieces() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let reporter = reporter(&sidecar).await;
        // More than this node takes of its peers, and not more than the chain allows.
        let mut random = fastrand::Rng::with_seed(5);
        let bytes: Bytes = (0..BLOCKS.of_chain).map(|_| random.u8(..)).collect();
        assert!(bytes.len() > MAX_BLOCK);
        let large = ReportedSighting { height: None, ..sighting(3, ReportedAs::SignedBlock(bytes)) };
        assert!(!reporter.fits(&large));
        assert!(matches!(reporter.report(2, 3, std::slice::from_ref(&large)).await, Err(ClientError::Invalid(_))));
        assert!(matches!(reporter.give(&large).await.unwrap(), ReportResult::Taken(_)));
        assert_eq!(*sidecar.reports.borrow(), std::slice::from_ref(&large));
        let larger = Bytes::from(vec![0; BLOCKS.of_chain + 1]);
        let larger = ReportedSighting { what: ReportedAs::SignedBlock(larger), ..large.clone() };
        refused(reporter.give(&larger).await.unwrap(), DenialReason::TooLarge, Some(large.position));
    });
}

/// Begins an upload of so many bytes; `None` when there is no room.
async fn begin(reporter: &wire::da_reporter::Client, bytes: usize) -> Option<wire::sighting_upload::Client> {
    let mut begin = reporter.upload_request();
    begin.get().set_bytes(bytes as u64);
    let mut place = begin.get().init_sighting();
    place.set_da_height(4);
    place.init_what().set_signed_block(&[]);
    let answer = begin.send().promise.await.unwrap();
    match answer.get().unwrap().get_result().unwrap().which().unwrap() {
        wire::upload_sighting_result::Which::Upload(upload) => Some(upload.unwrap()),
        wire::upload_sighting_result::Which::Overloaded(_) => None,
        wire::upload_sighting_result::Which::Refused(refusal) => panic!("{:?}", refusal.unwrap().get_why()),
    }
}

async fn write(upload: &wire::sighting_upload::Client, offset: u64, data: &[u8]) -> Result<u64, capnp::Error> {
    let mut write = upload.write_request();
    write.get().set_offset(offset);
    write.get().set_data(data);
    Ok(write.send().promise.await?.get()?.get_received())
}

#[test]
fn an_upload_is_whole_and_in_order_and_holds_its_room_until_it_is_dropped_or_fenced() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let reporter = other_reporter(&sidecar).await;
        let upload = begin(&reporter, 10).await.unwrap();
        assert_eq!(write(&upload, 0, b"01234").await.unwrap(), 5);
        for (offset, data) in [(0, &b"01234"[..]), (6, b"6"), (5, b"567890")] {
            assert!(write(&upload, offset, data).await.is_err(), "{offset} {data:?}");
        }
        assert!(upload.commit_request().send().promise.await.is_err(), "half of it is missing");
        assert_eq!(write(&upload, 5, b"56789").await.unwrap(), 10);
        upload.commit_request().send().promise.await.unwrap();
        assert!(upload.commit_request().send().promise.await.is_err(), "once is enough");
        let bytes = ReportedAs::SignedBlock(Bytes::from_static(b"0123456789"));
        assert_eq!(sidecar.reports.borrow()[0].what, bytes);

        let mut held = Vec::new();
        while let Some(upload) = begin(&reporter, BLOCKS.of_chain).await {
            held.push(upload);
        }
        assert!((1..=2).contains(&held.len()), "{}", held.len());
        held.pop();
        // To drop it is a message of its own, which comes before the next call.
        held.push(begin(&reporter, BLOCKS.of_chain).await.expect("what was dropped has made room"));
        let newer = other_reporter(&sidecar).await;
        begin(&newer, BLOCKS.of_chain).await.expect("what nobody can complete any more has made room");
        let fenced = write(&held[0], 0, b"x").await.unwrap_err();
        assert_eq!(fenced.kind, capnp::ErrorKind::Disconnected);
    });
}

#[test]
fn what_a_report_cannot_mean_ends_the_call_and_nothing_else() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let reporter = other_reporter(&sidecar).await;
        for bytes in [0, 31, 33] {
            let mut report = reporter.report_request();
            let mut sighting = report.get().init_sightings(1).get(0);
            sighting.set_da_height(1);
            sighting.set_height(1);
            sighting.init_what().set_digest(&vec![1; bytes]);
            let answer = report.send().promise.await;
            assert_eq!(answer.map(|_| ()).unwrap_err().kind, capnp::ErrorKind::Failed, "a digest of {bytes} bytes");
        }
        let mut report = reporter.report_request();
        let mut sighting = report.get().init_sightings(1).get(0);
        sighting.set_da_height(1);
        sighting.init_what().set_digest(&[1; 32]);
        assert!(report.send().promise.await.is_err(), "a digest of no height");
        let position = reporter.position_request().send().promise.await.unwrap();
        assert_eq!(position.get().unwrap().get_scanned_through(), 0);
    });
}

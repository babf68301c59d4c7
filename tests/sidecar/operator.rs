//! What an operator sees and decides, with the program that operators have.

use blocksyncd::api::ReportedAs;
use blocksyncd::block::{BlockId, Hash};
use serde_json::Value;

use super::host::{Host, time_of};
use super::place::{Place, SEQUENCER, Signed, sign};
use super::process::Sidecar;
use super::{height, hosts};

/// Gives an order, which is carried out.
#[track_caller]
fn order(sidecar: &Sidecar, args: &[&str]) {
    let ended = sidecar.ctl(args);
    assert_eq!((ended.code, &ended.stdout[..]), (Some(0), "done\n"), "{ended:?}");
}

/// Lets the sidecar's DA have a second block that is not its own, though signed with the same key.
async fn diverge(place: &Place, host: &Host, ours: &[BlockId]) -> Signed {
    let second = sign(&place.proposer(), Some(ours[0]), time_of(height(2)), b"DA's second block");
    let seen = [
        (height(1), ReportedAs::Digest(Hash::of(&host.bytes_of(ours[0]).await))),
        (height(2), ReportedAs::SignedBlock(second.bytes.clone())),
        (height(2), ReportedAs::Digest(Hash::of(&host.bytes_of(ours[1]).await))),
    ];
    host.report(1, &seen).await;
    second
}

#[test]
fn a_veto_is_lifted() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let chain = a.publish_first(3).await;
        b.until_soft(3).await;
        b.observer().reject(chain[1], "bad state root").await.unwrap();
        b.until("the rewind", |ledger| ledger.retracts == [1]).await;
        let status = full.ctl(&["status"]).stdout;
        assert!(status.contains(&format!("VETOED by the host    {}", chain[1])), "{status}");

        order(&full, &["lift-veto"]);
        b.until_soft(3).await;
        assert_eq!((&b.ledger.chain, &b.ledger.retracts[..]), (&chain, &[1][..]));
        assert!(!full.ctl(&["status"]).stdout.contains("VETOED"));
        // To lift what is not there changes nothing.
        order(&full, &["lift-veto"]);
    });
}

#[test]
fn what_the_key_signed_last_is_asserted() {
    let place = Place::new();
    let guard = place.home(SEQUENCER).join("proposer.key.guard");
    let sequencer = place.sequencer(&[]);
    let chain = hosts(async { Host::publisher(&sequencer).await.publish_chain(None, 2).await });
    let said = |block: &Signed| block.id.to_string();
    let publish = |sidecar: &Sidecar| sidecar.ctl(&["publish", "/dev/null"]);

    // A guard that is sound needs nobody's word.
    sequencer.ctl(&["assert-signed", &said(&chain[0])]).refused(65, &["refused", "the guard is sound"]);
    sequencer.ctl(&["assert-signed", "none"]).refused(65, &["the guard is sound", &said(&chain[1])]);
    order(&sequencer, &["assert-signed", &said(&chain[1])]);
    sequencer.stop();

    // One that is lost does, once.
    std::fs::remove_file(&guard).unwrap();
    let sequencer = place.sequencer(&[]);
    publish(&sequencer).refused(69, &["not ready", "the guard file is missing or damaged", "ctl assert-signed"]);
    order(&sequencer, &["assert-signed", &said(&chain[1])]);
    assert_eq!(sequencer.ask(&["publish", "/dev/null"])["id"]["height"], 3);
    sequencer.stop();
    let sequencer = place.sequencer(&[]);
    assert_eq!(sequencer.ask(&["publish", "/dev/null"])["id"]["height"], 4);
    sequencer.stop();

    // So does one that knows of blocks that nobody has any more.
    std::fs::remove_dir_all(place.store(SEQUENCER)).unwrap();
    let sequencer = place.sequencer(&[]);
    publish(&sequencer).refused(69, &["not ready", "signed up to 4/", "ctl assert-signed"]);
    order(&sequencer, &["assert-signed", "none"]);
    assert_eq!(sequencer.ask(&["publish", "/dev/null"])["id"]["height"], 1);
    sequencer.stop();
}

#[test]
fn a_branch_is_abandoned() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let ours = a.publish_first(3).await;
        a.until_soft(3).await;
        let second = diverge(&place, &a, &ours).await;
        a.until_status("a halt", |status| status.halt.is_some()).await;
        let status = sequencer.ctl(&["status"]).stdout;
        assert!(status.contains("HALTED") && status.contains(&second.id.hash.to_string()), "{status}");
        sequencer.ctl(&["publish", "/dev/null"]).refused(69, &["halted", "abandon-branch"]);

        let abandon = |id: BlockId| sequencer.ctl(&["abandon-branch", &id.to_string()]);
        abandon(ours[2]).refused(65, &["refused"]);
        order(&sequencer, &["abandon-branch", &ours[1].to_string()]);
        a.until_hard(2).await;
        assert_eq!((&a.ledger.chain[..], &a.ledger.retracts[..]), (&[ours[0], second.id][..], &[1][..]));
        abandon(ours[1]).refused(65, &["refused"]);
        assert!(!sequencer.ctl(&["status"]).stdout.contains("HALTED"));
        assert_eq!(sequencer.ask(&["publish", "/dev/null"])["id"]["height"], 3);
    });
}

/// The keys of a JSON object, and of those in it, in the order of the alphabet.
fn keys(value: &Value) -> String {
    let Value::Object(object) = value else { return String::new() };
    let mut inner: Vec<_> = object.iter().map(|(key, value)| format!("{key}{}", keys(value))).collect();
    inner.sort();
    format!("{{{}}}", inner.join(" "))
}

#[test]
fn scripts_find_the_same_keys_in_every_version() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    let published = sequencer.ask(&["publish", "/dev/null", "--time", "1000000000"]);
    assert_eq!(keys(&published), "{durability id{hash height} result signedBlockBytes}");
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        b.until_soft(1).await;
        let second = a.publish(b.ledger.tip(), "second").await.id;
        b.until_soft(2).await;
        let ours = [b.ledger.at(1), second];
        diverge(&place, &b, &ours).await;
        b.until_hard(2).await;
    });

    let heads = "{epoch hard{hash height} scannedThrough soft{hash height} tail target}";
    let info = format!(
        "{{chainId daEvidence durability features heads{heads} initialHeight limits{{maxBlockBytes maxCalls maxEvents maxInlineBytes \
         maxMessageBytes maxReportBytes maxWaitMs}} maxBlockBytes peerId phase proposer schemaRevision storeId version}}"
    );
    let block = "hostId id{hash height} inclusion{basis daHeight index} origin parentHash payloadBytes proposer signature \
                 timeUnixNanos";
    let side = "{hash header signature}";
    for (verb, wanted) in [
        (&["info"][..], info.clone()),
        (&["health"], format!("{{heads{heads} phase}}")),
        (
            &["status"],
            format!(
                "{{aheadOfClock awaitsSigner backfills belowFloor floor forked halt hardWaitsFor heldBlocks historyUnavailable info{info} listen lost \
                 lostWords lowestPassedOver maxBytes notReady openRequests passedOver peers pendingSightings pruneUnconfirmed \
                 pruningWaitsFor received{{da gossip published range}} retainBlocks sessions storageFull storedBytes streams \
                 unknownProposer uptimeMs vetoed wanted}}"
            ),
        ),
        (&["peers"], "{address agent ban{badSignatures bans} blocks bytes connected connectedMs known lastOffence latencyUs outbound \
             peerId persistent selection{expectedWaitUs failures restMs}}"
                .to_owned()),
        (&["get", "2"], format!("{{header {block}}}")),
        (&["schedule"], "{fromHeight proposer}".to_owned()),
        (&["evidence"], format!("{{first{side} height id second{side}}}")),
        (&["lift-veto"], "{done}".to_owned()),
        (&["checkpoint"], "{daHeight id{hash height} syncFrom}".to_owned()),
    ] {
        assert_eq!(keys(&full.ask(verb)), wanted, "{verb:?}");
    }
    let tail = full.ctl(&["--json", "tail", "--from", "genesis", "--count", "4"]);
    let events: Vec<Value> = tail.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| keys(&events.iter().find(|event| !event[kind].is_null()).unwrap()[kind]);
    assert_eq!(of("soft"), format!("{{header {}}}", block.replace(" inclusion{basis daHeight index}", "")));
    assert_eq!(of("hard"), "{basis daHeight id{hash height} index}");
}

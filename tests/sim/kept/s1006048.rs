//! Seed 1006048 of drawing 1. Only DA has the history, and a node that catches up through it names one wanted block in each answer.

use super::words::*;

fn plan() -> Plan {
    Plan {
        drawing: 1,
        seed: 1006048,
        honest: 4,
        keeps: vec![
            Keeps { retain_blocks: None, max_bytes: None, trusts_one_of: None, backfill: false, ..Keeps::default() },
            Keeps {
                retain_blocks: Some(at_least_one(6)),
                max_bytes: None,
                trusts_one_of: Some(1),
                backfill: true,
                ..Keeps::default()
            },
            Keeps { retain_blocks: None, max_bytes: None, trusts_one_of: None, backfill: true, ..Keeps::default() },
            Keeps {
                retain_blocks: None,
                max_bytes: Some(at_least_one(11938)),
                trusts_one_of: None,
                backfill: true,
                ..Keeps::default()
            },
        ],
        adversaries: vec![],
        crowd_around: None,
        adversaries_persist: false,
        twin: None,
        policy: Policy::FollowDa,
        operator_abandons: true,
        initial_height: 1,
        faults_last: Duration::from_millis(23249),
        block_time: Duration::from_millis(197),
        da_block_time: Duration::from_millis(2860),
        payload_bytes: 20,
        max_block_bytes: 4096,
        limits: Limits {
            pending_blocks: 59,
            pending_bytes: 37290,
            commit_bytes: 40589,
            requests_per_peer: 1,
            requests: 16,
            range_bytes: 3047,
            publish_queue: 4,
            sightings: 330,
            sighting_bytes: 112588,
            evidence: 4,
            consumers: 7,
            exclusions: 8,
            remembered_peers: 16,
            ..Limits::default()
        },
        timing: Timing {
            head_interval: Duration::from_millis(1457),
            request_timeout: Duration::from_millis(3612),
            gossip_grace: Duration::from_millis(248),
            hedge_after: Duration::from_millis(751),
            backoff_min: Duration::from_millis(352),
            backoff_max: Duration::from_millis(3865),
            target_patience: Duration::from_millis(6986),
            ban_min: Duration::from_millis(5771),
            ban_max: Duration::from_millis(55474),
            ..Timing::default()
        },
        delay: (Duration::from_secs(0), Duration::from_millis(28)),
        loss: 0.22150331575835766,
        duplicate: 0.0,
        reorder: 0.0,
        reset: 0.0,
        partial: 0.3999092130585389,
        stall: 0.0,
        partition_rate: 0.1490913285717551,
        asymmetric: true,
        disconnect_rate: 0.0,
        write: (Duration::from_millis(2), Duration::from_millis(42)),
        write_stall: 0.0,
        storage_full_rate: 0.0,
        crash_rate: 0.0,
        wipe: 0.0,
        backup: 0.0,
        loss_of_tail: 0.0,
        guard_loss: 0.0,
        drain_rate: 0.0,
        skew: Duration::from_millis(2131),
        clock_jump_rate: 0.0,
        pool: 64,
        check: Duration::from_micros(2859),
        signing: Signing::Inside,
        signer_fails: 0.1369067016373012,
        pipeline: 3,
        host_crash_rate: 0.032452938538919035,
        host_backup: 0.04982022475684548,
        other_block: 0.0,
        republish: 0.0,
        veto_rate: 0.0,
        ack: 0.43507108447332116,
        extend_rate: 0.0946913048756473,
        report_by: ReportBy::Hash,
        report_late: 0.50160395395293,
        report_repeat: 0.0,
        da_outage: 0.028197781508477005,
        da_delay: Duration::from_secs(0),
        da_repost: 0.0,
        da_junk: 0.5859521663274274,
        report_junk: 0.47218518969396434,
        without_da: false,
        ..Plan::quiet()
    }
}

#[test]
fn holds() {
    check("s1006048", &plan(), &[1006048, 13, 34, 40, 46, 50]);
}

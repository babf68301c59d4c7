//! Seed 1002776 of drawing 1. What lies below the tail is never fetched, while a peer serves the longer branch that lost on DA.

use super::words::*;

fn plan() -> Plan {
    Plan {
        drawing: 1,
        seed: 1002776,
        honest: 4,
        keeps: vec![
            Keeps { retain_blocks: None, max_bytes: None, trusts_one_of: None, backfill: false, ..Keeps::default() },
            Keeps { retain_blocks: None, max_bytes: None, trusts_one_of: Some(20), backfill: true, ..Keeps::default() },
            Keeps {
                retain_blocks: None,
                max_bytes: None,
                trusts_one_of: Some(12),
                backfill: false,
                ..Keeps::default()
            },
            Keeps {
                retain_blocks: None,
                max_bytes: None,
                trusts_one_of: Some(17),
                backfill: false,
                ..Keeps::default()
            },
        ],
        adversaries: vec![Behaviour::ShortPrefix, Behaviour::Stale, Behaviour::ForgesRarely, Behaviour::StaleHead],
        crowd_around: None,
        adversaries_persist: false,
        twin: Some(Twin { fork: 11, length: 2, wins: true }),
        policy: Policy::FollowDa,
        operator_abandons: false,
        initial_height: 368,
        faults_last: Duration::from_millis(12072),
        block_time: Duration::from_millis(612),
        da_block_time: Duration::from_millis(1587),
        payload_bytes: 26,
        max_block_bytes: 4096,
        limits: Limits {
            pending_blocks: 16384,
            pending_bytes: 67108864,
            commit_bytes: 33554432,
            requests_per_peer: 44,
            requests: 512,
            range_bytes: 2796202,
            publish_queue: 64,
            sightings: 65536,
            sighting_bytes: 33554432,
            evidence: 1024,
            consumers: 256,
            exclusions: 4096,
            remembered_peers: 256,
            ..Limits::default()
        },
        timing: Timing {
            head_interval: Duration::from_millis(2459),
            request_timeout: Duration::from_millis(3099),
            gossip_grace: Duration::from_millis(43),
            hedge_after: Duration::from_millis(393),
            backoff_min: Duration::from_millis(208),
            backoff_max: Duration::from_millis(2043),
            target_patience: Duration::from_millis(9777),
            ban_min: Duration::from_millis(4906),
            ban_max: Duration::from_millis(53257),
            ..Timing::default()
        },
        delay: (Duration::from_millis(7), Duration::from_millis(80)),
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.2757940921619203,
        reset: 0.0,
        partial: 0.0,
        stall: 0.19920518526709177,
        partition_rate: 0.0,
        asymmetric: true,
        disconnect_rate: 0.0,
        write: (Duration::from_secs(0), Duration::from_millis(34)),
        write_stall: 0.0,
        storage_full_rate: 0.0,
        crash_rate: 0.0,
        wipe: 0.07226114582211955,
        backup: 0.37090298020003154,
        loss_of_tail: 0.0,
        guard_loss: 0.0,
        drain_rate: 0.021545251807995682,
        skew: Duration::from_millis(1240),
        clock_jump_rate: 0.0,
        pool: 64,
        check: Duration::from_micros(4771),
        signing: Signing::Outside,
        signer_fails: 0.22715802710947797,
        pipeline: 3,
        host_crash_rate: 0.0,
        host_backup: 0.24508977558102377,
        other_block: 0.0,
        republish: 0.0,
        veto_rate: 0.02801053271179202,
        ack: 0.41576399799069064,
        extend_rate: 0.0,
        report_by: ReportBy::Hash,
        report_late: 0.0,
        report_repeat: 0.0,
        da_outage: 0.3865895063834888,
        da_delay: Duration::from_millis(5171),
        da_repost: 0.0,
        da_junk: 0.2535844510781424,
        report_junk: 0.8732384567668865,
        without_da: false,
        ..Plan::quiet()
    }
}

#[test]
fn holds() {
    check("s1002776", &plan(), &[1002776, 0, 1, 7, 14, 21]);
}

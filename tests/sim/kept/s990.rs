//! Seed 990 of drawing 1. A node with small budgets catches up too slowly: the pruned neighbour, which costs least, is asked first for every next range,
//! and has none of them.

use super::words::*;

fn plan() -> Plan {
    Plan {
        drawing: 1,
        seed: 990,
        honest: 5,
        keeps: vec![
            Keeps { retain_blocks: None, max_bytes: None, trusts_one_of: None, backfill: false, ..Keeps::default() },
            Keeps {
                retain_blocks: Some(at_least_one(1)),
                max_bytes: None,
                trusts_one_of: None,
                backfill: true,
                ..Keeps::default()
            },
            Keeps {
                retain_blocks: None,
                max_bytes: Some(at_least_one(17041)),
                trusts_one_of: Some(11),
                backfill: true,
                ..Keeps::default()
            },
            Keeps {
                retain_blocks: Some(at_least_one(5)),
                max_bytes: Some(at_least_one(2851)),
                trusts_one_of: Some(16),
                backfill: true,
                ..Keeps::default()
            },
            Keeps { retain_blocks: None, max_bytes: None, trusts_one_of: None, backfill: false, ..Keeps::default() },
        ],
        adversaries: vec![],
        crowd_around: None,
        adversaries_persist: false,
        twin: None,
        policy: Policy::FollowDa,
        operator_abandons: false,
        initial_height: 1,
        faults_last: Duration::from_millis(23883),
        block_time: Duration::from_millis(165),
        da_block_time: Duration::from_millis(1600),
        payload_bytes: 55,
        max_block_bytes: 131072,
        limits: Limits {
            pending_blocks: 63,
            pending_bytes: 63843,
            commit_bytes: 7401,
            requests_per_peer: 4,
            requests: 16,
            range_bytes: 862,
            publish_queue: 3,
            sightings: 281,
            sighting_bytes: 108621,
            evidence: 6,
            consumers: 6,
            exclusions: 8,
            remembered_peers: 14,
            ..Limits::default()
        },
        timing: Timing {
            head_interval: Duration::from_millis(4576),
            request_timeout: Duration::from_millis(2123),
            gossip_grace: Duration::from_millis(40),
            hedge_after: Duration::from_millis(1131),
            backoff_min: Duration::from_millis(442),
            backoff_max: Duration::from_millis(2749),
            target_patience: Duration::from_millis(7403),
            ban_min: Duration::from_millis(4503),
            ban_max: Duration::from_millis(30877),
            ..Timing::default()
        },
        delay: (Duration::from_millis(19), Duration::from_millis(508)),
        loss: 0.08816536912925366,
        duplicate: 0.0,
        reorder: 0.2673842334872747,
        reset: 0.2879380284966215,
        partial: 0.2589648643273818,
        stall: 0.0,
        partition_rate: 0.003636089623950447,
        asymmetric: true,
        disconnect_rate: 0.0,
        write: (Duration::from_millis(1), Duration::from_millis(3)),
        write_stall: 0.0,
        storage_full_rate: 0.0,
        crash_rate: 0.0,
        wipe: 0.0,
        backup: 0.08254502451501176,
        loss_of_tail: 0.29624298172158264,
        guard_loss: 0.0,
        drain_rate: 0.0,
        skew: Duration::from_secs(0),
        clock_jump_rate: 0.0,
        pool: 64,
        check: Duration::from_micros(604),
        signing: Signing::Inside,
        signer_fails: 0.0,
        pipeline: 3,
        host_crash_rate: 0.0,
        host_backup: 0.0,
        other_block: 0.031363295896435196,
        republish: 0.09449621634021164,
        veto_rate: 0.0,
        ack: 0.2304269467032232,
        extend_rate: 0.015793012907965545,
        report_by: ReportBy::PayloadHash,
        report_late: 0.21694556357946973,
        report_repeat: 0.0,
        da_outage: 0.199356286906511,
        da_delay: Duration::from_secs(0),
        da_repost: 0.0758891204364768,
        da_junk: 0.0,
        report_junk: 0.5339503728811039,
        without_da: false,
        ..Plan::quiet()
    }
}

#[test]
fn holds() {
    check("s990", &plan(), &[990, 0, 2, 3, 5, 6]);
}

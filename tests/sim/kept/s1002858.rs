//! Seed 1002858 of drawing 1. Nobody who is asked has what a node needs, and it does not say so: one neighbour stores nothing, or answers no range.

use super::words::*;

fn plan() -> Plan {
    Plan {
        drawing: 1,
        seed: 1002858,
        honest: 5,
        keeps: vec![
            Keeps { retain_blocks: None, max_bytes: None, trusts_one_of: None, backfill: false, ..Keeps::default() },
            Keeps {
                retain_blocks: Some(at_least_one(21)),
                max_bytes: None,
                trusts_one_of: Some(10),
                backfill: false,
                ..Keeps::default()
            },
            Keeps {
                retain_blocks: Some(at_least_one(24)),
                max_bytes: None,
                trusts_one_of: None,
                backfill: true,
                ..Keeps::default()
            },
            Keeps {
                retain_blocks: Some(at_least_one(9)),
                max_bytes: None,
                trusts_one_of: Some(18),
                backfill: true,
                ..Keeps::default()
            },
            Keeps {
                retain_blocks: Some(at_least_one(26)),
                max_bytes: None,
                trusts_one_of: None,
                backfill: false,
                ..Keeps::default()
            },
        ],
        adversaries: vec![],
        crowd_around: None,
        adversaries_persist: true,
        twin: None,
        policy: Policy::Halt,
        operator_abandons: true,
        initial_height: 1,
        faults_last: Duration::from_millis(37588),
        block_time: Duration::from_millis(554),
        da_block_time: Duration::from_millis(2765),
        payload_bytes: 50,
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
            head_interval: Duration::from_millis(1113),
            request_timeout: Duration::from_millis(2659),
            gossip_grace: Duration::from_millis(243),
            hedge_after: Duration::from_millis(1408),
            backoff_min: Duration::from_millis(159),
            backoff_max: Duration::from_millis(3068),
            target_patience: Duration::from_millis(10472),
            ban_min: Duration::from_millis(16414),
            ban_max: Duration::from_millis(104445),
            ..Timing::default()
        },
        delay: (Duration::from_millis(7), Duration::from_millis(216)),
        loss: 0.0,
        duplicate: 0.2561764867482209,
        reorder: 0.09666637837413455,
        reset: 0.2559234461507656,
        partial: 0.20088277023850548,
        stall: 0.0,
        partition_rate: 0.0,
        asymmetric: true,
        disconnect_rate: 0.0,
        write: (Duration::from_millis(4), Duration::from_millis(20)),
        write_stall: 0.0,
        storage_full_rate: 0.0,
        crash_rate: 0.13196019013818835,
        wipe: 0.012196155221778322,
        backup: 0.0,
        loss_of_tail: 0.0,
        guard_loss: 0.0,
        drain_rate: 0.0,
        skew: Duration::from_secs(0),
        clock_jump_rate: 0.0,
        pool: 64,
        check: Duration::from_micros(78),
        signing: Signing::Inside,
        signer_fails: 0.10310799310246298,
        pipeline: 1,
        host_crash_rate: 0.0,
        host_backup: 0.0,
        other_block: 0.1651239587770715,
        republish: 0.0,
        veto_rate: 0.015847417147686064,
        ack: 0.0,
        extend_rate: 0.0,
        report_by: ReportBy::HostId,
        report_late: 0.24225692360689915,
        report_repeat: 0.0070862884909013105,
        da_outage: 0.26664441905568137,
        da_delay: Duration::from_millis(1317),
        da_repost: 0.12417002183607835,
        da_junk: 0.14718614118797105,
        report_junk: 0.0,
        without_da: false,
        ..Plan::quiet()
    }
}

#[test]
fn holds() {
    check("s1002858", &plan(), &[1002858, 90, 395, 499, 651, 755]);
}

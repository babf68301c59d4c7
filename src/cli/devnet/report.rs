//! What came of a devnet run: the object that `--json` prints, and the judgement that the exit code follows.

use serde::Serialize;

use super::super::mock_execution::tell::{Progress, ReceivedCounts};
use super::super::mock_execution::{HostRole, Percentiles, Violation};

/// The JSON object; its shape is a promise to scripts.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub blocks: u64,
    pub nodes: Vec<NodeReport>,
    pub violations: Vec<NodeViolation>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    pub name: String,
    #[serde(serialize_with = "role")]
    pub role: HostRole,
    pub soft: u64,
    pub hard: u64,
    /// After its newest block.
    pub state_hash: String,
    pub received: ReceivedCounts,
    /// From the publish to the soft event at this node's host; `null` for the sequencer.
    pub soft_latency_ms: Option<Percentiles>,
    pub hard_latency_ms: Option<Percentiles>,
}

/// A violation, and whose host saw it.
#[derive(Clone, Debug, Serialize)]
pub struct NodeViolation {
    pub node: String,
    #[serde(flatten)]
    pub violation: Violation,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn role<S: serde::Serializer>(role: &HostRole, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.name())
}

impl NodeReport {
    pub fn new(name: &str, role: HostRole, progress: &Progress) -> Self {
        Self {
            name: name.to_owned(),
            role,
            soft: progress.soft,
            hard: progress.hard,
            state_hash: progress.state_hash.clone(),
            received: progress.received,
            soft_latency_ms: progress.soft_latency_ms,
            hard_latency_ms: progress.hard_latency_ms,
        }
    }
}

impl Report {
    /// Everything that is not as it should be, one sentence each; empty: the run passed.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self
            .violations
            .iter()
            .map(|NodeViolation { node, violation }| format!("{node}: its sidecar broke the contract: {violation}"))
            .collect();
        for node in &self.nodes {
            if node.hard < self.blocks {
                problems.push(format!("{}: height {} of {} is hard", node.name, node.hard, self.blocks));
            }
            if node.role == HostRole::Full && node.received.gossip == 0 {
                problems.push(format!("{}: no block came by gossip", node.name));
            }
            if node.role == HostRole::Full && node.received.da > 0 {
                problems.push(format!(
                    "{}: {} blocks came by DA, where only ids are reported",
                    node.name, node.received.da
                ));
            }
        }
        if let Some(odd) = self.nodes.iter().find(|node| node.state_hash != self.nodes[0].state_hash) {
            problems.push(format!("{} and {} have different state hashes", self.nodes[0].name, odd.name));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::mock_execution::Rule;
    use super::*;

    fn node(name: &str, role: HostRole) -> NodeReport {
        let received = match role {
            HostRole::Sequencer => ReceivedCounts { published: 9, ..ReceivedCounts::default() },
            HostRole::Full => ReceivedCounts { gossip: 8, range: 1, ..ReceivedCounts::default() },
        };
        let latency = Some(Percentiles { p50: 1.5, p99: 2.0 });
        NodeReport {
            name: name.into(),
            role,
            soft: 9,
            hard: 9,
            state_hash: "ab".into(),
            received,
            soft_latency_ms: latency.filter(|_| role == HostRole::Full),
            hard_latency_ms: latency,
        }
    }

    fn report() -> Report {
        let nodes = vec![
            node("sequencer", HostRole::Sequencer),
            node("full-1", HostRole::Full),
            node("full-2", HostRole::Full),
        ];
        Report { blocks: 9, nodes, violations: vec![] }
    }

    #[test]
    fn a_run_without_fault_passes() {
        assert_eq!(report().problems(), [""; 0]);
    }

    #[test]
    fn each_fault_fails_the_run() {
        type Flaw = (&'static str, fn(&mut Report));
        let faults: [Flaw; 6] = [
            ("behind", |report| report.nodes[0].hard = 8),
            ("a full node behind", |report| report.nodes[2].hard = 0),
            ("other state", |report| report.nodes[1].state_hash = "cd".into()),
            ("no gossip", |report| report.nodes[1].received.gossip = 0),
            ("by DA", |report| report.nodes[2].received.da = 1),
            ("violation", |report| {
                let violation = Violation::new(Rule::Gap, 3, "x");
                report.violations.push(NodeViolation { node: "full-1".into(), violation });
            }),
        ];
        for (name, fault) in faults {
            let mut report = report();
            fault(&mut report);
            assert_eq!(report.problems().len(), 1, "{name}: {:?}", report.problems());
        }
    }

    #[test]
    fn the_json_has_the_promised_shape() {
        let mut report = report();
        report.nodes.truncate(2);
        let violation = Violation::new(Rule::HardChanged, 3, "x");
        report.violations.push(NodeViolation { node: "full-1".into(), violation });
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            concat!(
                r#"{"blocks":9,"nodes":["#,
                r#"{"name":"sequencer","role":"sequencer","soft":9,"hard":9,"state_hash":"ab","#,
                r#""received":{"published":9,"gossip":0,"range":0,"da":0},"#,
                r#""soft_latency_ms":null,"hard_latency_ms":{"p50":1.5,"p99":2.0}},"#,
                r#"{"name":"full-1","role":"full","soft":9,"hard":9,"state_hash":"ab","#,
                r#""received":{"published":0,"gossip":8,"range":1,"da":0},"#,
                r#""soft_latency_ms":{"p50":1.5,"p99":2.0},"hard_latency_ms":{"p50":1.5,"p99":2.0}}],"#,
                r#""violations":[{"node":"full-1","rule":"hard_changed","height":3,"detail":"x"}]}"#,
            )
        );
    }
}

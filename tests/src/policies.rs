//! Policies and peers that several suites use.

use peergate_host::pki::Leaf;
use serde_json::{Value, json};

/// The example of Vespa's mTLS guide: monitoring from us-east, and the cluster's own nodes.
pub fn vespa_example() -> Value {
    json!({"authorized-peers": [
        {
            "description": "Backend monitoring service access",
            "required-credentials": [
                {"field": "CN", "must-match": "vespa-monitoring.example.com"},
                {"field": "SAN_DNS", "must-match": "*.us-east-*.monitor.example.com"},
            ],
        },
        {
            "description": "Cluster-internal node P2P access",
            "required-credentials": [{"field": "SAN_DNS", "must-match": "*.mycluster.vespa.example.com"}],
        },
    ]})
}

/// A cluster node: admitted by [`vespa_example`].
pub fn node() -> Leaf {
    Leaf::new().cn("node1").dns("node1.mycluster.vespa.example.com")
}

/// A certificate of the same authority with other names: refused by [`vespa_example`].
pub fn stranger() -> Leaf {
    Leaf::new().cn("stranger").dns("stranger.other.example.com")
}

/// Six hundred DNS names, of which only the last is admitted by [`vespa_example`].
pub fn many_names() -> Leaf {
    let leaf = (0..599).fold(Leaf::new(), |leaf, i| leaf.dns(&format!("name{i}.other.example.com")));
    leaf.dns("node600.mycluster.vespa.example.com")
}

/// The second of two DNS names is admitted by [`vespa_example`].
pub fn second_name() -> Leaf {
    Leaf::new().dns("other.example.com").dns("node2.mycluster.vespa.example.com")
}

/// What the filter is configured with for peers under `policy`.
pub fn peer_endpoint(policy: &Value) -> Value {
    json!({"endpoint": "peer", "policy": policy})
}

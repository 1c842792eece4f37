use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::config::Limits;

const NEEDS: Needs = Needs { workers: 2, listeners: 1, calls: false };

fn limits(settings: &[(&str, u32)]) -> Limits {
    let mut limits = Limits::default();
    for (name, value) in settings {
        limits.set(name, &value.to_string()).expect("a limit");
    }
    limits
}

fn capacity(settings: &[(&str, u32)]) -> Arc<Capacity> {
    Capacity::new(&Plan::new(&limits(settings), NEEDS, u64::MAX).expect("a plan"))
}

fn client(capacity: &Arc<Capacity>, number: u8) -> Arc<Client> {
    capacity.client(ClientKey::Certificate([number; 32]))
}

#[test]
fn permits_end_at_the_limit_and_come_back() {
    let capacity = capacity(&[("upstream-connections", 2)]);
    let first = capacity.upstream_connection().expect("free");
    let second = capacity.upstream_connection().expect("free");
    assert_eq!(capacity.upstream_connection().expect_err("full"), Limit::UpstreamConnections);
    drop(first);
    let third = capacity.upstream_connection().expect("free again");
    let usage = capacity.usage()[&Limit::UpstreamConnections];
    assert_eq!(usage, Usage { limit: Some(2), used: Some(2), refused: 1 });
    drop((second, third));
    assert_eq!(capacity.usage()[&Limit::UpstreamConnections].used, Some(0));
}

#[test]
fn clients_that_take_all_they_can_get_leave_something_for_others() {
    let capacity = capacity(&[("requests", 1000)]);
    let mut held = Vec::new();
    for number in 0..4 {
        let greedy = client(&capacity, number);
        let taken: Vec<_> = std::iter::from_fn(|| greedy.request().ok()).collect();
        assert!(!taken.is_empty(), "client {number}");
        if number == 0 {
            assert_eq!(taken.len(), 750);
        }
        held.push(taken);
    }
    assert_eq!(client(&capacity, 0).request().expect_err("has its share"), Limit::RequestsPerClient);
    assert!(client(&capacity, 99).request().is_ok());
}

#[test]
fn a_client_may_have_a_fixed_limit() {
    let capacity = capacity(&[("connections-per-client", 2)]);
    let one = client(&capacity, 1);
    let held = [one.connection(), one.connection()];
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(one.connection().expect_err("has two"), Limit::ConnectionsPerClient);
    assert!(client(&capacity, 2).connection().is_ok());
    drop(held);
    assert!(one.connection().is_ok());
    assert_eq!(capacity.usage()[&Limit::Connections].used, Some(0));
}

#[test]
fn a_client_is_known_as_long_as_it_holds_something() {
    let capacity = capacity(&[]);
    let permit = client(&capacity, 1).connection().expect("free");
    assert_eq!(lock(&capacity.clients).len(), 1);
    drop(client(&capacity, 2));
    assert_eq!(lock(&capacity.clients).len(), 1);
    drop(permit);
    assert_eq!(lock(&capacity.clients).len(), 0);
}

#[test]
fn clients_without_certificate_are_known_by_their_address() {
    let key = |last| ClientKey::address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
    assert_eq!(key(1), key(1));
    assert_ne!(key(1), key(2));
}

#[test]
fn a_reload_changes_the_limits_of_what_comes() {
    let capacity = capacity(&[("requests", 10)]);
    let one = client(&capacity, 1);
    let held: Vec<_> = std::iter::from_fn(|| one.request().ok()).collect();
    capacity.set(&Plan::new(&limits(&[("requests", 2)]), NEEDS, u64::MAX).expect("a plan"));
    assert_eq!(one.request().expect_err("more than that"), Limit::Requests);
    drop(held);
    assert!(one.request().is_ok());
}

#[test]
fn defaults_fit_into_the_limit_on_open_files() {
    let full = Plan::new(&Limits::default(), NEEDS, 1 << 20).expect("a plan");
    assert_eq!((full.connections, full.requests, full.short_of), (10_000, 10_000, None));
    for open_files in [1024, 4096, 20_000] {
        let plan = Plan::new(&Limits::default(), NEEDS, open_files).expect("a plan");
        assert!(plan.open_files <= open_files, "{open_files}: {plan:?}");
        assert!(plan.open_files > open_files * 9 / 10, "{open_files}: {plan:?}");
        assert!(plan.short_of.is_some() && plan.requests < plan.upstream_connections, "{plan:?}");
    }
}

#[test]
fn what_is_configured_is_kept_and_the_rest_gets_what_is_left() {
    let plan = Plan::new(&limits(&[("connections", 10_000)]), NEEDS, 20_000).expect("a plan");
    assert_eq!(plan.connections, 10_000);
    assert!(plan.open_files <= 20_000 && plan.upstream_connections > 5_000, "{plan:?}");
}

#[test]
fn configured_limits_that_do_not_fit_are_refused_with_the_remedy() {
    for setting in ["connections", "handshakes", "upstream-connections", "requests"] {
        let error = Plan::new(&limits(&[(setting, 1024)]), NEEDS, 1024).expect_err(setting);
        let text = error.to_string();
        assert!(text.contains("the system allows 1024; raise `LimitNOFILE=`"), "{text}");
        assert!(text.contains("or lower `connections`"), "{text}");
        Plan::new(&limits(&[(setting, 1024)]), NEEDS, error.needed * 2).expect("enough");
    }
    let error = Plan::new(&Limits::default(), NEEDS, 100).expect_err("too few for anything");
    assert!(!error.to_string().contains("lower"), "{error}");
}

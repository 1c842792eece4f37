//! `/metrics`.

use std::time::SystemTime;

use super::board::{Board, State};
use super::exposition::Exposition;
use super::report::{ListenerReport, Report, unix};
use crate::capacity::{Limit, Usage};
use crate::wasm::{BUCKETS, Metric, MetricKind};

/// All numbers there are, in Prometheus' text format.
pub(super) async fn metrics(board: &Board) -> String {
    let (reports, silent) = board.reports().await;
    let mut page = Exposition::default();
    page.gauge(
        "peergate_build_info",
        "The version that runs.",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1.0,
    );
    page.gauge(
        "peergate_workers_silent",
        "Workers that do not answer; their numbers are old.",
        &[],
        silent.len() as f64,
    );
    page.gauge(
        "peergate_draining",
        "1 once the host was told to end.",
        &[],
        f64::from(u8::from(board.is_draining())),
    );
    for (limit, usage) in board.capacity().usage() {
        of_limit(&mut page, limit, usage);
    }
    of_state(&mut page, &board.state(), SystemTime::now());
    for report in &reports {
        of_worker(&mut page, report);
    }
    page.counter("peergate_log_lines_lost_total", LINES_LOST, &[], crate::log::lost());
    page.counter("peergate_audit_lines_lost_total", LINES_LOST, &[], crate::audit::lost());
    page.text()
}

fn of_limit(page: &mut Exposition, limit: Limit, usage: Usage) {
    let labels = [("limit", limit.name())];
    if let Some(most) = usage.limit {
        page.gauge("peergate_limit", "What is taken at most.", &labels, most.into());
        if limit == Limit::Connections {
            let help = "Open connections of admitted clients, at most; more are closed at once.";
            page.gauge("peergate_connections_limit", help, &[], most.into());
        }
    }
    if let Some(used) = usage.used {
        page.gauge(
            "peergate_limit_used",
            "What is taken now of what the limit is for.",
            &labels,
            used.into(),
        );
    }
    let help = "Refused, or closed to make room, because the limit was reached.";
    page.counter("peergate_limit_refused_total", help, &labels, usage.refused);
}

fn of_state(page: &mut Exposition, state: &State, now: SystemTime) {
    let time = |time: Option<SystemTime>| time.map_or(0.0, |time| unix(time) as f64);
    page.gauge(
        "peergate_reload_generation",
        "Number of the generation in use.",
        &[],
        state.generation as f64,
    );
    page.counter(
        "peergate_reload_failures_total",
        "Attempts to reload that were refused.",
        &[],
        state.failures,
    );
    page.gauge(
        "peergate_reload_last_success_timestamp_seconds",
        "When the generation in use was taken.",
        &[],
        time(state.loaded),
    );
    let attempt = state.attempt.as_ref();
    page.gauge(
        "peergate_reload_last_attempt_timestamp_seconds",
        "When files were last read.",
        &[],
        time(attempt.map(|attempt| attempt.at)),
    );
    let taken = attempt.is_none_or(|attempt| attempt.error.is_none());
    page.gauge(
        "peergate_reload_last_attempt_successful",
        "0 while the files are refused and the old generation stays in use.",
        &[],
        f64::from(u8::from(taken)),
    );
    let now = unix(now).cast_signed();
    for file in &state.expiries {
        let path = file.path.display().to_string();
        let labels = [("file", path.as_str()), ("key", file.key)];
        let left = file.not_after.saturating_sub(now);
        page.gauge(
            "peergate_certificate_expiry_seconds",
            "Until the first certificate or revocation list of the file ends.",
            &labels,
            left as f64,
        );
    }
    for mode in &state.insecure {
        page.gauge(
            "peergate_insecure_mode",
            "1 for each mode that refuses less than the rules say.",
            &[("mode", mode)],
            1.0,
        );
    }
}

fn of_worker(page: &mut Exposition, report: &Report) {
    page.counter(
        "peergate_vm_restarts_total",
        "Filter VMs given up after a trap or a deadline.",
        &[],
        report.vm_restarts,
    );
    report.listeners.iter().for_each(|listener| of_listener(page, listener));
    report.metrics.iter().for_each(|metric| of_filter(page, metric));
}

fn of_listener(page: &mut Exposition, listener: &ListenerReport) {
    let name = ("listener", &*listener.name);
    page.counter("peergate_connections_accepted_total", "Connections accepted.", &[name], listener.accepted);
    page.counter(
        "peergate_connections_over_limit_total",
        "Connections closed at once, because there were too many.",
        &[name],
        listener.over_limit,
    );
    page.gauge(
        "peergate_connections_open",
        "Open connections, handshakes included.",
        &[name],
        listener.open as f64,
    );
    for (failure, count) in &listener.failures {
        let labels = [name, ("failure", *failure)];
        page.counter(
            "peergate_handshake_failures_total",
            "Handshakes that came to nothing.",
            &labels,
            *count,
        );
    }
    for (reason, count) in &listener.refusals {
        page.counter(
            "peergate_requests_refused_total",
            "Requests refused before the filter saw them.",
            &[name, ("reason", *reason)],
            *count,
        );
    }
}

/// A filter's metric has no labels, so its name holds them: `peergate_decisions.outcome.deny.reason.no_rule_matched` becomes
/// `peergate_decisions_total{outcome="deny",reason="no_rule_matched"}`, as `stats_tags` do it for Envoy.
fn of_filter(page: &mut Exposition, metric: &Metric) {
    let mut parts = metric.name.split('.');
    let family = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let is_ours = family.starts_with("peergate_") && rest.len().is_multiple_of(2);
    let (family, labels) = match is_ours && rest.chunks(2).all(|pair| is_label(pair[0])) {
        true => (family.to_owned(), rest.chunks(2).map(|pair| (pair[0], pair[1])).collect()),
        false => ("peergate_filter".to_owned(), vec![("name", metric.name.as_str())]),
    };
    let family: String = family.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect();
    let help = "Counted by the filter.";
    // One name has one kind.
    let family = match metric.kind {
        MetricKind::Histogram if !is_ours => format!("{family}_values"),
        _ => family,
    };
    match metric.kind {
        MetricKind::Counter => page.counter(&format!("{family}_total"), help, &labels, metric.value),
        MetricKind::Gauge => page.gauge(&family, help, &labels, metric.value as f64),
        MetricKind::Histogram => {
            let buckets = BUCKETS.into_iter().zip(metric.buckets.iter().copied());
            page.histogram(&family, help, &labels, buckets, (metric.count, metric.value));
        }
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

const LINES_LOST: &str = "Lines that were not written, because the log is not read fast enough.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_filters_metrics_become_labels() {
        let mut page = Exposition::default();
        let counter = |name: &str| Metric {
            name: name.to_owned(),
            kind: MetricKind::Counter,
            value: 2,
            count: 0,
            buckets: Vec::new(),
        };
        of_filter(&mut page, &counter("peergate_decisions.outcome.deny.reason.no_rule_matched"));
        of_filter(&mut page, &counter("peergate_decisions.outcome.deny.reason.no_rule_matched"));
        of_filter(&mut page, &counter("somebody.elses.name"));
        let histogram = |name: &str| Metric {
            kind: MetricKind::Histogram,
            count: 3,
            buckets: vec![1; BUCKETS.len()],
            ..counter(name)
        };
        of_filter(&mut page, &histogram("took us"));
        of_filter(&mut page, &histogram("peergate_took_ns.outcome.allow"));
        let text = page.text();
        for line in [
            "peergate_decisions_total{outcome=\"deny\",reason=\"no_rule_matched\"} 4",
            "peergate_filter_total{name=\"somebody.elses.name\"} 2",
            "peergate_filter_values_count{name=\"took us\"} 3",
            "# TYPE peergate_took_ns histogram",
            "peergate_took_ns_bucket{outcome=\"allow\",le=\"2500\"} 1",
            "peergate_took_ns_bucket{outcome=\"allow\",le=\"+Inf\"} 3",
            "peergate_took_ns_sum{outcome=\"allow\"} 2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}

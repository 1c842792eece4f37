//! The server side of TLS: what vouches for a certificate before the filter reads it.

use super::node::{Node, Place};
use super::{Report, Rule};
use crate::render::Authentication;

const CONTEXT: &str = ".tls.v3.DownstreamTlsContext";

/// Checks the transport socket of a filter chain.
pub(super) fn check(chain: &Node, asked: Authentication, report: &mut Report<'_>) {
    let socket = chain.get("transport_socket");
    let (kind, context) = socket.map_or(("", chain), Node::typed_config);
    let Some(socket) = socket.filter(|_| kind.ends_with(CONTEXT)) else {
        let place = socket.map_or(chain.place, |it| it.place);
        report.add(
            place,
            Rule::Tls,
            "without TLS there are no certificates, and tokens can be read; \
            give the filter chain a `transport_socket` with a DownstreamTlsContext",
        );
        return;
    };
    check_version(context, report);
    if asked == Authentication::Nothing {
        return;
    }
    check_terms(context, report);
    if asked == Authentication::Verified {
        check_validation(context, socket.place, report);
    }
}

/// Whether this transport socket is another one than TLS with clients, or null.
pub(super) fn is_other(socket: &Node) -> bool {
    let (kind, _) = socket.typed_config();
    socket.is_null() || (!kind.is_empty() && !kind.ends_with(CONTEXT))
}

const SWITCHES: [&str; 5] = [
    "require_client_certificate",
    "session_ticket_keys",
    "session_ticket_keys_sds_secret_config",
    "disable_stateless_session_resumption",
    "disable_stateful_session_resumption",
];

/// Whether a patch says anything of what `check_terms` looks at.
pub(super) fn has_terms(context: &Node) -> bool {
    SWITCHES.iter().any(|key| context.get(key).is_some())
}

/// What a patch can say too: a certificate is required, and verified on each connection.
pub(super) fn check_terms(context: &Node, report: &mut Report<'_>) {
    if !context.is_true("require_client_certificate") {
        let place = context.place_of("require_client_certificate");
        report.add(
            place,
            Rule::ClientCertificate,
            "clients without a certificate come in; set `require_client_certificate: true`",
        );
    }
    for key in ["session_ticket_keys", "session_ticket_keys_sds_secret_config"] {
        if let Some(keys) = context.get(key) {
            report.add(
                keys.place,
                Rule::SessionTicketKeys,
                "tickets resume sessions, whose certificates Envoy does not verify again; remove the keys",
            );
        }
    }
    for key in ["disable_stateless_session_resumption", "disable_stateful_session_resumption"] {
        if !context.is_true(key) {
            report.add(
                context.place_of(key),
                Rule::SessionResumption,
                format!("Envoy does not verify certificates of resumed sessions; set `{key}: true`"),
            );
        }
    }
}

pub(super) fn check_version(context: &Node, report: &mut Report<'_>) {
    let Some(parameters) = context.at(&["common_tls_context", "tls_params"]) else { return };
    for key in ["tls_minimum_protocol_version", "tls_maximum_protocol_version"] {
        let good = ["TLS_AUTO", "TLSv1_2", "TLSv1_3"];
        if parameters.get(key).is_some() && !parameters.is_one_of(key, &good, &[0, 3, 4]) {
            report.add(
                parameters.place_of(key),
                Rule::TlsVersion,
                "TLS before 1.2 is broken (RFC 8996); set TLSv1_2 or TLSv1_3",
            );
        }
    }
}

fn check_validation(context: &Node, socket: Place, report: &mut Report<'_>) {
    let common = context.get("common_tls_context");
    let (place, common) = (common.map_or(socket, |it| it.place), common.unwrap_or(context));
    let combined = common.get("combined_validation_context");
    let own = common.get("validation_context").or_else(|| combined?.get("default_validation_context"));
    let delivered = common
        .get("validation_context_sds_secret_config")
        .or_else(|| combined?.get("validation_context_sds_secret_config"));
    let secret = delivered
        .and_then(|it| report.secret(it.text_of("name")))
        .and_then(|it| it.get("validation_context"))
        .cloned();
    let contexts: Vec<_> = own.into_iter().chain(&secret).collect();
    for validation in &contexts {
        check_leniency(validation, report);
    }
    let has = |key| contexts.iter().any(|it| it.get(key).is_some());
    if has("trusted_ca") {
        return;
    }
    if let (Some(delivered), None) = (delivered, &secret) {
        report.note(
            delivered.place,
            Rule::TrustedCa,
            "the authorities are delivered by SDS, and were not seen here",
        );
    } else if has("ca_certificate_provider_instance") || has("custom_validator_config") {
        report.note(
            place,
            Rule::TrustedCa,
            "the authorities come from a provider or a validator, and were not seen here",
        );
    } else {
        let place = contexts.first().map_or(place, |it| it.place);
        report.add(
            place,
            Rule::TrustedCa,
            "nothing vouches for certificates, and Envoy does not even \
            ask for one; set `validation_context: {trusted_ca: ...}`",
        );
    }
}

/// What accepts certificates that nobody vouches for.
pub(super) fn check_leniency(validation: &Node, report: &mut Report<'_>) {
    let key = "trust_chain_verification";
    if validation.get(key).is_some() && !validation.is_one_of(key, &["VERIFY_TRUST_CHAIN"], &[0]) {
        report.add(
            validation.place_of(key),
            Rule::AcceptUntrusted,
            "anybody's certificate is accepted, with any name in it; remove `trust_chain_verification`",
        );
    }
    let key = "allow_expired_certificate";
    if validation.is_true(key) {
        report.add(
            validation.place_of(key),
            Rule::ExpiredCertificates,
            "expired certificates are accepted; remove `allow_expired_certificate`",
        );
    }
}

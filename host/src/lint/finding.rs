//! What is unsafe, and where.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::node::Place;

/// Something about a filter, its listener or its resource.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// Whether it makes the whole unsafe.
    pub severity: Severity,
    /// Its kind.
    pub rule: Rule,
    /// What it does, and what would be right.
    pub message: String,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// It must change.
    Unsafe,
    /// What decides is not in these files, or is on purpose.
    Note,
}

impl Severity {
    /// The word of reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Note => "note",
        }
    }
}

macro_rules! rules {
    ($($(#[$text:meta])* $rule:ident = $word:literal,)*) => {
        /// Kinds of findings.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Rule { $($(#[$text])* $rule,)* }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)*];

            /// The word of reports.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$rule => $word,)* }
            }
        }
    };
}

rules! {
    /// `ACCEPT_UNTRUSTED`.
    AcceptUntrusted = "accept-untrusted",
    /// `capability_restriction_config`.
    CapabilityRestriction = "capability-restriction",
    /// `set_filter_state` that writes something else than the peer's certificate.
    CertificateSource = "certificate-source",
    /// A filter chain without the filter, next to one with it.
    ChainUnguarded = "chain-unguarded",
    /// `require_client_certificate`.
    ClientCertificate = "client-certificate",
    /// A module that is fetched without a digest.
    CodeNotPinned = "code-not-pinned",
    /// No configuration, or none that reaches the filter as JSON.
    Configuration = "configuration",
    /// A patch for clients, not for servers.
    Context = "context",
    /// A listener without the filter, and it is not known where it leads.
    Destination = "destination",
    /// ECDS delivers another filter in the place of ours.
    Discovered = "discovered",
    /// What is in force until ECDS delivers the filter.
    DiscoveryDefault = "discovery-default",
    /// A YAML document after the first.
    Documents = "documents",
    /// Expired certificates are accepted.
    ExpiredCertificates = "expired-certificates",
    /// An EXTENSION_CONFIG that Istio ignores, or that nothing delivers.
    ExtensionConfig = "extension-config",
    /// `FAIL_OPEN`.
    FailOpen = "fail-open",
    /// Not `FAIL_RELOAD`.
    FailurePolicy = "failure-policy",
    /// The YAML tag `!ignore`.
    FieldIgnored = "field-ignored",
    /// One field under both forms of its name.
    FieldRepeated = "field-repeated",
    /// A filter within a matcher or another filter.
    FilterConditional = "filter-conditional",
    /// `disabled`.
    FilterDisabled = "filter-disabled",
    /// `is_optional`.
    FilterOptional = "filter-optional",
    /// Another filter answers first.
    FilterOrder = "filter-order",
    /// A patch that removes or changes the filter.
    FilterPatched = "filter-patched",
    /// Switched off by a route.
    FilterPerRoute = "filter-per-route",
    /// x-forwarded-client-cert of clients.
    ForwardedClientCertificate = "forwarded-client-certificate",
    /// What each listener does.
    Listener = "listener",
    /// A listener without the filter leads to what a listener with it guards.
    ListenerUnguarded = "listener-unguarded",
    /// The filter does not run on what comes in.
    Match = "match",
    /// Two resources of one name: Kubernetes keeps the last.
    NameRepeated = "name-repeated",
    /// Everybody may come in plaintext.
    InsecureMixedMode = "insecure-mixed-mode",
    /// The names of an endpoint.
    Names = "names",
    /// There is no filter.
    NoFilter = "no-filter",
    /// Nothing here knows what it is.
    NotLookedAt = "not-looked-at",
    /// `PeerAuthentication`.
    PeerAuthentication = "peer-authentication",
    /// The phase of a plugin.
    Phase = "phase",
    /// The filter would refuse the policy.
    Policy = "policy",
    /// Resumed sessions.
    SessionResumption = "session-resumption",
    /// Keys of session tickets.
    SessionTicketKeys = "session-ticket-keys",
    /// Not what Envoy or Kubernetes gets, but what it is made of.
    Template = "template",
    /// No TLS.
    Tls = "tls",
    /// SNI decides, and nobody reads it.
    TlsInspector = "tls-inspector",
    /// Older than TLS 1.2.
    TlsVersion = "tls-version",
    /// Nothing to verify certificates with.
    TrustedCa = "trusted-ca",
    /// Envoy refused the last update of a listener.
    UpdateRefused = "update-refused",
    /// Upgraded requests take another way.
    UpgradeFilters = "upgrade-filters",
    /// No `vm_id`.
    VmIdMissing = "vm-id-missing",
    /// The `vm_id` of another plugin.
    VmIdShared = "vm-id-shared",
}

impl Finding {
    /// As `--format json` prints it.
    pub fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "line": self.place.line,
            "column": self.place.column,
            "severity": self.severity.as_str(),
            "rule": self.rule.as_str(),
            "message": self.message,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, severity, rule, message } = self;
        let file = file.display().to_string();
        write!(
            formatter,
            "{}:{place}: {}: {message} [{}]",
            file.escape_debug(),
            severity.as_str(),
            rule.as_str()
        )
    }
}

//! Which of Vespa's two implementations is imitated, where they differ from each other and from us.

use crate::mode::Mode;

/// Value of the policy key `compatibility`.
///
/// Vespa's C++ (content nodes) and Java (containers) read one file differently (spec: Vespa's
/// `vespalib/.../net/tls/` and `security-utils/.../security/tls/`). [`Compatibility::Strict`], the default, admits
/// no peer that either of them would refuse on grounds of its names, and reads no document that would mean different
/// things to them. It asks for less in two places: a rule needs no `name`, and a filter needs no `files`. The methods
/// name each difference.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compatibility {
    /// Refuse what either implementation refuses.
    #[default]
    Strict,
    /// As content nodes do.
    VespaCpp,
    /// As containers do.
    VespaJava,
}

impl Compatibility {
    pub(crate) const WORDS: &'static [&'static str] = &["strict", "vespa-cpp", "vespa-java"];
    pub(crate) const VALUES: &'static [Self] = &[Self::Strict, Self::VespaCpp, Self::VespaJava];

    /// The word of the policy document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::VespaCpp => "vespa-cpp",
            Self::VespaJava => "vespa-java",
        }
    }

    /// Unknown keys are left out instead of refused (both).
    pub fn ignores_unknown_keys(self) -> bool {
        self != Self::Strict
    }

    /// Unknown capability names grant nothing instead of being refused (both).
    pub fn ignores_unknown_capabilities(self) -> bool {
        self != Self::Strict
    }

    /// `authorized-peers: null` admits every certificate, as if it were absent (Java).
    pub fn null_peers_means_absent(self) -> bool {
        self == Self::VespaJava
    }

    /// `required-credentials: []` matches every certificate (Java).
    pub fn empty_credentials_match_all(self) -> bool {
        self == Self::VespaJava
    }

    /// A missing `must-match` is the empty pattern (C++).
    pub fn missing_pattern_is_empty(self) -> bool {
        self == Self::VespaCpp
    }

    /// Every peer needs a `name` (Java).
    pub fn requires_names(self) -> bool {
        self == Self::VespaJava
    }

    /// `name` and `description` may be anything (C++, which reads neither).
    pub fn ignores_texts(self) -> bool {
        self == Self::VespaCpp
    }

    /// Two peers may have one name (C++, which does not read names).
    pub fn allows_duplicate_names(self) -> bool {
        self == Self::VespaCpp
    }

    /// `accepted-protocols` is not read (C++).
    pub fn ignores_accepted_protocols(self) -> bool {
        self == Self::VespaCpp
    }

    /// `accepted-ciphers: []` means the defaults (C++).
    pub fn empty_ciphers_mean_defaults(self) -> bool {
        self == Self::VespaCpp
    }

    /// A certificate without CN has the CN `""` (C++).
    pub fn absent_common_name_is_empty(self) -> bool {
        self == Self::VespaCpp
    }

    /// SAN_DNS and SAN_URI are both matched against one list of DNS, IP and URI names (Java).
    pub fn pools_names(self) -> bool {
        self == Self::VespaJava
    }

    /// Matching rules that grant no capability at all still admit (C++ and strict; Java refuses).
    pub fn admits_without_capabilities(self) -> bool {
        self != Self::VespaJava
    }

    /// Peers that global `log_only` or `disable` let through get no capabilities (C++).
    pub fn tolerated_peers_get_nothing(self) -> bool {
        self == Self::VespaCpp
    }

    /// Default of `capability-mode` (Java `disable`, else `enforce`).
    pub fn default_capability_mode(self) -> Mode {
        if self == Self::VespaJava { Mode::Disable } else { Mode::Enforce }
    }

    /// Default of `disable-hostname-validation` (C++ true, else false as documented).
    pub fn disables_hostname_validation(self) -> bool {
        self == Self::VespaCpp
    }
}

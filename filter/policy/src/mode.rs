//! Enforcement modes.

/// How strictly a gate is applied: of authorization as a whole, of capabilities, or of one rule.
///
/// Values as in Vespa's `VESPA_TLS_INSECURE_AUTHORIZATION_MODE` and `VESPA_TLS_CAPABILITIES_ENFORCEMENT_MODE`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// Refuse.
    #[default]
    Enforce,
    /// Decide, report what would have been refused, refuse nothing.
    LogOnly,
    /// Do not decide.
    Disable,
}

impl Mode {
    pub(crate) const WORDS: &'static [&'static str] = &["enforce", "log_only", "disable"];
    pub(crate) const VALUES: &'static [Self] = &[Self::Enforce, Self::LogOnly, Self::Disable];
    /// A rule cannot be disabled: leave it out.
    pub(crate) const RULE_WORDS: &'static [&'static str] = &["enforce", "log_only"];

    /// The word of the policy document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::LogOnly => "log_only",
            Self::Disable => "disable",
        }
    }
}

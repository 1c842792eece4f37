//! What a release of Envoy can do.

use std::fmt;
use std::str::FromStr;

/// A release by major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    major: u16,
    minor: u16,
}

/// A text that is no release, or one that is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseError;

impl Release {
    /// The oldest one that was tried.
    pub const OLDEST: Self = Self { major: 1, minor: 36 };
    /// The first one that tells filters what they need to know by itself.
    pub const CURRENT: Self = Self { major: 1, minor: 39 };
    /// The oldest one that can show a certificate to a filter of TCP connections.
    pub const OLDEST_FOR_TCP: Self = Self { major: 1, minor: 37 };

    /// Where the filter finds the peer's certificate.
    pub fn identity(self) -> Identity {
        if self >= Self::CURRENT { Identity::Property } else { Identity::FilterState }
    }

    /// Whether a network filter can be shown the certificate.
    pub fn shows_certificate_to_network_filters(self) -> bool {
        self >= Self::OLDEST_FOR_TCP
    }
}

impl FromStr for Release {
    type Err = ReleaseError;

    /// `1.40` or `1.40.0`.
    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let mut numbers = text.splitn(3, '.').map(|number| number.parse::<u16>().map_err(|_| ReleaseError));
        let mut next = || numbers.next().ok_or(ReleaseError)?;
        let release = Self { major: next()?, minor: next()? };
        numbers.next().transpose()?;
        if release < Self::OLDEST { Err(ReleaseError) } else { Ok(release) }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "expected a release such as 1.40 or 1.39.3, {} or later", Release::OLDEST)
    }
}

impl std::error::Error for ReleaseError {}

/// Where the filter finds the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The property `connection.peer_certificate`, in Envoy 1.39 and later.
    Property,
    /// Filter state `peergate.pem`, which set_filter_state writes: HTTP in any Envoy, TCP from 1.37 on.
    FilterState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (text, identity, network) in [
            ("1.36", Identity::FilterState, false),
            ("1.36.4", Identity::FilterState, false),
            ("1.37.0", Identity::FilterState, true),
            ("1.38.3", Identity::FilterState, true),
            ("1.39.3", Identity::Property, true),
            ("1.100", Identity::Property, true),
            ("2.0", Identity::Property, true),
        ] {
            let release: Release = text.parse().expect(text);
            assert_eq!(release.identity(), identity, "{text}");
            assert_eq!(release.shows_certificate_to_network_filters(), network, "{text}");
        }
        for text in ["", "1", "1.35.9", "0.40", "1.x", "1.40.x", "v1.40", "1.40.0.0", "-1.40"] {
            assert_eq!(text.parse::<Release>(), Err(ReleaseError), "{text}");
        }
    }
}

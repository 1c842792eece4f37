//! The shape of a SPIFFE ID (SPIFFE-ID standard, sections 2.1 to 2.3).

/// Longest SPIFFE ID, in bytes (section 2.3).
const MAX_BYTES: usize = 2048;
/// Longest trust domain name, in bytes (section 2.1).
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// Whether `uri` is a workload's SPIFFE ID: a trust domain and a path of non-empty segments, none of them `.` or `..`.
pub fn is_workload_id(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    let Some((trust_domain, path)) = rest.split_once('/') else { return false };
    uri.len() <= MAX_BYTES
        && (1..=MAX_TRUST_DOMAIN_BYTES).contains(&trust_domain.len())
        && trust_domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b))
        && path.split('/').all(is_segment)
}

fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for good in ["spiffe://td/a", "spiffe://td.example-1_x/ns/Prod/sa/web.1"] {
            assert!(is_workload_id(good), "{good}");
        }
        for bad in [
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///a",
            "spiffe://td//x",
            "spiffe://td/x/",
            "spiffe://td/../x",
            "spiffe://TD/x",
            "spiffe://td:1/x",
            "spiffe://u@td/x",
            "spiffe://td/x?y",
            "spiffe://td/%66",
            "SPIFFE://td/x",
            "https://td/x",
        ] {
            assert!(!is_workload_id(bad), "{bad}");
        }
        assert!(!is_workload_id(&format!("spiffe://td/{}", "a".repeat(2048))));
    }
}

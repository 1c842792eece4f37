//! The `Authorization` header of a token endpoint (RFC 6750, 2.1; Vespa `CloudTokenDataPlaneFilter.java`).

/// Longest header value that is looked at, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// Why there is no token: 401, because another request with a token might do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BearerError {
    /// No `Authorization`, or another scheme, or nothing behind `Bearer `.
    Missing,
    /// More than one `Authorization`, or several joined to one by commas: which of them counts differs by reader
    /// (CVE-2026-26308).
    Repeated,
    /// Longer than any token, or with a tab, a control character or a character beyond ASCII.
    Malformed,
}

/// The token of a request's `Authorization` values: exactly one, exactly `Bearer `, the rest without spaces around it.
///
/// # Errors
/// [`BearerError`].
pub fn token<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<&'a str, BearerError> {
    let value = values.next().ok_or(BearerError::Missing)?;
    if values.next().is_some() {
        return Err(BearerError::Repeated);
    }
    let rest = value.strip_prefix(b"Bearer ").ok_or(BearerError::Missing)?;
    // Envoy joins repeated fields before a filter sees them (RFC 9110, 5.3). No bearer token has a comma (RFC 6750, 2.1).
    if rest.contains(&b',') {
        return Err(BearerError::Repeated);
    }
    if rest.len() > MAX_BYTES || !rest.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(BearerError::Malformed);
    }
    let token = std::str::from_utf8(rest).map_err(|_| BearerError::Malformed)?.trim();
    if token.is_empty() { Err(BearerError::Missing) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_token() {
        let long = [b"Bearer ".to_vec(), vec![b'a'; MAX_BYTES + 1]].concat();
        for (values, expected) in [
            (vec![&b"Bearer x"[..]], Ok("x")),
            (vec![b"Bearer   x y  "], Ok("x y")),
            (vec![], Err(BearerError::Missing)),
            (vec![b""], Err(BearerError::Missing)),
            (vec![b"Bearer"], Err(BearerError::Missing)),
            (vec![b"Bearer "], Err(BearerError::Missing)),
            (vec![b"Bearer    "], Err(BearerError::Missing)),
            (vec![b"bearer x"], Err(BearerError::Missing)),
            (vec![b" Bearer x"], Err(BearerError::Missing)),
            (vec![b"Basic x"], Err(BearerError::Missing)),
            (vec![b"Bearer\tx"], Err(BearerError::Missing)),
            (vec![b"Bearer x\t"], Err(BearerError::Malformed)),
            (vec![b"Bearer x\0"], Err(BearerError::Malformed)),
            (vec!["Bearer é".as_bytes()], Err(BearerError::Malformed)),
            (vec![&long], Err(BearerError::Malformed)),
            (vec![b"Bearer x", b"Bearer x"], Err(BearerError::Repeated)),
            (vec![b"Bearer x,Bearer x"], Err(BearerError::Repeated)),
            (vec![b"Bearer x,Basic x"], Err(BearerError::Repeated)),
            (vec![b"Basic x,Bearer x"], Err(BearerError::Missing)),
        ] {
            assert_eq!(token(values.iter().copied()), expected, "{values:?}");
        }
    }
}

//! A header map as filters see it, and the form it crosses the boundary in.
//!
//! Names are lower case (HTTP/2's rule, RFC 9113 section 8.2.1; Envoy holds HTTP/1 names so too).

use super::limits;
use super::status::Status;
use super::verdict::HeaderPairs;

/// The fields of one header map, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderMap {
    pairs: HeaderPairs,
    bytes: usize,
    /// Bytes that did not come from the filter.
    received: usize,
}

impl HeaderMap {
    /// Takes fields from the proxy, which made them well-formed.
    pub(super) fn new(pairs: HeaderPairs) -> Self {
        let bytes = pairs.iter().map(cost).sum();
        Self { pairs, bytes, received: bytes }
    }

    /// Fields a filter wrote, checked one by one.
    pub(super) fn from_filter(pairs: HeaderPairs) -> Result<Self, Status> {
        let mut map = Self::default();
        for (name, value) in pairs {
            map.add(&name, &value)?;
        }
        Ok(map)
    }

    /// Takes the fields of `other`, which the filter wrote.
    pub(super) fn assign(&mut self, other: Self) {
        *self = Self { received: self.received, ..other };
    }

    /// Bytes that the filter added.
    pub(super) fn added(&self) -> usize {
        self.bytes.saturating_sub(self.received)
    }

    pub(super) fn pairs(&self) -> &HeaderPairs {
        &self.pairs
    }

    /// Bytes of all names and values.
    pub(super) fn bytes(&self) -> usize {
        self.pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    pub(super) fn into_pairs(self) -> HeaderPairs {
        self.pairs
    }

    /// The first value under `name`, as Envoy answers `proxy_get_header_map_value`.
    pub(super) fn first<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// All values under `name` joined by commas, as Envoy answers `request.headers.<name>`.
    pub(super) fn joined(&self, name: &[u8]) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(&b','))
    }

    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        // First, so that what is too large is not even looked at.
        let bytes = self.bytes.saturating_add(name.len()).saturating_add(value.len()).saturating_add(FIELD);
        if bytes > limits::FIELDS_BYTES || self.pairs.len() >= limits::FIELDS {
            return Err(Status::BadArgument);
        }
        if !is_name(name) || !is_value(value) {
            return Err(Status::BadArgument);
        }
        let pair = (name.to_ascii_lowercase(), value.to_vec());
        self.bytes = bytes;
        self.pairs.push(pair);
        Ok(())
    }

    /// Leaves one field of this name, at the place of the first.
    pub(super) fn replace(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        let place = self.pairs.iter().position(|(other, _)| other.eq_ignore_ascii_case(name));
        let count = self.pairs.len();
        self.add(name, value)?;
        let Some(place) = place else { return Ok(()) };
        self.pairs.swap(place, count);
        let mut index = 0;
        self.pairs.retain(|(other, _)| {
            index += 1;
            index - 1 == place || !other.eq_ignore_ascii_case(name)
        });
        self.bytes = self.pairs.iter().map(cost).sum();
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.pairs.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.bytes = self.pairs.iter().map(cost).sum();
    }

    fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.pairs
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }
}

/// The ABI's form of a map: the count, every name's and value's length, then every name and value with a NUL each.
pub(super) fn encode(pairs: &HeaderPairs) -> Vec<u8> {
    let sizes = pairs.iter().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>();
    let mut out = Vec::with_capacity(4 + sizes);
    out.extend(length(pairs.len()));
    for (name, value) in pairs {
        out.extend(length(name.len()));
        out.extend(length(value.len()));
    }
    for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
        out.extend_from_slice(part);
        out.push(0);
    }
    out
}

/// Reads the ABI's form. An empty buffer is an empty map; anything that does not add up is a bad argument.
pub(super) fn decode(bytes: &[u8]) -> Result<HeaderPairs, Status> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let (count, rest) = take_length(bytes)?;
    // Every pair takes ten bytes at least, so a count cannot make us reserve more than the filter sent.
    if count > (rest.len() / 10).min(limits::FIELDS) || rest.len() > limits::FIELDS_BYTES {
        return Err(Status::BadArgument);
    }
    let (mut sizes, mut data) = rest.split_at(count * 8);
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, value);
        (name, sizes) = take_length(sizes)?;
        (value, sizes) = take_length(sizes)?;
        let name = take_part(&mut data, name)?;
        let value = take_part(&mut data, value)?;
        pairs.push((name.to_vec(), value.to_vec()));
    }
    Ok(pairs)
}

fn take_length(bytes: &[u8]) -> Result<(usize, &[u8]), Status> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(Status::BadArgument)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Status::BadArgument)?;
    Ok((length, rest))
}

fn take_part<'a>(data: &mut &'a [u8], length: usize) -> Result<&'a [u8], Status> {
    let (part, rest) = data.split_at_checked(length).ok_or(Status::BadArgument)?;
    match rest.split_first() {
        Some((0, rest)) => *data = rest,
        _ => return Err(Status::BadArgument),
    }
    Ok(part)
}

fn length(value: usize) -> [u8; 4] {
    // A part longer than 4 GiB cannot come from a 32-bit guest or a 64 KiB header; its length would not fit a map.
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

fn cost(pair: &(Vec<u8>, Vec<u8>)) -> usize {
    pair.0.len() + pair.1.len() + FIELD
}

/// What a field costs besides its bytes (RFC 9113 section 6.5.2).
const FIELD: usize = 32;

/// A token (RFC 9110 section 5.6.2), or one behind the colon of a pseudo-header.
fn is_name(name: &[u8]) -> bool {
    let token = name.strip_prefix(b":").unwrap_or(name);
    !token.is_empty() && token.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// No byte that would end the field (RFC 9110 section 5.5).
fn is_value(value: &[u8]) -> bool {
    !value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        HeaderMap::new(owned(pairs))
    }

    fn owned(pairs: &[(&str, &str)]) -> HeaderPairs {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let pairs = owned(&[(":path", "/"), ("empty", ""), ("x", "y")]);
        assert_eq!(decode(&encode(&pairs)).unwrap(), pairs);
        assert_eq!(decode(&encode(&Vec::new())).unwrap(), Vec::new());
    }

    #[test]
    fn a_map_that_does_not_add_up_is_refused() {
        let whole = encode(&owned(&[("a", "b"), ("c", "d")]));
        for cut in 1..whole.len() {
            assert_eq!(decode(&whole[..cut]), Err(Status::BadArgument), "cut at {cut}");
        }
        assert_eq!(decode(&[0xff; 64]), Err(Status::BadArgument));
        let mut huge = whole;
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&huge), Err(Status::BadArgument));
    }

    #[test]
    fn replace_leaves_one_field_in_place() {
        let mut headers = map(&[("a", "1"), ("x", "2"), ("b", "3"), ("x", "4"), ("c", "5")]);
        headers.replace(b"X", b"new").unwrap();
        assert_eq!(headers.pairs(), &owned(&[("a", "1"), ("x", "new"), ("b", "3"), ("c", "5")]));
        headers.replace(b"y", b"6").unwrap();
        assert_eq!(headers.first(b"y"), Some(&b"6"[..]));
    }

    #[test]
    fn names_match_in_any_case_and_repeated_values_are_joined() {
        let mut headers = map(&[("x", "1"), ("x", "2")]);
        assert_eq!(headers.first(b"X"), Some(&b"1"[..]));
        assert_eq!(headers.joined(b"X").as_deref(), Some(&b"1,2"[..]));
        assert_eq!(headers.joined(b"y"), None);
        headers.remove(b"X");
        assert!(headers.pairs().is_empty());
    }

    #[test]
    fn a_field_that_would_split_the_message_is_refused() {
        let mut headers = HeaderMap::default();
        for (name, value) in
            [("x", "a\r\nb"), ("x", "a\0"), ("x\n", "a"), ("x y", "a"), ("", "a"), (":", "a")]
        {
            assert_eq!(headers.add(name.as_bytes(), value.as_bytes()), Err(Status::BadArgument), "{name:?}");
        }
        assert!(headers.pairs().is_empty());
    }

    #[test]
    fn a_map_does_not_grow_without_end() {
        let mut headers = HeaderMap::default();
        let added = (0..100).filter(|_| headers.add(b"x", &[b'a'; 65_536]).is_ok()).count();
        assert_eq!(added, 15);
        let mut headers = HeaderMap::default();
        assert_eq!((0..100_000).filter(|_| headers.add(b"x", b"").is_ok()).count(), limits::FIELDS);
        assert_eq!(headers.added(), limits::FIELDS * (FIELD + 1));
        let many = encode(&vec![(b"x".to_vec(), Vec::new()); limits::FIELDS + 1]);
        assert_eq!(decode(&many), Err(Status::BadArgument));
        assert_eq!(
            decode(&encode(&owned(&[("x", &"y".repeat(limits::FIELDS_BYTES))]))),
            Err(Status::BadArgument)
        );
    }
}

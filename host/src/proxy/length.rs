//! What a filter says about the length of a body, held against what will be sent.
//!
//! No filter frames a message: where it says nothing, the framing is ours. But a length that it leaves wrong would make one side wait
//! for bytes that never come, or take what follows for another message, so the message ends here with 500.

use std::cell::Cell;
use std::fmt;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use crate::wasm::HeaderPairs;

/// The reason of a message whose length the filter left wrong.
pub(super) const WRONG: &str = "filter-wrong-length";

/// The filter left a `content-length` that is not the body's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{WRONG}: the filter left a `content-length` that the body does not have")
    }
}

impl std::error::Error for WrongLength {}

/// What is known of a body before it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// There is none.
    pub(super) ends: bool,
    /// The filter sees it, and may make another one of it.
    pub(super) is_shown: bool,
}

/// The length of a request's body after the filter, if it has a length; `received` is what the client sent.
pub(super) fn of_request(
    pairs: &HeaderPairs,
    received: Option<&HeaderValue>,
    body: Passage,
) -> Result<Option<u64>, WrongLength> {
    let left = left(pairs)?;
    match (body.ends, left) {
        (true, Some(1..)) => Err(WrongLength),
        _ if body.is_shown => Ok(left),
        _ => unchanged(left, received),
    }
}

/// The length of a response's body after the filter; `received` is what the service sent, `status` what the filter left.
pub(super) fn of_response(
    pairs: &HeaderPairs,
    received: Option<&HeaderValue>,
    (method, status): (&Method, StatusCode),
    body: Passage,
) -> Result<Option<u64>, WrongLength> {
    let left = left(pairs)?;
    // RFC 9110 section 8.6: then the length is that of another answer.
    let is_of_another = method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    if body.ends {
        return match left {
            // RFC 9110 section 8.6: this one has none in any case.
            _ if is_of_another => Ok(number(received).filter(|_| status != StatusCode::NO_CONTENT)),
            Some(1..) => Err(WrongLength),
            _ => Ok(number(received).or(left).map(|_| 0).filter(|_| status != StatusCode::NO_CONTENT)),
        };
    }
    let has_body = !is_of_another && status != StatusCode::NO_CONTENT;
    match (has_body, body.is_shown) {
        (true, true) => Ok(left),
        (true, false) => unchanged(left, received),
        // The filter must take away the body that its status does not have.
        (false, true) => Ok(Some(0)),
        (false, false) => Err(WrongLength),
    }
}

/// The length in a message's own fields.
pub(super) fn in_fields(fields: &HeaderMap) -> Option<u64> {
    number(fields.get(CONTENT_LENGTH))
}

/// One that the filter cannot have known better than the sender.
fn unchanged(left: Option<u64>, received: Option<&HeaderValue>) -> Result<Option<u64>, WrongLength> {
    let received = number(received);
    if left.is_none() || left == received { Ok(received) } else { Err(WrongLength) }
}

/// What the filter says: a number, nothing, or what is no length. The same one twice is one (RFC 9110 section 8.6).
fn left(pairs: &HeaderPairs) -> Result<Option<u64>, WrongLength> {
    let mut fields = pairs.iter().filter(|(name, _)| name == CONTENT_LENGTH.as_str().as_bytes());
    let Some((_, first)) = fields.next() else { return Ok(None) };
    if fields.any(|(_, other)| other != first) {
        return Err(WrongLength);
    }
    digits(first).ok_or(WrongLength).map(Some)
}

fn number(value: Option<&HeaderValue>) -> Option<u64> {
    digits(value?.as_bytes())
}

/// `1*DIGIT`: no sign, no space.
fn digits(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// A body on its way through the filter, counted on both sides.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// What may still come out, where there is a length.
    left: Cell<Option<u64>>,
    came: Cell<u64>,
    passed: Cell<u64>,
    /// The head of a response has gone, so it is too late for another answer.
    settled: Cell<bool>,
}

impl Gauge {
    pub(super) fn new(length: Option<u64>) -> Self {
        Self { left: Cell::new(length), ..Self::default() }
    }

    /// Whether the body has a length that must be right.
    pub(super) fn is_bounded(&self) -> bool {
        self.left.get().is_some()
    }

    /// Counts what the filter is shown.
    pub(super) fn came(&self, bytes: usize) {
        self.came.set(self.came.get() + bytes as u64);
    }

    /// Counts what the filter lets pass.
    pub(super) fn pass(&self, bytes: usize) -> Result<(), WrongLength> {
        self.passed.set(self.passed.get() + bytes as u64);
        if let Some(left) = self.left.get() {
            self.left.set(Some(left.checked_sub(bytes as u64).ok_or(WrongLength)?));
        }
        Ok(())
    }

    /// Whether what passed is all that there may be.
    pub(super) fn is_full(&self) -> bool {
        self.left.get() == Some(0)
    }

    /// The body has ended.
    pub(super) fn end(&self) -> Result<(), WrongLength> {
        if self.left.get().is_none_or(|left| left == 0) { Ok(()) } else { Err(WrongLength) }
    }

    /// From now on the head of the response goes.
    pub(super) fn settle(&self) {
        self.settled.set(true);
    }

    pub(super) fn has_settled(&self) -> bool {
        self.settled.get()
    }

    /// Whether the filter let pass as much as it was shown, and so does not seem to change anything.
    pub(super) fn is_even(&self) -> bool {
        self.came.get() == self.passed.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lengths: &[&str]) -> HeaderPairs {
        lengths.iter().map(|it| (b"content-length".to_vec(), it.as_bytes().to_vec())).collect()
    }

    const NONE: Passage = Passage { ends: true, is_shown: true };
    const SHOWN: Passage = Passage { ends: false, is_shown: true };
    const DIRECT: Passage = Passage { ends: false, is_shown: false };

    #[test]
    fn a_request_has_the_length_of_its_body() {
        let five = HeaderValue::from_static("5");
        let of = |lengths: &[&str], body| of_request(&fields(lengths), Some(&five), body);
        assert_eq!(of(&["3"], NONE), Err(WrongLength));
        assert_eq!((of(&[], NONE), of(&["0"], NONE)), (Ok(None), Ok(Some(0))));
        assert_eq!((of(&[], SHOWN), of(&["3"], SHOWN)), (Ok(None), Ok(Some(3))), "counted later");
        assert_eq!((of(&[], DIRECT), of(&["5"], DIRECT)), (Ok(Some(5)), Ok(Some(5))));
        assert_eq!(of(&["3"], DIRECT), Err(WrongLength));
        assert_eq!(of_request(&fields(&["5"]), None, DIRECT), Err(WrongLength), "it was chunked");
        assert_eq!(of(&["5", "5"], SHOWN), Ok(Some(5)));
        for odd in [&["5", "6"][..], &["+5"], &[""], &["5 "], &["5, 5"], &["99999999999999999999"]] {
            assert_eq!(of(odd, SHOWN), Err(WrongLength), "{odd:?}");
        }
    }

    #[test]
    fn a_response_has_the_length_of_its_body() {
        let five = HeaderValue::from_static("5");
        let of = |lengths: &[&str], method, status, body| {
            of_response(&fields(lengths), Some(&five), (&method, status), body)
        };
        assert_eq!(of(&["3"], Method::GET, StatusCode::OK, NONE), Err(WrongLength));
        assert_eq!(of(&["5"], Method::HEAD, StatusCode::OK, NONE), Ok(Some(5)));
        assert_eq!(of(&["5"], Method::HEAD, StatusCode::NO_CONTENT, NONE), Ok(None));
        assert_eq!(of(&["9"], Method::HEAD, StatusCode::OK, NONE), Ok(Some(5)));
        assert_eq!(of(&["5"], Method::GET, StatusCode::NOT_MODIFIED, NONE), Ok(Some(5)));
        // It was 304, and the filter made it 200.
        assert_eq!(of(&["5"], Method::GET, StatusCode::OK, NONE), Err(WrongLength));
        assert_eq!(of(&[], Method::GET, StatusCode::OK, NONE), Ok(Some(0)));
        assert_eq!(of(&["3"], Method::GET, StatusCode::OK, SHOWN), Ok(Some(3)));
        assert_eq!(of(&["3"], Method::GET, StatusCode::OK, DIRECT), Err(WrongLength));
        assert_eq!(of(&[], Method::GET, StatusCode::OK, DIRECT), Ok(Some(5)));
        assert_eq!(of(&[], Method::GET, StatusCode::NO_CONTENT, DIRECT), Err(WrongLength));
        assert_eq!(of(&["5"], Method::GET, StatusCode::NO_CONTENT, SHOWN), Ok(Some(0)));
    }

    #[test]
    fn a_gauge_counts_to_the_length() {
        let gauge = Gauge::new(Some(5));
        gauge.came(5);
        assert_eq!((gauge.pass(3), gauge.is_even(), gauge.end()), (Ok(()), false, Err(WrongLength)));
        assert_eq!((gauge.pass(2), gauge.is_even(), gauge.is_full()), (Ok(()), true, true));
        assert_eq!((gauge.end(), gauge.pass(1)), (Ok(()), Err(WrongLength)));
        let unbounded = Gauge::new(None);
        assert_eq!((unbounded.pass(9), unbounded.end(), unbounded.is_bounded()), (Ok(()), Ok(()), false));
    }
}

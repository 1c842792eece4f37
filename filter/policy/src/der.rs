//! Well-formedness of DER (ITU-T X.690), before a lenient parser reads it.
//!
//! Parsers differ in what they forgive: constructed strings, indefinite lengths, bytes behind the end. A certificate that
//! needs forgiving names one peer to us and perhaps another to the next reader, so it is refused.

/// Deepest nesting of a certificate that means something; ordinary ones have ten.
const DEPTH: u32 = 32;

/// One element.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    /// The identifier octet: class, the bit for constructed, and tag number.
    pub identifier: u8,
    /// What is in it.
    pub content: &'a [u8],
    /// Identifier, length and content.
    pub raw: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements in this one, if it is an `identifier`.
    pub fn children(&self, identifier: u8) -> Option<Vec<Element<'a>>> {
        self.content_of(identifier).and_then(elements)
    }

    /// What is in it, if it is an `identifier`.
    pub fn content_of(&self, identifier: u8) -> Option<&'a [u8]> {
        (self.identifier == identifier).then_some(self.content)
    }
}

/// Bit 6 of the identifier: the content is elements.
const CONSTRUCTED: u8 = 0x20;

/// Whether `bytes` are exactly one element, and everything constructed in it is elements again.
pub fn is_well_formed(bytes: &[u8]) -> bool {
    elements(bytes).is_some_and(|all| all.len() == 1) && nested(bytes, DEPTH)
}

fn nested(bytes: &[u8], depth: u32) -> bool {
    let Some(all) = elements(bytes) else { return false };
    all.iter().all(|element| {
        let constructed = element.identifier & CONSTRUCTED != 0;
        constructed == must_be_constructed(*element).unwrap_or(constructed)
            && (!constructed || depth > 0 && nested(element.content, depth - 1))
    })
}

/// Of the universal types only SEQUENCE, SET and EXTERNAL are constructed in DER (X.690, 10.2).
fn must_be_constructed(element: Element<'_>) -> Option<bool> {
    const CLASS: u8 = 0xc0;
    (element.identifier & CLASS == 0).then_some(matches!(element.identifier & 0x1f, 8 | 16 | 17))
}

/// The elements that `bytes` are; `None` unless they are nothing else. Lengths are definite and minimal (X.690, 10.1).
pub fn elements(mut bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut all = Vec::new();
    while let Some((&identifier, rest)) = bytes.split_first() {
        // No type of a certificate has a tag number above 30.
        if identifier & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                let minimal = length > 0x7f && digits[0] != 0;
                (minimal.then_some(length)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        all.push(Element { identifier, content, raw: &bytes[..bytes.len() - rest.len()] });
        bytes = rest;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_der_is_well_formed() {
        let long = [&[0x04, 0x81, 0x80][..], &[0; 0x80]].concat();
        for good in [&[0x30, 0][..], &[0x30, 3, 0x82, 1, b'a'], &[0x31, 4, 0x30, 2, 0x05, 0], &long] {
            assert!(is_well_formed(good), "{good:x?}");
        }
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0, 0],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 3, 0x82, 1, b'a'],
            &[0x30, 0x82, 0, 3, 0x82, 1, b'a'],
            &[0x30, 2, 0x82, 5],
            &[0x2c, 3, 0x0c, 1, b'a'],
            &[0x24, 0],
            &[0x10, 0],
            &[0x3f, 0x21, 0],
            &[0x30, 0x84, 0, 0, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x85, 1, 0, 0, 0, 0],
        ] {
            assert!(!is_well_formed(bad), "{bad:x?}");
        }
        let mut deep = vec![0x05, 0];
        for _ in 0..=DEPTH + 1 {
            deep = [vec![0x30, u8::try_from(deep.len()).unwrap()], deep].concat();
        }
        assert!(!is_well_formed(&deep));
    }
}

//! Reads DER (ITU-T X.690), one element after the other.

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) identifier: u8,
    pub(super) content: &'a [u8],
    /// Identifier, length and content.
    pub(super) raw: &'a [u8],
}

impl<'a> Element<'a> {
    /// The only element of `bytes`, if its identifier is this one.
    pub(super) fn only(bytes: &'a [u8], identifier: u8) -> Option<Self> {
        let mut reader = Reader(bytes);
        reader.take(identifier).filter(|_| reader.is_at_end())
    }

    /// What is in it.
    pub(super) fn children(self) -> Reader<'a> {
        Reader(self.content)
    }
}

/// The elements that are left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_at_end(self) -> bool {
        self.0.is_empty()
    }

    /// The next element. Lengths are definite and minimal (X.690, 10.1).
    pub(super) fn any(&mut self) -> Option<Element<'a>> {
        let (&identifier, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // No type of a certificate has a tag number above 30.
        if identifier & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                let is_minimal = length > 0x7f && digits[0] != 0;
                (is_minimal.then_some(length)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let raw = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Element { identifier, content, raw })
    }

    /// The next element, which must be of this kind.
    pub(super) fn take(&mut self, identifier: u8) -> Option<Element<'a>> {
        self.any().filter(|element| element.identifier == identifier)
    }

    /// The next element if it is of this kind.
    pub(super) fn take_if(&mut self, identifier: u8) -> Option<Element<'a>> {
        if self.0.first() == Some(&identifier) { self.any() } else { None }
    }

    /// All of them, or nothing where one is broken.
    pub(super) fn all(mut self) -> Option<Vec<Element<'a>>> {
        let mut all = Vec::new();
        while !self.is_at_end() {
            all.push(self.any()?);
        }
        Some(all)
    }
}

/// Identifiers of universal types (X.690, 8).
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The identifier of a tagged primitive, `[number] IMPLICIT`.
pub(super) const fn tagged(number: u8) -> u8 {
    0x80 | number
}

/// The identifier of a tagged element with elements in it.
pub(super) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// An element.
pub(super) fn write(identifier: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().position(|digit| *digit != 0).unwrap_or(length.len() - 1)..];
    let mut der = vec![identifier];
    match digits {
        [short @ 0..=0x7f] => der.push(*short),
        // Eight digits at most.
        _ => {
            der.push(0x80 | digits.len() as u8);
            der.extend(digits);
        }
    }
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let der = write(OCTET_STRING, &content);
            assert_eq!(
                Element::only(&der, OCTET_STRING).map(|it| it.content),
                Some(&content[..]),
                "{length}"
            );
        }
    }

    #[test]
    fn what_is_no_der_is_not_read() {
        for bytes in [
            &[][..],
            &[4],
            &[4, 1],
            &[4, 0, 0],
            &[0x24, 0x80, 0, 0],
            &[4, 0x81, 1, 0],
            &[4, 0x82, 0, 0x80],
            &[0x1f, 0x1f, 0],
        ] {
            assert!(Element::only(bytes, bytes.first().copied().unwrap_or(4)).is_none(), "{bytes:x?}");
        }
    }
}

//! Base62 as Vespa writes it (`security-utils/.../BaseNCodec.java`).

use zeroize::Zeroizing;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The bytes as one big-endian number in Base62; every leading zero byte is a leading `0`. Not of fixed width.
pub fn base62(bytes: &[u8]) -> Zeroizing<String> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    // 256 < 62^2: large enough never to move, which would leave a copy behind.
    let mut digits = Zeroizing::new(Vec::with_capacity(bytes.len() * 2));
    for byte in &bytes[zeros..] {
        let mut carry = u32::from(*byte);
        for digit in digits.iter_mut() {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 62) as u8;
            carry /= 62;
        }
        while carry > 0 {
            digits.push((carry % 62) as u8);
            carry /= 62;
        }
    }
    let mut text = Zeroizing::new(String::with_capacity(zeros + digits.len()));
    text.extend(std::iter::repeat_n('0', zeros));
    text.extend(digits.iter().rev().map(|digit| char::from(ALPHABET[usize::from(*digit)])));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_vespa() {
        for (bytes, text) in [
            (&b"Hello World!"[..], "T8dgcjRGkZ3aysdN"),
            (b"\0\0Hello World!", "00T8dgcjRGkZ3aysdN"),
            (b"", ""),
            (b"\0", "0"),
            (b"\0\0", "00"),
            (b"\0\0\0\0\xff\xff\xff\xff", "00004gfFC3"),
            (b"\xff\xff\xff\xff\0\0\0\0", "LygHZwPV2MC"),
        ] {
            assert_eq!(*base62(bytes), text);
        }
        assert_eq!(base62(&[0xff; 32]).len(), 43);
    }
}

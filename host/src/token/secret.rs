//! A token itself.

use std::fmt;
use std::io::{self, Read};

use peergate_policy::bearer;
use peergate_policy::token::Derivation;
use zeroize::{Zeroize, Zeroizing};

use super::base62::base62;

/// What every token of ours begins with, as those of Vespa Cloud.
pub const PREFIX: &str = "vespa_cloud_";
/// As many as in Vespa Cloud.
const RANDOM_BYTES: usize = 32;
/// Longest text that is read, in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// Fewer different characters than this are no random text of any of the lengths below.
const LEAST_DIFFERENT: usize = 8;

/// A token. Wiped from memory when dropped, and never printed by `Debug`.
pub struct Secret(Zeroizing<String>);

/// Why a text is not taken for a token. Says nothing of the text.
#[derive(Debug)]
pub enum SecretError {
    /// The machine gave no random bytes.
    Random(getrandom::Error),
    /// The text could not be read.
    Unreadable(io::Error),
    /// No `Authorization` header could carry it.
    NotAToken,
    /// Guessable: it is checked by a fast hash, so it needs the entropy of a key.
    Weak,
}

impl Secret {
    /// A new token: [`PREFIX`] and 32 bytes of the machine's CSPRNG in Base62.
    ///
    /// # Errors
    /// [`SecretError::Random`].
    pub fn generate() -> Result<Self, SecretError> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        getrandom::fill(&mut *bytes).map_err(SecretError::Random)?;
        Ok(Self::of(&*bytes))
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        let random = base62(bytes);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + random.len()));
        text.push_str(PREFIX);
        text.push_str(&random);
        Self(text)
    }

    /// Reads a token, and one line end after it.
    ///
    /// # Errors
    /// As [`Secret::parse`], or the reader's.
    pub fn read(reader: impl Read) -> Result<Self, SecretError> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES + 1));
        reader.take(MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => SecretError::NotAToken,
            _ => SecretError::Unreadable(error),
        })?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Self::parse(line.strip_suffix('\r').unwrap_or(line))
    }

    /// Takes a token made elsewhere.
    ///
    /// # Errors
    /// [`SecretError::NotAToken`], or [`SecretError::Weak`] below the length of 16 random bytes. That a long text is not
    /// random cannot be seen; that a short one has too little entropy can.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let mut header = format!("Bearer {text}");
        let carried = bearer::token(std::iter::once(header.as_bytes())).is_ok_and(|token| token == text);
        header.zeroize();
        if !carried || text.contains(' ') || text.len() > MAX_BYTES {
            return Err(SecretError::NotAToken);
        }
        if !looks_random(text) {
            return Err(SecretError::Weak);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Extracts what fingerprint and check hash are made from.
    pub fn derive(&self) -> Derivation {
        Derivation::of(&self.0)
    }

    /// The token, for the one place where it is shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whether some part between punctuation is as long as 16 random bytes in its alphabet: prefixes and passphrases of
/// words do not add up.
fn looks_random(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| {
        let all = |is: fn(&u8) -> bool| part.as_bytes().iter().all(is);
        let least = if all(u8::is_ascii_digit) {
            39
        } else if all(u8::is_ascii_hexdigit) {
            32
        } else if all(|c| !c.is_ascii_uppercase()) || all(|c| !c.is_ascii_lowercase()) {
            25
        } else {
            22
        };
        let mut different = part.as_bytes().to_vec();
        different.sort_unstable();
        different.dedup();
        let count = different.len();
        different.zeroize();
        part.len() >= least && count >= LEAST_DIFFERENT
    })
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(error) => write!(formatter, "no random bytes: {error}"),
            Self::Unreadable(error) => write!(formatter, "cannot read the token: {error}"),
            Self::NotAToken => formatter.write_str(
                "not a token: expected one line of printable ASCII without spaces, as after `Bearer `",
            ),
            Self::Weak => formatter.write_str(
                "too weak for a token: fewer than 16 random bytes (22 characters of Base62 after the prefix); make one \
                 with `peergate token new`",
            ),
        }
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_like_one_of_vespa_cloud() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one.expose(), two.expose());
        let random = one.expose().strip_prefix(PREFIX).unwrap();
        assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{random}");
        assert_eq!(Secret::parse(one.expose()).unwrap().expose(), one.expose());
        assert_eq!(format!("{one:?}"), "Secret(..)");
        let counted: Vec<u8> = (0..32).collect();
        assert_eq!(Secret::of(&counted).expose(), "vespa_cloud_03aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf");
    }

    #[test]
    fn guessable_tokens_are_refused() {
        let base62 = "T8dgcjRGkZ3aysdNLygHZw";
        for (text, strong) in [
            (base62, true),
            (&base62[1..], false),
            (&format!("vespa_cloud_{base62}"), true),
            (&format!("vespa_cloud_{}", &base62[1..]), false),
            ("0123456789abcdef0123456789abcdef", true),
            ("0123456789abcdef0123456789abcde", false),
            ("012345678901234567890123456789012345678", true),
            ("01234567890123456789012345678901234567", false),
            ("gezdgnbvgy3tqojqgezdgnbvg", true),
            ("gezdgnbvgy3tqojqgezdgnbv", false),
            ("passwordPasswordPassword", true),
            ("passwordpasswordpassword", false),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("correct-horse-battery-staple-and-so-on-and-on", false),
            ("hunter2", false),
        ] {
            assert_eq!(Secret::parse(text).is_ok(), strong, "{text}");
        }
    }

    #[test]
    fn one_line_is_read() {
        let token = "vespa_cloud_03aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";
        for (text, right) in [
            (token.to_owned(), true),
            (format!("{token}\n"), true),
            (format!("{token}\r\n"), true),
            (format!("{token}\n\n"), false),
            (format!("{token}\n{token}"), false),
            (format!(" {token}"), false),
            (format!("{token} "), false),
            (format!("Bearer {token}"), false),
            (format!("{token}\t"), false),
            (format!("{token}\0"), false),
            (format!("{token}é"), false),
            (token.repeat(200), false),
            (String::new(), false),
        ] {
            let secret = Secret::read(text.as_bytes());
            assert_eq!(secret.as_ref().is_ok_and(|it| it.expose() == token), right, "{text:?}");
            let Err(error) = secret else { continue };
            assert!(matches!(error, SecretError::NotAToken), "{text:?}: {error}");
            assert!(!error.to_string().contains("03aUlTJC"), "{error}");
        }
        assert!(matches!(Secret::read(&b"\xff\xfe"[..]), Err(SecretError::NotAToken)));
    }
}

//! Text from outside, for lines that people read.

use std::fmt::{self, Display, Write};

/// Text with every control and formatting character as JSON's `\u` escape, so JSON stays JSON.
pub struct Clean<'a>(pub &'a str);

impl Display for Clean<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if is_unprintable(character) {
                write!(formatter, "\\u{:04x}", u32::from(character))?;
            } else {
                formatter.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Control characters, line separators, and the marks that reorder or hide text (Unicode Technical Report 36).
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_on_its_line() {
        let hostile = "a\r\nWARN forged\u{1b}[31m\u{85}\u{2028}\u{202e}é";
        let clean = Clean(hostile).to_string();
        assert_eq!(clean, "a\\u000d\\u000aWARN forged\\u001b[31m\\u0085\\u2028\\u202eé");
    }
}

use globset::{GlobBuilder, GlobMatcher};
use proptest::prelude::*;

use super::*;

macro_rules! cases {
    ($($name:ident: $separator:ident $pattern:literal $yes:expr, $no:expr;)*) => {
        $(#[test]
        fn $name() {
            let pattern = Pattern::new($pattern, Separator::$separator);
            for value in $yes as &[&str] {
                assert!(pattern.matches(value), "`{}` must match `{value}`", $pattern);
            }
            for value in $no as &[&str] {
                assert!(!pattern.matches(value), "`{}` must not match `{value}`", $pattern);
            }
        })*
    };
}

cases! {
    empty_matches_empty_only: Dot "" &[""], &["a", "."];
    star_is_within_a_label: Dot "*" &["", "a", "a/b", "é"], &["a.b", "."];
    stars_in_a_row_are_one: Dot "a**b" &["ab", "axb"], &["a.b", "axc"];
    label_count_is_fixed: Dot "a.*" &["a.", "a.b"], &["a", "a.b.c", "a.b."];
    question_mark_is_one_character: Dot "w?rld.?" &["world.é", "w*rld.?"], &["wrld.x", "world.", "w.rld.x"];
    question_mark_is_literal_in_uris: Slash "f?o*" &["f?o", "f?obar"], &["foo", "f?o/"];
    pieces_do_not_overlap: Dot "aba*aba" &["abaaba", "abaXaba"], &["aba", "ababa"];
    first_and_last_overlap_with_marks: Dot "a?*?b" &["axyb", "axxxxb"], &["axb", "ab"];
    middle_pieces_in_order: Dot "*b?d*bad*" &["xbcdybadz", "bcdbad"], &["badbcd", "bcdba"];
    case_matters: Dot "Host" &["Host"], &["host", "HOST"];
    backslash_is_plain: Dot "a\\*b" &["a\\b", "a\\xb"], &["a*b"];
    newline_is_a_character: Dot "foo" &["foo"], &["foo\n", "\nfoo"];
    brackets_are_plain: Dot "[a-z]{1}" &["[a-z]{1}"], &["a", "b1"];
}

#[test]
fn masked_pieces_longer_than_a_machine_word_match() {
    let long = "0123456789".repeat(13);
    let pattern = Pattern::new(&format!("a*?{long}?*z"), Separator::Dot);
    assert!(pattern.matches(&format!("a--é{long}é--z")));
    assert!(!pattern.matches(&format!("a--é{long}z")));
}

#[test]
fn hostile_patterns_stay_linear() {
    // Exponential or quadratic matching of these would take from seconds to forever.
    let value = "a".repeat(64 * 1024);
    for text in ["*a".repeat(2_000) + "b", "*?a".repeat(1_300) + "b", "?".repeat(4_000) + "*b"] {
        assert!(!Pattern::new(&text, Separator::Dot).matches(&value));
    }
}

fn swap(text: &str, separator: Separator) -> String {
    match separator {
        Separator::Slash => text.to_owned(),
        Separator::Dot => text
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
    }
}

/// globset with literal separators is an independent implementation of the same grammar, once everything it would
/// interpret and we do not stands in a character class. Its separator is always `/`, and its `?` is a byte, so this is for ASCII.
fn oracle(pattern: &str, separator: Separator) -> GlobMatcher {
    let mut escaped = String::new();
    for character in swap(pattern, separator).chars() {
        match character {
            '*' if escaped.ends_with('*') => {}
            '*' | '/' => escaped.push(character),
            '?' if separator.has_single_wildcard() => escaped.push('?'),
            other => escaped.extend(['[', other, ']']),
        }
    }
    GlobBuilder::new(&escaped).literal_separator(true).build().unwrap().compile_matcher()
}

fn agrees(pattern: &str, value: &str, separator: Separator) {
    let ours = Pattern::new(pattern, separator).matches(value);
    let theirs = oracle(pattern, separator).is_match(swap(value, separator));
    assert_eq!(ours, theirs, "pattern {pattern:?} value {value:?} separator {separator:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn agrees_with_globset(pattern in "[ab*?./\\[]{0,12}", value in "[ab?./\\[]{0,14}", slash: bool) {
        agrees(&pattern, &value, if slash { Separator::Slash } else { Separator::Dot });
    }

    #[test]
    fn a_pattern_without_wildcards_is_equality(text in "[^*?]{0,20}", value in "[^*?]{0,20}") {
        for separator in [Separator::Dot, Separator::Slash] {
            prop_assert!(Pattern::new(&text, separator).matches(&text));
            prop_assert_eq!(Pattern::new(&text, separator).matches(&value), text == value);
        }
    }
}

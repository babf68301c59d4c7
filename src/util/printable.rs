//! Text of others, made fit for a log line, a message or a terminal: nothing in it is obeyed by what shows it, and it is
//! short.
//!
//! Invariants:
//! 1. Control characters, line breaks and what changes the direction of writing are always escaped.
//! 2. The result is bounded by the [`Limit`], however long the text is, and no more of the text is read than it takes.

/// Which characters are escaped, beside those that cannot be printed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As `{:?}` does it to a single character: quotes, backslashes and marks that combine with the letter before them.
    /// Letters of every alphabet stay.
    Debug,
    /// As `{:?}` does it to a text: as [`Escape::Debug`], but a mark stays with its letter.
    DebugText,
    /// As [`Escape::Debug`], but quotes stay: for where nothing stands between quotes.
    DebugButQuotes,
    /// Quotes, backslashes and everything beyond ASCII.
    Ascii,
    /// Everything beyond ASCII and nothing within it, so that what was escaped already stays as it is.
    BeyondAscii,
}

/// How much is kept. An escape is cut in two where a limit of the result ends in its middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many bytes of the result.
    Bytes(usize),
    /// So many characters of the result.
    Chars(usize),
    /// So many characters of the text, each with all of its escape; `...` stands for the rest.
    TextChars(usize),
}

/// `text`, escaped and cut.
#[must_use]
pub fn printable(text: &str, escape: Escape, limit: Limit) -> String {
    match limit {
        Limit::Bytes(most) => {
            let mut out = String::new();
            for character in escaped(text, escape) {
                if out.len() + character.len_utf8() > most {
                    break;
                }
                out.push(character);
            }
            out
        }
        Limit::Chars(most) => escaped(text, escape).take(most).collect(),
        Limit::TextChars(most) => {
            let end = text.char_indices().nth(most).map(|(end, _)| end);
            let mut out: String = escaped(&text[..end.unwrap_or(text.len())], escape).collect();
            if end.is_some() {
                out.push_str("...");
            }
            out
        }
    }
}

fn escaped(text: &str, escape: Escape) -> Box<dyn Iterator<Item = char> + '_> {
    match escape {
        Escape::Debug => Box::new(text.chars().flat_map(char::escape_debug)),
        Escape::DebugText => Box::new(text.escape_debug()),
        Escape::DebugButQuotes => Box::new(unless(text, |c| matches!(c, '"' | '\''), char::escape_debug)),
        Escape::Ascii => Box::new(text.chars().flat_map(char::escape_default)),
        Escape::BeyondAscii => Box::new(unless(text, |c| matches!(c, ' '..='~'), char::escape_default)),
    }
}

/// Each character as it is if `keep` says so, or else escaped.
fn unless<E: Iterator<Item = char>>(
    text: &str,
    keep: fn(char) -> bool,
    escape: fn(char) -> E,
) -> impl Iterator<Item = char> {
    text.chars().flat_map(move |c| {
        let (kept, escaped) = if keep(c) { (Some(c), None) } else { (None, Some(escape(c))) };
        kept.into_iter().chain(escaped.into_iter().flatten())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Escape; 5] =
        [Escape::Debug, Escape::DebugText, Escape::DebugButQuotes, Escape::Ascii, Escape::BeyondAscii];

    #[test]
    fn escapes_differ_in_quotes_marks_and_what_is_beyond_ascii() {
        let cases = [
            ("plain", ["plain"; 5]),
            ("\n\u{1b}[2J", ["\\n\\u{1b}[2J"; 5]),
            ("x\u{202e}y", ["x\\u{202e}y"; 5]),
            ("it's \"a\"", [r#"it\'s \"a\""#, r#"it\'s \"a\""#, r#"it's "a""#, r#"it\'s \"a\""#, r#"it's "a""#]),
            ("\\", ["\\\\", "\\\\", "\\\\", "\\\\", "\\"]),
            ("é", ["é", "é", "é", "\\u{e9}", "\\u{e9}"]),
            ("e\u{301}", ["e\\u{301}", "e\u{301}", "e\\u{301}", "e\\u{301}", "e\\u{301}"]),
            ("\u{301}e", ["\\u{301}e"; 5]),
        ];
        for (text, expected) in cases {
            for (escape, expected) in ALL.into_iter().zip(expected) {
                assert_eq!(printable(text, escape, Limit::Chars(100)), expected, "{escape:?}");
            }
        }
    }

    #[test]
    fn limits_are_of_the_result_or_of_the_text() {
        for (text, limit, expected) in [
            ("ééé", Limit::Bytes(6), "ééé"),
            ("ééé", Limit::Bytes(5), "éé"),
            ("ééé", Limit::Chars(2), "éé"),
            ("ééé", Limit::TextChars(3), "ééé"),
            ("ééé", Limit::TextChars(2), "éé..."),
            ("ééé", Limit::TextChars(0), "..."),
            ("\n\n", Limit::Bytes(3), "\\n\\"),
            ("\n\n", Limit::Chars(3), "\\n\\"),
            ("\n\n", Limit::TextChars(1), "\\n..."),
            ("", Limit::Bytes(0), ""),
            ("a", Limit::Chars(0), ""),
            ("", Limit::TextChars(0), ""),
        ] {
            assert_eq!(printable(text, Escape::Debug, limit), expected, "{text:?} {limit:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_comes_through(text: String, most in 0..64_usize) {
            for escape in ALL {
                let bytes = printable(&text, escape, Limit::Bytes(most));
                proptest::prop_assert!(bytes.len() <= most);
                let chars = printable(&text, escape, Limit::Chars(most));
                proptest::prop_assert!(chars.chars().count() <= most);
                let of_text = printable(&text, escape, Limit::TextChars(most));
                for shown in [bytes, chars, of_text] {
                    proptest::prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
                }
            }
        }

        #[test]
        fn what_is_beyond_ascii_is_escaped_once(text: String) {
            let once = printable(&text, Escape::BeyondAscii, Limit::Bytes(1000));
            proptest::prop_assert_eq!(printable(&once, Escape::BeyondAscii, Limit::Bytes(1000)), once);
        }
    }
}

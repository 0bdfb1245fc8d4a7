//! The operator's name of a stream, as `POST /streams` takes it: a number or a text.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the operator calls a stream. Comes back as it was given; two ids with the same text are the same
/// in a path, so they are duplicates of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a whole number from 0 to 18446744073709551615 or a string")]
pub enum SourceId {
    /// A JSON number.
    Number(u64),
    /// A JSON string: 1 to 128 bytes of printable characters.
    Text(String),
}

impl SourceId {
    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Number(_) => None,
            Self::Text(text) if text.is_empty() => Some("is empty"),
            Self::Text(text) if text.len() > MAX_BYTES => Some("is longer than 128 bytes"),
            Self::Text(text) if !text.chars().all(is_printable) => {
                Some("holds a character that cannot be printed")
            }
            Self::Text(_) => None,
        }
    }

    /// The number in the session description's `o=`: its own, else one that its text always gives.
    pub fn source_number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.parse().unwrap_or_else(|_| fnv_1a(text) >> 1),
        }
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// No control character, and none that hides or reorders its neighbours in a log line or a page.
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}')
}

/// FNV-1a, 64 bits: stable over releases, which the standard library's hash is not.
fn fnv_1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

const MAX_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(json: &str) -> SourceId {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn comes_back_as_it_was_given() {
        for json in ["7", "\"7\"", "18446744073709551615", "\"Tür 3/Hof\""] {
            assert_eq!(serde_json::to_string(&id(json)).unwrap(), json);
        }
    }

    #[test]
    fn number_and_text_share_their_path_text() {
        assert_eq!(id("7").to_string(), id("\"7\"").to_string());
    }

    #[test]
    fn other_json_is_refused() {
        for json in ["-1", "1.5", "true", "null", "[]", "{}", "18446744073709551616"] {
            assert!(serde_json::from_str::<SourceId>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn bounds_of_a_text() {
        assert_eq!(SourceId::Text("x".repeat(128)).fault(), None);
        for text in [String::new(), "x".repeat(129), "a\nb".into(), "a\u{202e}b".into()] {
            assert!(SourceId::Text(text).fault().is_some());
        }
    }

    #[test]
    fn the_number_of_a_text_is_stable() {
        assert_eq!(id("\"7\"").source_number(), 7);
        assert_eq!(id("\"front door\"").source_number(), id("\"front door\"").source_number());
        assert_ne!(id("\"a\"").source_number(), id("\"b\"").source_number());
    }
}

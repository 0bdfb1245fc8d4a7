//! `a=fingerprint` (RFC 8122 section 5).

use std::fmt;
use std::str::FromStr;

use super::printable;

/// The hash of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Lower case: `sha-256`, `sha-384` or `sha-512`; weaker ones are not taken.
    pub algorithm: String,
    /// The hash.
    pub bytes: Vec<u8>,
}

/// Why a fingerprint is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// A hash function that is weaker than SHA-256, or unknown.
    #[error("{0} is not sha-256 or better")]
    Algorithm(String),
    /// Not pairs of hexadecimal digits with colons between, or not as many as the algorithm gives.
    #[error("not a hash of {0}")]
    Hash(&'static str),
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads `sha-256 AB:CD:…`, in either case.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let text = text.trim();
        let (name, hash) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let Some((algorithm, len)) = ALGORITHMS.into_iter().find(|(it, _)| it.eq_ignore_ascii_case(name))
        else {
            return Err(FingerprintError::Algorithm(printable(name)));
        };
        let bytes = bytes_of_hex(hash.trim(), len).ok_or(FingerprintError::Hash(algorithm))?;
        Ok(Self { algorithm: algorithm.to_owned(), bytes })
    }
}

impl fmt::Display for Fingerprint {
    /// As `a=fingerprint:` has it: `sha-256 AB:CD:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.algorithm)?;
        for (index, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

/// `len` bytes out of exactly that many pairs of digits.
fn bytes_of_hex(text: &str, len: usize) -> Option<Vec<u8>> {
    if text.len() != len * 3 - 1 {
        return None;
    }
    text.split(':').map(byte_of_hex).collect()
}

fn byte_of_hex(pair: &str) -> Option<u8> {
    // `from_str_radix` alone would take a sign.
    let digits = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
}

/// Those that are strong enough, and how many bytes they give.
const ALGORITHMS: [(&str, usize); 3] = [("sha-256", 32), ("sha-384", 48), ("sha-512", 64)];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_both_cases_and_writes_upper() {
        let hash = ["0a"; 31].join(":") + ":fF";
        let fingerprint: Fingerprint = format!("SHA-256 {hash}").parse().unwrap();
        assert_eq!((fingerprint.algorithm.as_str(), fingerprint.bytes.len()), ("sha-256", 32));
        assert_eq!((fingerprint.bytes[0], fingerprint.bytes[31]), (0x0a, 0xff));
        assert_eq!(fingerprint.to_string(), format!("sha-256 {}", hash.to_uppercase()));
    }

    #[test]
    fn names_what_is_too_weak() {
        for weak in ["sha-1 AB:CD", "md5 00", "sha-224 00", "", "sha256 AB"] {
            let name = weak.split(' ').next().unwrap_or_default().to_owned();
            assert_eq!(weak.parse::<Fingerprint>(), Err(FingerprintError::Algorithm(name)));
        }
    }

    #[test]
    fn takes_no_other_length_or_form() {
        let good = ["AB"; 32].join(":");
        for bad in [
            "".to_owned(),
            ["AB"; 31].join(":"),
            ["AB"; 33].join(":"),
            good.replace(':', " "),
            good.replacen("AB:AB", "ABA:B", 1),
            good.replacen("AB", "+1", 1),
            good.replacen("AB:", "é:", 1),
            "AB".repeat(32),
        ] {
            assert_eq!(
                format!("sha-256 {bad}").parse::<Fingerprint>(),
                Err(FingerprintError::Hash("sha-256")),
                "{bad}"
            );
        }
        assert!(format!("sha-384 {good}").parse::<Fingerprint>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(which in 0..3usize, seed in any::<u8>()) {
            let (algorithm, len) = ALGORITHMS[which];
            let bytes = (0..len).map(|index| seed.wrapping_mul(31).wrapping_add(index as u8)).collect();
            let fingerprint = Fingerprint { algorithm: algorithm.to_owned(), bytes };
            prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        }

        #[test]
        fn never_panics(text in "(sha-256 )?\\PC{0,120}") {
            let _ = text.parse::<Fingerprint>();
        }
    }
}

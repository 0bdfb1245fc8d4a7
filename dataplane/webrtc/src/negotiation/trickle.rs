//! Candidates and credentials after the answer (`application/trickle-ice-sdpfrag`, RFC 8840 section 9; as WHIP uses
//! it: RFC 9725 section 4.3).

use super::candidate::{Candidate, RemoteCandidate, write_candidates};
use super::offer::{OfferError, check_bounds, parse_session};
use super::transport::{CANDIDATES_MAX, Transport};
use crate::ice::IceCredentials;

/// A `PATCH` body (`application/trickle-ice-sdpfrag`, RFC 8840).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrickleFragment {
    /// Credentials, where given: others than the session's mean an ICE restart.
    pub ice: Option<IceCredentials>,
    /// Candidates, bounded.
    pub candidates: Vec<RemoteCandidate>,
    /// `a=end-of-candidates`.
    pub ended: bool,
}

impl TrickleFragment {
    /// Parses a fragment.
    ///
    /// # Errors
    /// When it is not one within our bounds.
    pub fn parse(body: &str) -> Result<Self, OfferError> {
        check_bounds(body)?;
        // A fragment is a description that begins at its first attribute.
        let session = parse_session(&format!("{FIRST_LINE}{body}"))?;
        let levels =
            std::iter::once(&session.attributes).chain(session.medias.iter().map(|media| &media.attributes));
        let mut fragment = Self { ice: None, candidates: vec![], ended: false };
        for attributes in levels {
            fragment.add(Transport::parse(attributes).map_err(OfferError::Malformed)?);
        }
        Ok(fragment)
    }

    /// What one level says; credentials are the same in all that we answer, so the first count.
    fn add(&mut self, level: Transport) {
        self.ice = self.ice.take().or(level.ice);
        self.ended |= level.ended;
        for candidate in level.candidates {
            if self.candidates.len() < CANDIDATES_MAX && !self.candidates.contains(&candidate) {
                self.candidates.push(candidate);
            }
        }
    }
}

/// Our side's fragment, the answer to an ICE restart.
pub fn write_trickle_fragment(mid: &str, ice: &IceCredentials, candidates: &[Candidate]) -> String {
    let IceCredentials { ufrag, password } = ice;
    // RFC 8840 section 9: `m=` only tells sections apart; its port, protocol and format are always these.
    let mut out = format!(
        "a=ice-lite\r\n\
         a=ice-options:trickle ice2\r\n\
         m=video 9 RTP/AVP 0\r\n\
         a=mid:{mid}\r\n\
         a=ice-ufrag:{ufrag}\r\n\
         a=ice-pwd:{password}\r\n"
    );
    write_candidates(&mut out, candidates);
    out
}

/// What a description needs and a fragment lacks.
const FIRST_LINE: &str = "v=0\r\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::negotiation::CandidateKind;

    fn addresses(fragment: &TrickleFragment) -> Vec<String> {
        fragment.candidates.iter().map(|it| it.address.to_string()).collect()
    }

    #[test]
    fn reads_the_example_of_whip() {
        // RFC 9725 section 4.3.2, with a name and a TCP candidate put in.
        let fragment = TrickleFragment::parse(
            "a=ice-ufrag:EsAw\r\n\
             a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
             m=audio 9 RTP/AVP 0\r\n\
             a=mid:0\r\n\
             a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
             a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host generation 0 ufrag EsAw network-id 2\r\n\
             a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0 ufrag EsAw network-id 1\r\n\
             a=candidate:1 1 udp 1 0f14f4d4-5d3a-4f0e-8f5b-0c1d2e3f4a5b.local 4000 typ host\r\n\
             a=end-of-candidates\r\n",
        )
        .unwrap();
        assert_eq!(fragment.ice.as_ref().map(|it| it.ufrag.as_str()), Some("EsAw"));
        assert_eq!(addresses(&fragment), ["192.0.2.1:61764", "198.51.100.2:61765"]);
        assert!(fragment.ended);
    }

    #[test]
    fn reads_credentials_and_candidates_of_either_level() {
        let fragment = TrickleFragment::parse(
            "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n",
        )
        .unwrap();
        assert_eq!((fragment.ice.unwrap().ufrag.as_str(), fragment.ended), ("abcd", false));
        let fragment = TrickleFragment::parse("a=candidate:1 1 udp 1 2001:db8::7 4000 typ host").unwrap();
        assert_eq!(addresses(&fragment), ["[2001:db8::7]:4000"]);
        assert_eq!(fragment.ice, None);
    }

    #[test]
    fn a_candidate_of_several_sections_counts_once() {
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\n";
        let body = format!(
            "m=audio 9 RTP/AVP 0\r\na=mid:0\r\n{candidate}m=video 9 RTP/AVP 0\r\na=mid:1\r\n{candidate}"
        );
        assert_eq!(addresses(&TrickleFragment::parse(&body).unwrap()), ["192.0.2.1:4000"]);
    }

    #[test]
    fn refuses_what_is_no_fragment() {
        for body in [
            "nonsense",
            "{}",
            "a=ice-ufrag:abcd\r\n",
            "a=ice-ufrag:a\r\na=ice-pwd:b\r\n",
            "v=0\r\nv=0\r\nxx=\r\n",
        ] {
            assert!(TrickleFragment::parse(body).is_err(), "{body}");
        }
        let many = "a=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\n".repeat(1000);
        assert!(TrickleFragment::parse(&many).unwrap_err().to_string().contains("1000 candidates"));
        assert_eq!(
            TrickleFragment::parse("").unwrap(),
            TrickleFragment { ice: None, candidates: vec![], ended: false },
            "nothing is said, which hurts nobody"
        );
    }

    #[test]
    fn our_own_fragment_reads_the_same() {
        let ice = IceCredentials { ufrag: "local123".to_owned(), password: "p".repeat(24) };
        let candidate = Candidate { address: "192.0.2.9:5000".parse().unwrap(), kind: CandidateKind::Host };
        let text = write_trickle_fragment("1", &ice, &[candidate]);
        assert_eq!(
            text,
            "a=ice-lite\r\na=ice-options:trickle ice2\r\nm=video 9 RTP/AVP 0\r\na=mid:1\r\na=ice-ufrag:local123\r\n\
             a=ice-pwd:pppppppppppppppppppppppp\r\na=candidate:1 1 udp 2130706431 192.0.2.9 5000 typ host\r\n\
             a=end-of-candidates\r\n"
        );
        let read = TrickleFragment::parse(&text).unwrap();
        assert_eq!((addresses(&read), read.ended), (vec!["192.0.2.9:5000".to_owned()], true));
        assert_eq!(read.ice, Some(ice));
    }

    proptest! {
        #[test]
        fn never_panics(body in "\\PC{0,200}", lines in proptest::collection::vec("[vma]=[a-z0-9:. /-]{0,40}", 0..20)) {
            let _ = TrickleFragment::parse(&body);
            let _ = TrickleFragment::parse(&lines.join("\r\n"));
        }
    }
}

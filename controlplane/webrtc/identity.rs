//! What is drawn at random for each WebRTC session, and the shard's name in its ufrag.

use lanecast_webrtc::ice::IceCredentials;

/// What a session says of us, besides what all sessions say.
#[derive(Debug)]
pub struct Identity {
    /// Our ICE credentials.
    pub ice: IceCredentials,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of the retransmissions, another.
    pub rtx_ssrc: u32,
    /// CNAME (RFC 7022 section 4.2: 96 bits or more).
    pub cname: String,
    /// `o=` session number (RFC 9429 section 5.2.1: positive, 63 bits).
    pub session_number: u64,
}

impl Identity {
    /// A new one for a session on this shard.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random(shard: usize) -> Result<Self, getrandom::Error> {
        let ssrc = random_ssrc()?;
        let mut rtx_ssrc = random_ssrc()?;
        while rtx_ssrc == ssrc {
            rtx_ssrc = random_ssrc()?;
        }
        Ok(Self {
            ice: random_credentials(shard)?,
            ssrc,
            rtx_ssrc,
            cname: random_text(CNAME_CHARS)?,
            session_number: u64::from_ne_bytes(random()?) >> 2 | 1,
        })
    }
}

/// ICE credentials whose ufrag names the shard (RFC 8445 section 5.3).
///
/// # Errors
/// When the system has no random numbers.
pub fn random_credentials(shard: usize) -> Result<IceCredentials, getrandom::Error> {
    let [high, low] = shard_prefix(shard);
    let mut ufrag = String::from_iter([char::from(high), char::from(low)]);
    ufrag += &random_text(UFRAG_CHARS)?;
    Ok(IceCredentials { ufrag, password: random_text(PASSWORD_CHARS)? })
}

/// The shard that a ufrag of ours names; of a foreign one, any number.
pub fn shard_of(ufrag: &str) -> Option<usize> {
    let digit = |byte: u8| ALPHABET.iter().position(|letter| *letter == byte);
    let [high, low, ..] = ufrag.as_bytes() else { return None };
    Some(digit(*high)? * ALPHABET.len() + digit(*low)?)
}

fn shard_prefix(shard: usize) -> [u8; 2] {
    let letter = |digit: usize| ALPHABET[digit % ALPHABET.len()];
    [letter(shard / ALPHABET.len()), letter(shard)]
}

fn random_ssrc() -> Result<u32, getrandom::Error> {
    loop {
        match u32::from_ne_bytes(random()?) {
            0 => {}
            ssrc => return Ok(ssrc),
        }
    }
}

fn random_text(chars: usize) -> Result<String, getrandom::Error> {
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let bytes: [u8; 32] = random()?;
        // Only as many values as letters divide into, so that all letters are equally likely.
        let letters = bytes.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let letters = letters.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        text.extend(letters.take(chars - text.len()));
    }
    Ok(text)
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// The ice-chars (RFC 8839 section 5.4) that stand for themselves in a path, a header and a shell. Two name more shards
/// than the settings allow.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// 71 bits: no two sessions ever have the same fragment.
const UFRAG_CHARS: usize = 12;
/// 142 bits; RFC 8445 asks for 128.
const PASSWORD_CHARS: usize = 24;
/// 119 bits.
const CNAME_CHARS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_ufrag_names_its_shard() {
        for shard in [0, 1, 61, 62, 1023] {
            assert_eq!(shard_of(&random_credentials(shard).unwrap().ufrag), Some(shard));
        }
        assert_eq!((shard_of(""), shard_of("A"), shard_of("+A12"), shard_of("ü0")), (None, None, None, None));
    }

    #[test]
    fn credentials_are_ice_chars_of_the_right_length() {
        let ice = random_credentials(1023).unwrap();
        assert_eq!((ice.ufrag.len(), ice.password.len()), (14, 24));
        assert!((ice.ufrag + &ice.password).bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn nothing_is_drawn_twice() {
        let drawn: Vec<Identity> = (0..1000).map(|_| Identity::random(0).unwrap()).collect();
        let distinct = |of: fn(&Identity) -> String| drawn.iter().map(of).collect::<HashSet<_>>().len();
        assert_eq!(distinct(|identity| identity.ice.ufrag.clone()), 1000);
        assert_eq!(distinct(|identity| identity.ice.password.clone()), 1000);
        assert_eq!(distinct(|identity| identity.cname.clone()), 1000);
        assert_eq!(distinct(|identity| identity.session_number.to_string()), 1000);
        assert!(drawn.iter().all(|identity| {
            identity.ssrc != 0 && identity.rtx_ssrc != 0 && identity.ssrc != identity.rtx_ssrc
        }));
        assert!(drawn.iter().all(|identity| (1..1 << 62).contains(&identity.session_number)));
    }
}

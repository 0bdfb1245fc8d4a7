//! Against an independent implementation (`rtc-srtp`), packet by packet and byte by byte, and against hostile ones.

use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::crypto::RTCCryptoProvider;
use rtc_srtp::crypto::providers::RingProvider;
use rtc_srtp::protection_profile::ProtectionProfile;

use super::*;
use bytes::BytesMut;

const PROFILES: [SrtpProfile; 2] = [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];
const SSRC: u32 = 0xCAFE_BABE;

/// Bytes written in hexadecimal, with any space between them.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn master(profile: SrtpProfile, seed: u8) -> MasterKey {
    let salt = (0..profile.salt_bytes() as u8).map(|at| at.wrapping_mul(37) ^ seed).collect();
    MasterKey { key: std::array::from_fn(|at| (at as u8).wrapping_mul(11) ^ seed), salt }
}

fn keys(profile: SrtpProfile) -> SrtpKeys {
    SrtpKeys { profile, local: master(profile, 0x5A), remote: master(profile, 0xC3) }
}

/// The other implementation, with one direction's key.
fn theirs(profile: SrtpProfile, master: &MasterKey) -> Context {
    let named = match profile {
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(&master.key, &master.salt, named, None, None, RingProvider::new().crypto()).unwrap()
}

/// Header and its length, then the payload.
fn rtp(sequence: u16, csrcs: u8, extension_words: Option<u16>, payload: &[u8]) -> (Vec<u8>, usize) {
    let mut packet = vec![0x80 | csrcs | u8::from(extension_words.is_some()) << 4, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([1, 2, 3, 4]);
    packet.extend(SSRC.to_be_bytes());
    (0..csrcs).for_each(|csrc| packet.extend([9, 9, 9, csrc]));
    if let Some(words) = extension_words {
        packet.extend([0xBE, 0xDE]);
        packet.extend(words.to_be_bytes());
        // Elements of one word: id 3, three bytes.
        (0..words).for_each(|word| packet.extend([0x32, 7, 7, word as u8]));
    }
    let header_bytes = packet.len();
    packet.extend(payload);
    (packet, header_bytes)
}

fn seal(sealer: &RtpSealer, plain: &[u8], header_bytes: usize, index: u64) -> Vec<u8> {
    let mut packet = plain.to_vec();
    packet.resize(plain.len() + sealer.profile().tag_bytes(), 0);
    sealer.seal(&mut packet, header_bytes, index);
    packet
}

/// A receiver report without blocks, and `words` of an application's packet.
fn compound(ssrc: u32, words: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x80, 204, 0, words + 2]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(b"test");
    packet.extend((0..words).flat_map(|word| [word; 4]));
    packet
}

/// Who seals for our opener: our own sealer, with the peer's key.
fn peer(profile: SrtpProfile) -> RtcpSealer {
    let keys = keys(profile);
    session(&SrtpKeys { profile, local: keys.remote, remote: keys.local }).1
}

fn sealed(sealer: &mut RtcpSealer, compound: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    sealer.seal(compound, &mut out);
    out.to_vec()
}

#[test]
fn a_sealed_packet_is_what_another_seals_and_opens() {
    for profile in PROFILES {
        let keys = keys(profile);
        let (sealer, ..) = session(&keys);
        let (mut sealing, mut opening) = (theirs(profile, &keys.local), theirs(profile, &keys.local));
        // Steps of a quarter turn: the rollover counter comes to 5.
        for step in 0..24_u64 {
            let index = 0x3FF0 + step * 0x4000;
            let (plain, header_bytes) = rtp(index as u16, 0, Some(1), b"a picture's part");
            let packet = seal(&sealer, &plain, header_bytes, index);
            assert_eq!(packet, sealing.encrypt_rtp(&plain).unwrap(), "{profile:?} {index:#x}");
            assert_eq!(opening.decrypt_rtp(&packet).unwrap(), plain, "{profile:?} {index:#x}");
        }
    }
}

#[test]
fn a_rollover_in_the_middle_of_a_run_is_followed() {
    for profile in PROFILES {
        let keys = keys(profile);
        let (sealer, ..) = session(&keys);
        let mut opening = theirs(profile, &keys.local);
        for index in 0xFFF0..0x1_0010 {
            let (plain, header_bytes) = rtp(index as u16, 0, None, &[5; 100]);
            let packet = seal(&sealer, &plain, header_bytes, index);
            assert_eq!(opening.decrypt_rtp(&packet).unwrap(), plain, "{profile:?} {index:#x}");
        }
    }
}

#[test]
fn a_wrong_rollover_counter_is_not_authentic() {
    for profile in PROFILES {
        let keys = keys(profile);
        let (sealer, ..) = session(&keys);
        let (plain, header_bytes) = rtp(7, 0, None, b"payload");
        let packet = seal(&sealer, &plain, header_bytes, 0x1_0007);
        assert!(theirs(profile, &keys.local).decrypt_rtp(&packet).is_err());
    }
}

#[test]
fn equal_packets_under_other_indices_have_nothing_in_common() {
    for profile in PROFILES {
        let (sealer, ..) = session(&keys(profile));
        let (plain, header_bytes) = rtp(7, 0, None, &[0; 64]);
        let [first, second] = [7, 7 | 1 << 40].map(|index| seal(&sealer, &plain, header_bytes, index));
        assert_ne!(first[header_bytes..][..16], second[header_bytes..][..16]);
        assert_eq!(first[..header_bytes], plain[..header_bytes]);
    }
}

#[test]
fn rtcp_is_opened_by_another_and_counts_from_zero() {
    for profile in PROFILES {
        let keys = keys(profile);
        let (_, mut sealer, _) = session(&keys);
        let mut opening = theirs(profile, &keys.local);
        for index in 0..100_u32 {
            let plain = compound(SSRC ^ (index & 1), index as u8);
            let packet = sealed(&mut sealer, &plain);
            assert_eq!(packet.len(), plain.len() + profile.rtcp_trailer_bytes());
            assert_eq!(opening.decrypt_rtcp(&packet).unwrap(), plain);
            let after = if profile == SrtpProfile::AeadAes128Gcm { 0 } else { profile.tag_bytes() };
            assert_eq!(packet[..packet.len() - after].last_chunk(), Some(&(1 << 31 | index).to_be_bytes()));
        }
    }
}

#[test]
fn rtcp_of_another_opens_each_once_and_in_any_order() {
    for profile in PROFILES {
        let keys = keys(profile);
        let (_, _, mut opener) = session(&keys);
        let mut sealing = theirs(profile, &keys.remote);
        let plain: Vec<_> = (0..60).map(|words| compound(SSRC, words)).collect();
        let packets: Vec<_> = plain.iter().map(|plain| sealing.encrypt_rtcp(plain).unwrap()).collect();
        for (plain, packet) in plain.iter().zip(&packets).rev() {
            assert_eq!(opener.open(&mut packet.to_vec()).unwrap(), plain);
        }
        for packet in &packets {
            assert_eq!(opener.open(&mut packet.to_vec()), Err(OpenError::Replayed));
        }
    }
}

#[test]
fn sealing_appends() {
    for profile in PROFILES {
        let mut out = BytesMut::from(&b"before"[..]);
        let (first, second) = (compound(SSRC, 0), compound(SSRC, 3));
        let mut peer = peer(profile);
        peer.seal(&first, &mut out);
        peer.seal(&second, &mut out);
        assert_eq!(out[..6], *b"before");
        let (_, _, mut opener) = session(&keys(profile));
        let (one, two) = out[6..].split_at_mut(first.len() + profile.rtcp_trailer_bytes());
        assert_eq!(opener.open(one).unwrap(), first);
        assert_eq!(opener.open(two).unwrap(), second);
    }
}

#[test]
fn no_flipped_bit_passes_and_none_moves_the_window() {
    for profile in PROFILES {
        let (_, _, mut opener) = session(&keys(profile));
        let plain = compound(SSRC, 2);
        let packet = sealed(&mut peer(profile), &plain);
        for bit in 0..packet.len() * 8 {
            let mut flipped = packet.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opener.open(&mut flipped), Err(OpenError::Authentication), "{profile:?} bit {bit}");
        }
        assert_eq!(opener.open(&mut packet.clone()).unwrap(), plain);
        assert_eq!(opener.open(&mut packet.clone()), Err(OpenError::Replayed));
    }
}

#[test]
fn no_truncated_packet_passes() {
    for profile in PROFILES {
        let (_, _, mut opener) = session(&keys(profile));
        let packet = sealed(&mut peer(profile), &compound(SSRC, 9));
        for length in 0..packet.len() {
            let error = opener.open(&mut packet[..length].to_vec()).unwrap_err();
            let shortest = 8 + profile.rtcp_trailer_bytes();
            assert_eq!(error == OpenError::Short, length < shortest, "{profile:?} {length}: {error}");
        }
        assert!(opener.open(&mut packet.clone()).is_ok());
    }
}

#[test]
fn a_packet_of_a_header_alone_opens() {
    for profile in PROFILES {
        let (_, _, mut opener) = session(&keys(profile));
        let plain = &compound(SSRC, 0)[..8];
        assert_eq!(opener.open(&mut sealed(&mut peer(profile), plain)).unwrap(), plain);
    }
}

/// RFC 3711 section 3.4 allows E = 0 with a right tag; in WebRTC nothing goes unencrypted.
#[test]
fn what_is_authentic_but_not_encrypted_is_dropped() {
    let profile = SrtpProfile::Aes128CmHmacSha1_80;
    let keys = keys(profile);
    let derived = SessionKeys::derive(profile, &keys.remote, Direction::Rtcp);
    let mut packet = compound(SSRC, 1);
    packet.extend([0, 0, 0, 5]);
    let mac: hmac::Hmac<sha1::Sha1> = hmac::KeyInit::new_from_slice(&derived.authentication).unwrap();
    packet.extend(&hmac::Mac::finalize(hmac::Mac::chain_update(mac, &packet)).into_bytes()[..10]);
    assert_eq!(session(&keys).2.open(&mut packet), Err(OpenError::Authentication));
}

#[test]
fn the_wrong_direction_does_not_open() {
    for profile in PROFILES {
        let (_, mut sealer, mut opener) = session(&keys(profile));
        let mut reflected = sealed(&mut sealer, &compound(SSRC, 1));
        assert_eq!(opener.open(&mut reflected), Err(OpenError::Authentication));
    }
}

#[test]
fn forged_sources_take_no_place_and_a_ninth_is_dropped() {
    for profile in PROFILES {
        let (_, _, mut opener) = session(&keys(profile));
        for ssrc in 0..1000 {
            let mut forged = compound(ssrc, 9);
            let end = forged.len();
            forged[end - 14..].fill(0xFF);
            assert_eq!(opener.open(&mut forged), Err(OpenError::Authentication));
        }
        let mut peer = peer(profile);
        for ssrc in 0..8 {
            assert!(opener.open(&mut sealed(&mut peer, &compound(ssrc, 0))).is_ok());
        }
        let ninth = sealed(&mut peer, &compound(8, 0));
        assert_eq!(opener.open(&mut ninth.clone()), Err(OpenError::Sources));
        assert!(opener.open(&mut sealed(&mut peer, &compound(7, 0))).is_ok());
    }
}

#[test]
fn keys_stay_out_of_what_is_printed() {
    for profile in PROFILES {
        let keys = keys(profile);
        let (rtp, rtcp, opener) = session(&keys);
        let printed = format!("{keys:?} {rtp:?} {rtcp:?} {opener:?}");
        assert!(!printed.contains('['), "{printed}");
    }
}

/// What a viewer pays. The expanded GCM key is the largest part, and the only one that is worth its memory.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_viewer_costs_less_than_800_bytes() {
    assert!(size_of::<RtpSealer>() <= 576, "{}", size_of::<RtpSealer>());
    assert_eq!(size_of::<RtcpSealer>(), 56);
    assert!(size_of::<RtcpOpener>() <= 112, "{}", size_of::<RtcpOpener>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_header_and_payload_are_sealed_as_another_seals_them(
        sequence: u16,
        csrcs in 0_u8..16,
        extension_words in prop::option::of(0_u16..20),
        payload in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        for profile in PROFILES {
            let keys = keys(profile);
            let (sealer, ..) = session(&keys);
            let (plain, header_bytes) = rtp(sequence, csrcs, extension_words, &payload);
            let packet = seal(&sealer, &plain, header_bytes, u64::from(sequence));
            prop_assert_eq!(&packet[..], &theirs(profile, &keys.local).encrypt_rtp(&plain).unwrap()[..]);
            prop_assert_eq!(&plain[..], &theirs(profile, &keys.local).decrypt_rtp(&packet).unwrap()[..]);
        }
    }

    #[test]
    fn any_compound_comes_through(body in prop::collection::vec(any::<u8>(), 0..1500)) {
        for profile in PROFILES {
            let (_, _, mut opener) = session(&keys(profile));
            let plain = [&compound(SSRC, 0)[..8], &body].concat();
            let mut packet = sealed(&mut peer(profile), &plain);
            prop_assert_eq!(&theirs(profile, &keys(profile).remote).decrypt_rtcp(&packet).unwrap()[..], &plain[..]);
            prop_assert_eq!(opener.open(&mut packet).unwrap(), &plain[..]);
        }
    }

    #[test]
    fn no_garbage_opens(mut garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        for profile in PROFILES {
            prop_assert!(session(&keys(profile)).2.open(&mut garbage).is_err());
        }
    }
}

//! SRTP and SRTCP of a light peer (RFC 3711, RFC 7714), by `rtc-srtp`.
//!
//! Which packets are opened at all is decided elsewhere.

use std::fmt;

use bytes::BytesMut;
use rtc::crypto::RTCCrypto;
use rtc::srtp::config::Config;
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;

use crate::peer::dtls::{Keying, Profile};

/// Both directions of one viewer.
pub struct Srtp {
    inbound: Context,
    outbound: Context,
}

impl fmt::Debug for Srtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Srtp")
    }
}

impl Srtp {
    /// Derives the session keys.
    ///
    /// # Errors
    /// When the keying material does not fit its profile.
    pub fn new(keying: &Keying, crypto: &dyn RTCCrypto) -> Result<Self, String> {
        let profile = match keying.profile {
            Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Profile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let mut config = Config { profile, ..Config::default() };
        let describe = |error| format!("srtp: {error}");
        config.set_session_keys_from_keying_material(&keying.material, keying.is_client).map_err(describe)?;
        let keys = &config.keys;
        let context =
            |key: &[u8], salt: &[u8]| Context::new(key, salt, profile, None, None, crypto).map_err(describe);
        Ok(Self {
            inbound: context(&keys.remote_master_key, &keys.remote_master_salt)?,
            outbound: context(&keys.local_master_key, &keys.local_master_salt)?,
        })
    }

    /// The packet in the clear, header included; none when it is not authentic. To follow the roll-over counter,
    /// one in 2^15 packets of an SSRC has to come here.
    pub fn open_rtp(&mut self, sealed: &[u8]) -> Option<BytesMut> {
        self.inbound.decrypt_rtp(sealed).ok()
    }

    /// The compound packet in the clear; none when it is not authentic.
    pub fn open_rtcp(&mut self, sealed: &[u8]) -> Option<BytesMut> {
        self.inbound.decrypt_rtcp(sealed).ok()
    }

    /// The compound packet sealed; none for one that is no RTCP.
    pub fn seal_rtcp(&mut self, plain: &[u8]) -> Option<BytesMut> {
        self.outbound.encrypt_rtcp(plain).ok()
    }
}

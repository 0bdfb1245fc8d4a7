//! The DTLS handshake of a light peer, by `rtc-dtls`, in either role, and the SRTP keys that it gives (RFC 5764).
//!
//! Which datagrams are DTLS is decided by the caller: a first byte of 20 to 63 (RFC 7983).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::ValueEnum;
use rtc::crypto::RTCCryptoProvider;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error;
use rtc::srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::clock::Moment;

/// Which SRTP profiles are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SrtpOffer {
    /// SHA1_80, then AES-128-GCM, as browsers do.
    #[default]
    Both,
    /// AEAD_AES_128_GCM alone.
    Gcm,
    /// AES128_CM_HMAC_SHA1_80 alone.
    Sha1,
}

/// A negotiated SRTP profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Profile {
    /// RFC 7714.
    #[serde(rename = "AEAD_AES_128_GCM")]
    AeadAes128Gcm,
    /// RFC 5764.
    #[serde(rename = "AES128_CM_HMAC_SHA1_80")]
    Aes128CmHmacSha1_80,
}

/// The certificate that all viewers of a run share, and how they shake hands.
#[derive(Clone)]
pub struct Identity {
    template: ConfigBuilder,
    fingerprint: String,
    provider: Arc<dyn RTCCryptoProvider>,
    clock: (Moment, Instant),
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes a new certificate.
    ///
    /// # Errors
    /// When the cryptography refuses.
    pub fn new(offer: SrtpOffer) -> Result<Self, String> {
        let provider = rtc::crypto::default_provider().map_err(|error| error.to_string())?;
        let names = vec!["viewer".to_owned()];
        let certificate =
            Certificate::generate_self_signed(names, provider.crypto()).map_err(|error| error.to_string())?;
        let fingerprint = format!("sha-256 {}", hex(&certificate.certificate[0]));
        let template = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&provider))
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(offer.profiles())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_flight_interval(FLIGHT_INTERVAL)
            .with_insecure_skip_verify(true);
        Ok(Self { template, fingerprint, provider, clock: (Moment::now(), Instant::now()) })
    }

    /// `sha-256 AB:CD:…`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The cryptography.
    pub fn provider(&self) -> &dyn RTCCryptoProvider {
        self.provider.as_ref()
    }

    /// `rtc-dtls` counts in `Instant`s.
    fn instant(&self, now: Moment) -> Instant {
        self.clock.1 + now.since(self.clock.0)
    }

    fn moment(&self, instant: Instant) -> Moment {
        self.clock.0 + instant.saturating_duration_since(self.clock.1)
    }
}

impl SrtpOffer {
    fn profiles(self) -> Vec<SrtpProtectionProfile> {
        use SrtpProtectionProfile::{Srtp_Aead_Aes_128_Gcm as Gcm, Srtp_Aes128_Cm_Hmac_Sha1_80 as Sha1};
        match self {
            Self::Both => vec![Sha1, Gcm],
            Self::Gcm => vec![Gcm],
            Self::Sha1 => vec![Sha1],
        }
    }
}

/// What a handshake ends in.
#[derive(Clone, PartialEq, Eq)]
pub struct Keying {
    /// The profile.
    pub profile: Profile,
    /// Exported keying material: client key, server key, client salt, server salt.
    pub material: Vec<u8>,
    /// Whether this side was the client.
    pub is_client: bool,
}

impl fmt::Debug for Keying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keying").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What came of a datagram.
#[derive(Debug)]
pub enum Progress {
    /// Nothing yet.
    Waiting,
    /// The handshake is done.
    Connected(Keying),
    /// The other side said good-bye.
    Closed,
}

/// One association.
pub struct Handshake {
    identity: Arc<Identity>,
    endpoint: Endpoint,
    remote: SocketAddr,
    is_client: bool,
}

impl Handshake {
    /// As client it begins at once. `fingerprint` is what the other side's description says, in lower case.
    ///
    /// # Errors
    /// When `rtc-dtls` refuses.
    pub fn new(
        identity: Arc<Identity>,
        is_client: bool,
        remote: SocketAddr,
        fingerprint: &str,
        now: Moment,
    ) -> Result<Self, String> {
        let expected = fingerprint.to_owned();
        let verify = move |chain: &[Vec<u8>], _: &[_]| match chain.first() {
            Some(leaf) if fits(&expected, leaf) => Ok(()),
            _ => Err(Error::Other("the certificate does not fit the fingerprint".into())),
        };
        let template = identity.template.clone().with_verify_peer_certificate(Some(Arc::new(verify)));
        let config = Arc::new(template.build(is_client, Some(remote)).map_err(describe)?);
        let server_config = (!is_client).then(|| Arc::clone(&config));
        // Which local address is of no matter: there is one association.
        let mut endpoint = Endpoint::new(remote, TransportProtocol::UDP, server_config);
        if is_client {
            endpoint.connect(identity.instant(now), remote, config, None).map_err(describe)?;
        }
        Ok(Self { identity, endpoint, remote, is_client })
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// Why the association is over.
    pub fn handle_datagram(&mut self, now: Moment, bytes: &[u8]) -> Result<Progress, String> {
        let events = self.endpoint.read(self.identity.instant(now), self.remote, None, BytesMut::from(bytes));
        let mut progress = Progress::Waiting;
        for event in events.map_err(describe)? {
            match event {
                EndpointEvent::HandshakeComplete => progress = Progress::Connected(self.export()?),
                EndpointEvent::PeerClosed => return Ok(Progress::Closed),
                _ => {}
            }
        }
        Ok(progress)
    }

    /// Repeats what is due.
    ///
    /// # Errors
    /// When the other side has been silent for too long.
    pub fn handle_timeout(&mut self, now: Moment) -> Result<(), String> {
        let instant = self.identity.instant(now);
        if self.endpoint.poll_timeout(&self.remote).is_some_and(|due| due <= instant) {
            self.endpoint.handle_timeout(self.remote, instant).map_err(|error| match error {
                // So `rtc-dtls` calls the end of its repeats.
                Error::ErrInvalidFsmTransition => "dtls: the server does not answer any more".into(),
                error => describe(error),
            })?;
        }
        Ok(())
    }

    /// When [`Handshake::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        Some(self.identity.moment(self.endpoint.poll_timeout(&self.remote)?))
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message.to_vec())
    }

    /// Says good-bye; what is to be sent comes from [`Handshake::poll_transmit`].
    pub fn close(&mut self, now: Moment) {
        // It is over either way.
        let _ = self.endpoint.close(self.identity.instant(now));
    }

    fn export(&self) -> Result<Keying, String> {
        let state = self.endpoint.get_connection_state(self.remote).ok_or("dtls: no association")?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::Aes128CmHmacSha1_80,
            _ => return Err("dtls: no SRTP profile in common".into()),
        };
        let material = state
            .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], profile.material_bytes())
            .map_err(describe)?;
        Ok(Keying { profile, material: material.into_bytes(), is_client: self.is_client })
    }
}

impl Profile {
    /// Bytes of two keys and two salts.
    fn material_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 2 * (16 + 12),
            Self::Aes128CmHmacSha1_80 => 2 * (16 + 14),
        }
    }
}

fn describe(error: Error) -> String {
    format!("dtls: {error}")
}

/// `sha-256 aa:bb…` against a certificate; another hash than SHA-256 is not known.
fn fits(fingerprint: &str, certificate: &[u8]) -> bool {
    fingerprint.split_once(' ').is_some_and(|(hash, value)| {
        hash == "sha-256" && value.trim().eq_ignore_ascii_case(&hex(certificate))
    })
}

fn hex(certificate: &[u8]) -> String {
    let digits: Vec<_> = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    digits.join(":")
}

/// `rtc-dtls` repeats a flight seven times and then gives up: that is later than a server which is busy with a thousand
/// other handshakes, and than the default `--join-timeout`.
const FLIGHT_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(client: SrtpOffer, fingerprint: Option<&str>) -> (Handshake, Handshake) {
        let client = Arc::new(Identity::new(client).expect("a certificate"));
        let server = Arc::new(Identity::new(SrtpOffer::Both).expect("a certificate"));
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let now = Moment::now();
        let of_server = server.fingerprint().to_ascii_lowercase();
        let of_client = client.fingerprint().to_ascii_lowercase();
        (
            Handshake::new(client, true, address, fingerprint.unwrap_or(&of_server), now).expect("a client"),
            Handshake::new(server, false, address, &of_client, now).expect("a server"),
        )
    }

    fn shake(client: &mut Handshake, server: &mut Handshake) -> Result<(Keying, Keying), String> {
        let now = Moment::now();
        let (mut of_client, mut of_server) = (None, None);
        for _ in 0..10 {
            while let Some(datagram) = client.poll_transmit() {
                if let Progress::Connected(keying) = server.handle_datagram(now, &datagram)? {
                    of_server = Some(keying);
                }
            }
            while let Some(datagram) = server.poll_transmit() {
                if let Progress::Connected(keying) = client.handle_datagram(now, &datagram)? {
                    of_client = Some(keying);
                }
            }
        }
        of_client.zip(of_server).ok_or_else(|| "no end".to_owned())
    }

    #[test]
    fn both_sides_export_the_same_keys_of_the_profile_that_was_offered() {
        for (offer, profile) in
            [(SrtpOffer::Gcm, Profile::AeadAes128Gcm), (SrtpOffer::Sha1, Profile::Aes128CmHmacSha1_80)]
        {
            let (mut client, mut server) = pair(offer, None);
            let (of_client, of_server) = shake(&mut client, &mut server).expect("a handshake");
            assert_eq!((of_client.profile, of_client.is_client), (profile, true));
            assert_eq!(of_client.material, of_server.material);
            client.close(Moment::now());
            let farewell = client.poll_transmit().expect("an alert");
            assert!(matches!(server.handle_datagram(Moment::now(), &farewell), Ok(Progress::Closed)));
        }
    }

    #[test]
    fn a_certificate_that_was_not_announced_is_refused() {
        let (mut client, mut server) = pair(SrtpOffer::Both, Some("sha-256 aa:bb"));
        assert!(shake(&mut client, &mut server).is_err());
    }
}

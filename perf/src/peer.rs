//! One WebRTC viewer that measures what it gets: the sizes of the datagrams, and under which cipher.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use lanecast_viewer::clock::Moment;
use lanecast_viewer::nal::Codec;
use lanecast_viewer::peer::Exchange;
use lanecast_viewer::peer::dtls::{Identity, Profile, SrtpOffer};
use lanecast_viewer::peer::light::{Conduct, Draft, LightPeer};
use lanecast_viewer::peer::whep::Whep;
use lanecast_viewer::receive::Datagram;
use lanecast_webrtc::srtp::SrtpProfile;

use crate::shape::{RunShape, Units};

/// What a viewer's datagrams are like.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Their sizes on the wire, by access unit.
    pub units: Vec<Vec<RunShape>>,
    /// Their cipher.
    pub profile: SrtpProfile,
}

/// How viewers of a measurement behave.
pub fn conduct(feedback: bool) -> Conduct {
    Conduct { codecs: vec![Codec::H264], nacks: feedback, transport_feedback: feedback, open_every: 64 }
}

/// A viewer whose descriptions are still to be exchanged.
///
/// # Errors
/// When there are no random bytes, or no certificate.
pub fn draft() -> anyhow::Result<Draft> {
    let identity = Identity::new(SrtpOffer::Both).map_err(|cause| anyhow!(cause))?;
    Draft::new(Arc::new(identity), Arc::new(conduct(false))).map_err(|cause| anyhow!(cause))
}

/// Watches a WHEP endpoint for `seconds` from the first packet.
///
/// # Errors
/// When there is no session, or no access unit comes.
pub fn observe(whep: &str, seconds: f64) -> anyhow::Result<Sealed> {
    let exchange = Whep::new(whep.parse()?, None);
    let mut draft = draft()?;
    let session = exchange.begin(0, &mut draft).map_err(|cause| anyhow!(cause))?;
    let peer = LightPeer::new(draft, Moment::now()).map_err(|cause| anyhow!(cause))?;
    let sealed = watch(peer, seconds);
    if let Some(session) = session {
        // A server that is about to be measured again would find it gone by itself.
        let _ = exchange.end(&session);
    }
    sealed
}

fn watch(mut peer: LightPeer, seconds: f64) -> anyhow::Result<Sealed> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(peer.destination().context("an IPv4 candidate")?)?;
    socket.set_read_timeout(Some(TIMER_WAIT))?;
    let mut units = Units::default();
    let mut buffer = [0; 2048];
    let mut until = Instant::now() + JOIN_TIMEOUT;
    let mut joined = false;
    while Instant::now() < until {
        let length = socket.recv(&mut buffer).unwrap_or(0);
        let (now, bytes) = (Moment::now(), &buffer[..length]);
        if is_rtp(bytes) {
            units.handle_packet(bytes);
            if !joined {
                joined = true;
                until = Instant::now() + Duration::from_secs_f64(seconds);
            }
        }
        if length > 0 {
            peer.handle_datagram(Datagram { bytes, arrived: None, read: now, destination: None });
        }
        peer.handle_timeout(now);
        while let Some(datagram) = peer.poll_transmit() {
            socket.send(&datagram)?;
        }
        if let Some(cause) = peer.failure() {
            return Err(anyhow!(cause.to_owned()));
        }
    }
    let profile = match peer.outcome().profile.context("no keys")? {
        Profile::AeadAes128Gcm => SrtpProfile::AeadAes128Gcm,
        Profile::Aes128CmHmacSha1_80 => SrtpProfile::Aes128CmHmacSha1_80,
    };
    peer.close(Moment::now());
    while let Some(datagram) = peer.poll_transmit() {
        socket.send(&datagram)?;
    }
    Ok(Sealed { units: units.finish()?, profile })
}

/// RFC 7983 and RFC 5761: neither STUN nor DTLS, nor RTCP.
fn is_rtp(bytes: &[u8]) -> bool {
    matches!(bytes, [128..=191, kind, ..] if !(192..=223).contains(kind))
}

/// Often enough for the timers of one viewer.
const TIMER_WAIT: Duration = Duration::from_millis(20);

const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

//! A full WebRTC peer, by the `webrtc` package, that receives one video.
//!
//! Its packets come from [`crate::peer::tap`]; judging them is `watch.rs`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use rtc::interceptor::{Registry, Slot};
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_HEVC, MIME_TYPE_RTX, MediaEngine,
};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::Notify;
use webrtc::error::Error;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceConnectionState, RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription,
    SettingEngineBuilder, SrtpProtectionProfile, StatsSelector,
};

use crate::clock::Moment;
use crate::nal::Codec;
use crate::peer::Descriptions;
use crate::peer::description::Remote;
use crate::peer::dtls::{Profile, SrtpOffer};
use crate::peer::lossy::{Loss, LossyRuntime};
use crate::peer::tap::{Record, Seen, Tap};

/// What kind of peer it is.
#[derive(Clone, Debug)]
pub struct CheckerOptions {
    /// What it offers to decode.
    pub codecs: Vec<Codec>,
    /// Which SRTP profiles it offers.
    pub srtp: SrtpOffer,
    /// What it loses.
    pub loss: Arc<Loss>,
    /// `SO_RCVBUF` of its sockets, bytes.
    pub buffer_bytes: usize,
}

/// The peer, and the runtime that drives it.
pub struct Checker {
    connection: Arc<dyn PeerConnection>,
    watcher: Arc<Watcher>,
    record: Arc<Record>,
    seen: Receiver<Seen>,
    /// Last, so that the peer goes first.
    runtime: tokio::runtime::Runtime,
}

/// What the package tells.
struct Watcher {
    loss: Arc<Loss>,
    gathered: Notify,
    ice_connected_ns: AtomicU64,
    connected_ns: AtomicU64,
    ended: Mutex<Option<String>>,
    tracks: Mutex<Vec<Arc<dyn TrackRemote>>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Watcher {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if matches!(state, RTCIceConnectionState::Connected | RTCIceConnectionState::Completed) {
            note(&self.ice_connected_ns);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => {
                note(&self.connected_ns);
                self.loss.release();
            }
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                let cause = format!("the connection is {state}");
                self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
            }
            _ => {}
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&track));
        // Its packets are the tap's; here they only must not pile up.
        tokio::spawn(async move { while track.poll().await.is_some() {} });
    }
}

/// The first time it happens.
fn note(moment: &AtomicU64) {
    let _ = moment.compare_exchange(0, Moment::now().as_ns(), Relaxed, Relaxed);
}

fn noted(moment: &AtomicU64) -> Option<Moment> {
    Some(moment.load(Relaxed)).filter(|ns| *ns != 0).map(Moment::from_ns)
}

impl Checker {
    /// A peer that nobody knows yet, with a socket on each of the host's addresses.
    ///
    /// # Errors
    /// The package's, or the kernel's.
    pub fn new(options: CheckerOptions) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let watcher = Arc::new(Watcher {
            loss: Arc::clone(&options.loss),
            gathered: Notify::default(),
            ice_connected_ns: AtomicU64::default(),
            connected_ns: AtomicU64::default(),
            ended: Mutex::default(),
            tracks: Mutex::default(),
        });
        let record = Arc::new(Record::default());
        let (sender, seen) = mpsc::channel();
        let tap = Tap::new(Arc::clone(&record), sender);
        let handler: Arc<dyn PeerConnectionEventHandler> = Arc::clone(&watcher) as _;
        let connection = runtime.block_on(connect(options, handler, tap)).map_err(describe)?;
        Ok(Self { connection, watcher, record, seen, runtime })
    }

    /// Its packets, in the order they came.
    pub fn seen(&self) -> &Receiver<Seen> {
        &self.seen
    }

    /// What it received and sent.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// When ICE was connected.
    pub fn ice_connected(&self) -> Option<Moment> {
        noted(&self.watcher.ice_connected_ns)
    }

    /// When all of it was.
    pub fn connected(&self) -> Option<Moment> {
        noted(&self.watcher.connected_ns)
    }

    /// Why it is over.
    pub fn ended(&self) -> Option<String> {
        self.watcher.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the package calls the SRTP profile.
    pub fn srtp_profile(&self) -> Option<Profile> {
        let report = self.runtime.block_on(self.connection.get_stats(Instant::now(), StatsSelector::None));
        let cipher = report.transport()?.srtp_cipher.to_ascii_uppercase();
        match cipher {
            cipher if cipher.contains("GCM") => Some(Profile::AeadAes128Gcm),
            cipher if cipher.contains("SHA1_80") => Some(Profile::Aes128CmHmacSha1_80),
            _ => None,
        }
    }

    /// Asks for a picture that can be decoded by itself.
    pub fn ask_for_picture(&self, media_ssrc: u32) {
        let track = self.watcher.tracks.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
        let Some(track) = track else { return };
        let request = PictureLossIndication { sender_ssrc: 1, media_ssrc };
        // A connection that is gone says so elsewhere.
        let _ = self.runtime.block_on(track.write_rtcp(vec![Box::new(request)]));
    }

    /// Says good-bye.
    pub fn close(&self) {
        let closing = self.connection.close();
        // It is over either way.
        let _ = self.runtime.block_on(async { tokio::time::timeout(CLOSE_TIMEOUT, closing).await });
    }

    fn set_remote(&self, sdp: &str) -> Result<(), String> {
        let remote = Remote::parse(sdp)?;
        *self.record.remote.lock().unwrap_or_else(PoisonError::into_inner) = Some(remote);
        Ok(())
    }
}

/// With all candidates, as there is no trickle.
async fn gathered(connection: &dyn PeerConnection, watcher: &Watcher) -> Result<String, String> {
    tokio::time::timeout(GATHER_TIMEOUT, watcher.gathered.notified())
        .await
        .map_err(|_| "ice: gathering does not end".to_owned())?;
    let description = connection.local_description().await.ok_or("no local description")?;
    Ok(description.sdp)
}

impl Descriptions for Checker {
    fn offer(&mut self) -> Result<String, String> {
        self.runtime.block_on(async {
            let offer = self.connection.create_offer(None).await.map_err(describe)?;
            self.connection.set_local_description(offer).await.map_err(describe)?;
            gathered(self.connection.as_ref(), &self.watcher).await
        })
    }

    fn accept_answer(&mut self, answer: &str) -> Result<(), String> {
        self.set_remote(answer)?;
        let answer = RTCSessionDescription::answer(answer.to_owned()).map_err(describe)?;
        self.runtime.block_on(self.connection.set_remote_description(answer)).map_err(describe)
    }

    fn answer(&mut self, offer: &str) -> Result<String, String> {
        self.set_remote(offer)?;
        let offer = RTCSessionDescription::offer(offer.to_owned()).map_err(describe)?;
        self.runtime.block_on(async {
            self.connection.set_remote_description(offer).await.map_err(describe)?;
            let answer = self.connection.create_answer(None).await.map_err(describe)?;
            self.connection.set_local_description(answer).await.map_err(describe)?;
            gathered(self.connection.as_ref(), &self.watcher).await
        })
    }
}

async fn connect(
    options: CheckerOptions,
    handler: Arc<dyn PeerConnectionEventHandler>,
    tap: Tap,
) -> Result<Arc<dyn PeerConnection>, Error> {
    let mut engine = MediaEngine::default();
    for codec in formats(&options.codecs) {
        engine.register_codec(codec, RtpCodecKind::Video)?;
    }
    let registry = Registry::new().with(Slot::from(0), tap);
    let registry = register_default_interceptors(registry, &mut engine)?;
    let profiles = match options.srtp {
        SrtpOffer::Both => vec![
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        ],
        SrtpOffer::Gcm => vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm],
        SrtpOffer::Sha1 => vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80],
    };
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_srtp_protection_profiles(profiles)
        .build();
    let connection = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_setting_engine(settings)
        .with_media_engine(engine)
        .with_interceptor_registry(registry)
        .with_handler(handler)
        .with_runtime(Arc::new(LossyRuntime::new(options.loss, options.buffer_bytes)))
        .with_udp_addrs(local_addresses())
        .build()
        .await?;
    let init = RTCRtpTransceiverInit {
        direction: RTCRtpTransceiverDirection::Recvonly,
        streams: Vec::new(),
        send_encodings: Vec::new(),
    };
    connection.add_transceiver_from_kind(RtpCodecKind::Video, Some(init)).await?;
    Ok(Arc::new(connection))
}

/// Every IPv4 address of the host, loopback too, and every IPv6 address that is not of a link alone.
fn local_addresses() -> Vec<String> {
    let mut addresses = Vec::new();
    for interface in getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            addresses.push(format!("{}:0", v4.ip()));
        } else if let Some(v6) =
            address.as_sockaddr_in6().filter(|v6| v6.ip().segments()[0] & 0xffc0 != 0xfe80)
        {
            addresses.push(format!("[{}]:0", v6.ip()));
        }
    }
    addresses
}

fn formats(codecs: &[Codec]) -> Vec<RTCRtpCodecParameters> {
    let feedback =
        |(typ, parameter): (&str, &str)| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    let format =
        |payload_type, mime_type: &str, parameters: &str, feedbacks: &[(&str, &str)]| RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: mime_type.into(),
                clock_rate: 90_000,
                channels: 0,
                sdp_fmtp_line: parameters.into(),
                rtcp_feedback: feedbacks.iter().copied().map(feedback).collect(),
            },
            payload_type,
        };
    let mut formats = Vec::new();
    for (codec, payload_type, rtx, parameters) in FORMATS {
        if codecs.contains(&codec) {
            let name = if codec == Codec::H264 { MIME_TYPE_H264 } else { MIME_TYPE_HEVC };
            formats.push(format(payload_type, name, parameters, &[("goog-remb", ""), ("ccm", "fir")]));
            formats.push(format(rtx, MIME_TYPE_RTX, &format!("apt={payload_type}"), &[]));
        }
    }
    formats
}

fn describe(error: Error) -> String {
    format!("webrtc: {error}")
}

/// As in `description.rs`: codec, payload type, that of retransmissions, parameters.
const FORMATS: [(Codec, u8, u8, &str); 4] = [
    (Codec::H264, 103, 104, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
    (Codec::H264, 109, 114, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (Codec::H264, 39, 40, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"),
    (Codec::H265, 49, 50, ""),
];

/// One for the sockets, one for what waits.
const WORKERS: usize = 2;

const GATHER_TIMEOUT: Duration = Duration::from_secs(5);

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

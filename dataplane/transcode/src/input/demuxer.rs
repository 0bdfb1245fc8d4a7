//! FFmpeg's demultiplexer: opens an origin, chooses the video track, gives its pictures. Every call may block until the
//! [`Watch`] interrupts it, except name resolution, which the system's resolver bounds.
//!
//! Safe by the wrapper: the interrupt callback is kept until the context is closed, and FFmpeg asks it while it opens and
//! reads alike. Its own log is turned off.

use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::util::log;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, codec, format, media};
use lanecast_protocol::codec::{Codec, Nal, NalClass};

use super::bitstream::Configuration;
use super::extradata;
use super::origin::Origin;
use super::watch::Watch;

/// An open input with its video track.
pub(super) struct Demuxer {
    context: format::context::Input,
    watch: Arc<Watch>,
    what: &'static str,
    track: usize,
    time_base: Rational,
    codec: Codec,
    configuration: Configuration,
    /// Since the last picture, of all tracks.
    bytes: u64,
}

/// A picture of the track, in decode order. Times as the container has them.
pub(super) struct Picture {
    pub(super) dts_90k: Option<i64>,
    pub(super) pts_90k: Option<i64>,
    /// Zero where the container does not tell.
    pub(super) duration_90k: i64,
    pub(super) nals: Vec<Nal>,
    pub(super) random_access: bool,
    /// Read since the last picture, of all tracks.
    pub(super) bytes: u64,
}

/// Why no picture comes any more.
pub(super) enum End {
    /// The input came to its end.
    Over,
    /// The watch was stopped: nobody wants to know.
    Stopped,
    /// The watch's deadline was over.
    Late,
    /// A sentence.
    Fault(String),
}

impl Demuxer {
    /// Opens it; the watch has the deadline.
    pub(super) fn open(origin: &Origin, watch: &Arc<Watch>) -> Result<Self, End> {
        set_up();
        let asked = Arc::clone(watch);
        let options =
            Dictionary::from_iter(origin.options.iter().map(|(name, value)| (*name, value.as_str())));
        let context =
            format::input_with_interrupt_and_dictionary(&origin.address, move || asked.interrupts(), options)
                .map_err(|error| end(watch, &format!("{} cannot be opened", origin.what), error))?;
        let track = video_track(&context)
            .ok_or_else(|| End::Fault(format!("no H.264 or H.265 video: {}", tracks(&context))))?;
        let (track, codec) = track;
        let stream = context.stream(track).ok_or_else(|| End::Fault("no video".to_owned()))?;
        let configuration = Configuration::read(codec, extradata::of(&stream));
        let time_base = stream.time_base();
        Ok(Self {
            context,
            watch: Arc::clone(watch),
            what: origin.what,
            track,
            time_base,
            codec,
            configuration,
            bytes: 0,
        })
    }

    /// The track's codec.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// What the container tells of it.
    pub(super) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Reads up to the next picture.
    pub(super) fn next(&mut self) -> Result<Picture, End> {
        let mut damaged = 0;
        loop {
            if self.watch.interrupts() {
                return Err(end(&self.watch, "", Error::Exit));
            }
            // A packet of its own each time: reading into one that holds something would leak that.
            let mut packet = Packet::empty();
            match packet.read(&mut self.context) {
                Ok(()) => {}
                Err(Error::Eof) if !self.watch.interrupts() => return Err(End::Over),
                Err(Error::InvalidData) if damaged < MAX_DAMAGED => {
                    damaged += 1;
                    continue;
                }
                Err(Error::Other { errno: ffmpeg_next::error::EAGAIN }) => {
                    std::thread::park_timeout(AGAIN);
                    continue;
                }
                Err(error) => {
                    return Err(end(&self.watch, &format!("{} cannot be read", self.what), error));
                }
            }
            self.bytes += packet.size() as u64;
            if packet.stream() == self.track
                && let Some(picture) = self.picture(&packet)?
            {
                return Ok(picture);
            }
        }
    }

    /// `None` of a packet without a NAL unit.
    fn picture(&mut self, packet: &Packet) -> Result<Option<Picture>, End> {
        let data = packet.data().unwrap_or_default();
        if data.len() > MAX_PICTURE_LEN {
            return Err(End::Fault(format!(
                "{} has a picture of {} bytes, and {MAX_PICTURE_LEN} are allowed",
                self.what,
                data.len()
            )));
        }
        let mut nals = self.new_parameter_sets(packet);
        nals.extend(self.configuration.nals(Bytes::copy_from_slice(data)));
        if nals.is_empty() {
            return Ok(None);
        }
        Ok(Some(Picture {
            dts_90k: packet.dts().and_then(|ticks| to_90k(ticks, self.time_base)),
            pts_90k: packet.pts().and_then(|ticks| to_90k(ticks, self.time_base)),
            duration_90k: to_90k(packet.duration(), self.time_base).unwrap_or(0),
            random_access: nals.iter().any(|nal| nal.class(self.codec) == NalClass::RandomAccess),
            nals,
            bytes: std::mem::take(&mut self.bytes),
        }))
    }

    /// A new configuration in the midst of the stream (FLV): its sets go before the picture, as if they were in it.
    fn new_parameter_sets(&mut self, packet: &Packet) -> Vec<Nal> {
        let Some(new) = packet.side_data().find(|data| data.kind() == side_data::Type::NewExtraData) else {
            return Vec::new();
        };
        self.configuration = Configuration::read(self.codec, Bytes::copy_from_slice(new.data()));
        self.configuration.parameter_sets.iter().cloned().map(Nal::from_bytes).collect()
    }
}

/// Why a call failed, without the URL: FFmpeg's text is that of the error number.
fn end(watch: &Watch, failed: &str, error: Error) -> End {
    if watch.is_stopped() {
        End::Stopped
    } else if watch.is_late() {
        End::Late
    } else {
        End::Fault(format!("{failed}: {error}"))
    }
}

fn video_track(context: &format::context::Input) -> Option<(usize, Codec)> {
    context.streams().find_map(|stream| {
        let codec = match stream.parameters().id() {
            codec::Id::H264 => Codec::H264,
            codec::Id::HEVC => Codec::H265,
            _ => return None,
        };
        Some((stream.index(), codec))
    })
}

/// "it has mpeg4, aac".
fn tracks(context: &format::context::Input) -> String {
    let names: Vec<String> =
        context.streams().take(MAX_NAMED).map(|stream| name(&stream.parameters())).collect();
    if names.is_empty() { "it has no tracks".to_owned() } else { format!("it has {}", names.join(", ")) }
}

fn name(parameters: &codec::Parameters) -> String {
    match (parameters.id(), parameters.medium()) {
        (codec::Id::None, media::Type::Video) => "unknown video".to_owned(),
        (codec::Id::None, _) => "an unknown track".to_owned(),
        (id, _) => id.name().to_owned(),
    }
}

fn to_90k(ticks: i64, time_base: Rational) -> Option<i64> {
    let (numerator, denominator) = (i128::from(time_base.numerator()), i128::from(time_base.denominator()));
    i64::try_from((i128::from(ticks) * numerator * 90_000).checked_div_euclid(denominator)?).ok()
}

/// Once in a process.
fn set_up() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // Its only part today is the texts of errors; without it they are empty.
        if let Err(error) = ffmpeg_next::init() {
            tracing::warn!(%error, "FFmpeg");
        }
        log::set_level(log::Level::Quiet);
        format::network::init();
    });
}

/// A key picture of 8K at 100 Mb/s has 4 MB.
const MAX_PICTURE_LEN: usize = 16 * 1024 * 1024;

/// Broken packets behind one another that are skipped.
const MAX_DAMAGED: u32 = 1000;

/// Tracks that a sentence lists.
const MAX_NAMED: usize = 8;

/// Before a demultiplexer that has nothing is asked again.
const AGAIN: Duration = Duration::from_millis(10);

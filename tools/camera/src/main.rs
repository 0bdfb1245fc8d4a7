//! The command line of the test camera. What it serves is in the library.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, Parser, ValueEnum};
use lanecast_camera::{
    AuthScheme, CameraConfig, Codecs, ContentBase, Credentials, DialogueFaults, Faults, Filler, Load, Marker,
    MediaFaults, Picture, Transports, seconds, serve,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// An RTSP camera that plays a built-in picture or a file at any number of mount points, and misbehaves by flag.
///
/// Prints one line with a URL for each mount point when clients can connect. Logs go to stderr (RUST_LOG).
#[derive(Debug, Parser)]
#[command(name = "lanecast-camera", version)]
struct Arguments {
    /// File to play: Annex B (.h264 .264 .h265 .hevc .265), or anything that an installed ffmpeg can copy to it.
    /// Without it a built-in picture with a running clock is played.
    file: Option<PathBuf>,
    /// Address of the RTSP listener; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8554")]
    bind: SocketAddr,
    /// Number of cameras: /cam0, /cam1, ...
    #[arg(long, default_value_t = 1, conflicts_with = "names")]
    count: usize,
    /// Name of a mount point, instead of cam0, cam1, ...; may be given several times.
    #[arg(long = "name")]
    names: Vec<String>,
    /// What the cameras encode; with both, even ones are H.264 and odd ones H.265.
    #[arg(long, value_enum)]
    codec: Option<CodecArgument>,
    /// Pictures per second.
    #[arg(long, default_value_t = 25.0)]
    fps: f64,
    /// Fires all cameras in the same instant, instead of spread over the frame interval.
    #[arg(long)]
    no_spread: bool,
    /// Transports that SETUP accepts; others get 461.
    #[arg(long, value_enum, default_value = "both")]
    transport: TransportArgument,
    /// User who may watch. Needs --password.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// The user's password.
    #[arg(long, requires = "user", env = "LANECAST_CAMERA_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// How the user proves it.
    #[arg(long, value_enum, default_value = "digest-md5")]
    auth: AuthArgument,
    /// Offers a PCMU silence track before the video track.
    #[arg(long)]
    with_audio: bool,
    /// Largest RTP packet in bytes, header included.
    #[arg(long, default_value_t = 1400, value_name = "BYTES")]
    packet_bytes: usize,
    /// Sends parameter sets in packets of their own, instead of together in a STAP-A or AP.
    #[arg(long)]
    no_aggregation: bool,
    /// Puts a send-time stamp into each access unit, as an SEI message (format: documentation of the library).
    #[arg(long)]
    stamp: bool,
    /// Seed of SSRCs, first sequence numbers and timestamps, loss. Default: the clock.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    load: LoadArguments,
    #[command(flatten)]
    faults: FaultArguments,
    #[command(flatten)]
    dialogue: DialogueFaults,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Load (added bytes that decoders skip)")]
struct LoadArguments {
    /// Bits per second of NAL units, averaged over the loop: 500k, 4M, 4000000.
    #[arg(long, value_parser = bits)]
    bitrate: Option<u64>,
    /// Seconds between IDR pictures, 1 to 30. Plays a calm built-in picture.
    #[arg(long, value_name = "N")]
    gop_seconds: Option<u64>,
    /// Least bytes of an IDR picture. With --bitrate the other pictures share the rest.
    #[arg(long, value_name = "BYTES")]
    idr_bytes: Option<usize>,
    /// What the added bytes are: an SEI message before the picture, or filler data NAL units behind it.
    #[arg(long, value_enum, default_value = "sei")]
    filler: FillerArgument,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Faults")]
struct FaultArguments {
    /// Closes each RTSP connection S seconds after it was accepted.
    #[arg(long, value_name = "S", value_parser = seconds)]
    drop_every: Option<Duration>,
    /// Leaves the parameter sets out of the SDP.
    #[arg(long)]
    no_sprop: bool,
    /// Leaves the parameter sets out of the media.
    #[arg(long)]
    no_inband_parameter_sets: bool,
    /// Puts a marker on an SEI packet before each picture, too.
    #[arg(long, group = "marker")]
    marker_on_sei: bool,
    /// Puts a marker on each packet.
    #[arg(long, group = "marker")]
    marker_every_packet: bool,
    /// Puts a marker nowhere.
    #[arg(long, group = "marker")]
    no_marker: bool,
    /// RTP timestamps leap 10 s ahead, fall 5 s behind and stand still, in turn, every 50 pictures.
    #[arg(long)]
    jumpy_timestamps: bool,
    /// Sends RTP packets of up to BYTES (64 to 65535).
    #[arg(long, value_name = "BYTES")]
    oversize_packets: Option<usize>,
    /// Sends no media any more S seconds after PLAY. Keeps the connection and answers requests.
    #[arg(long, value_name = "S", value_parser = seconds)]
    silence_after: Option<Duration>,
    /// Sends bytes that are neither RTSP nor an interleaved frame after each picture; over UDP a datagram that is no RTP.
    #[arg(long)]
    garbage_between_frames: bool,
    /// Replies with a CSeq that is one too high.
    #[arg(long)]
    wrong_cseq: bool,
    /// Content-Base is a path without scheme and host.
    #[arg(long, group = "content_base")]
    relative_content_base: bool,
    /// Content-Base has a host, but no scheme.
    #[arg(long, group = "content_base")]
    schemeless_content_base: bool,
    /// Sends no Content-Base.
    #[arg(long, group = "content_base")]
    no_content_base: bool,
    /// Does not send PERCENT of the RTP packets over UDP.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// Sends one RTP packet in 20 late over UDP, overtaken by 1 to 4 others.
    #[arg(long)]
    reorder: bool,
    /// Answers each request with 503.
    #[arg(long)]
    refuse: bool,
    /// Sends the first picture before the reply to PLAY.
    #[arg(long)]
    media_before_play_reply: bool,
    /// Expires sessions after S seconds without a request, instead of 60.
    #[arg(long, value_name = "S", value_parser = seconds)]
    short_session_timeout: Option<Duration>,
    /// Switches to a picture of 320x180, and back, every S seconds. The SDP keeps telling of the first.
    #[arg(long, value_name = "S", value_parser = seconds)]
    change_resolution_every: Option<Duration>,
    #[command(flatten)]
    media: MediaFaults,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodecArgument {
    H264,
    H265,
    Both,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TransportArgument {
    Tcp,
    Udp,
    Both,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AuthArgument {
    Basic,
    DigestMd5,
    DigestSha256,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FillerArgument {
    Sei,
    Nal,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match Arguments::parse().into_config().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT.
fn run(config: CameraConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve(config, print_urls, stop).await
    })
}

/// Somebody may wait for these lines, or may have gone.
fn print_urls(urls: &[String]) {
    let mut stdout = std::io::stdout().lock();
    let printed = urls.iter().try_for_each(|url| writeln!(stdout, "{url}")).and_then(|()| stdout.flush());
    if let Err(error) = printed {
        tracing::warn!(%error, "cannot print the URLs");
    }
}

impl Arguments {
    fn into_config(self) -> anyhow::Result<CameraConfig> {
        ensure!(self.fps.is_finite() && self.fps > 0.0, "--fps is a positive number");
        let from_file = self.file.is_some();
        Ok(CameraConfig {
            bind: self.bind,
            names: if self.names.is_empty() { CameraConfig::numbered_names(self.count) } else { self.names },
            codecs: match self.codec {
                None if from_file => Codecs::Both,
                None | Some(CodecArgument::H264) => Codecs::H264,
                Some(CodecArgument::H265) => Codecs::H265,
                Some(CodecArgument::Both) => Codecs::Both,
            },
            picture: self.file.map_or(Picture::BuiltIn, Picture::File),
            fps_milli: (self.fps * 1000.0).round() as u64,
            load: self.load.into(),
            stamp: self.stamp,
            spread: !self.no_spread,
            transports: match self.transport {
                TransportArgument::Tcp => Transports::Tcp,
                TransportArgument::Udp => Transports::Udp,
                TransportArgument::Both => Transports::Both,
            },
            credentials: self.user.zip(self.password).map(|(user, password)| Credentials {
                user,
                password,
                scheme: match self.auth {
                    AuthArgument::Basic => AuthScheme::Basic,
                    AuthArgument::DigestMd5 => AuthScheme::DigestMd5,
                    AuthArgument::DigestSha256 => AuthScheme::DigestSha256,
                },
            }),
            with_audio: self.with_audio,
            packet_bytes_max: self.packet_bytes,
            aggregate: !self.no_aggregation,
            faults: Faults { dialogue: self.dialogue, ..self.faults.into() },
            seed: self.seed,
        })
    }
}

impl From<LoadArguments> for Load {
    fn from(arguments: LoadArguments) -> Self {
        Self {
            bitrate: arguments.bitrate,
            gop_seconds: arguments.gop_seconds,
            idr_bytes: arguments.idr_bytes,
            filler: match arguments.filler {
                FillerArgument::Sei => Filler::Sei,
                FillerArgument::Nal => Filler::Nal,
            },
        }
    }
}

impl From<FaultArguments> for Faults {
    fn from(arguments: FaultArguments) -> Self {
        Self {
            drop_every: arguments.drop_every,
            no_sprop: arguments.no_sprop,
            no_inband_parameter_sets: arguments.no_inband_parameter_sets,
            marker: match (arguments.marker_on_sei, arguments.marker_every_packet, arguments.no_marker) {
                (true, _, _) => Marker::AlsoOnSei,
                (_, true, _) => Marker::EveryPacket,
                (_, _, true) => Marker::Never,
                _ => Marker::LastPacket,
            },
            jumpy_timestamps: arguments.jumpy_timestamps,
            oversize_packets: arguments.oversize_packets,
            silence_after: arguments.silence_after,
            garbage_between_frames: arguments.garbage_between_frames,
            wrong_cseq: arguments.wrong_cseq,
            content_base: match arguments {
                FaultArguments { relative_content_base: true, .. } => ContentBase::Relative,
                FaultArguments { schemeless_content_base: true, .. } => ContentBase::Schemeless,
                FaultArguments { no_content_base: true, .. } => ContentBase::None,
                _ => ContentBase::Absolute,
            },
            loss_percent: arguments.loss,
            reorder: arguments.reorder,
            refuse: arguments.refuse,
            media_before_play_reply: arguments.media_before_play_reply,
            session_timeout: arguments.short_session_timeout,
            change_resolution_every: arguments.change_resolution_every,
            media: arguments.media,
            dialogue: DialogueFaults::default(),
        }
    }
}

/// `4M`, `500k`, `4000000`.
fn bits(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok((number * factor) as u64),
        _ => Err("expected a number, or a number with k or M".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn bits_and_seconds_are_read() {
        assert_eq!(bits("4M"), Ok(4_000_000));
        assert_eq!(bits("1.5k"), Ok(1_500));
        assert_eq!(bits("42"), Ok(42));
        assert!(bits("M").is_err() && bits("-1").is_err() && bits("").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("0").is_err() && seconds("-3").is_err() && seconds("nan").is_err());
    }
}

//! The settings: command line over environment over file over default.
//!
//! Every setting has one key, and the key makes its three names: `http.bind` is `--http-bind`,
//! `LANECAST_HTTP_BIND` and `bind` in the file's `[http]`. [`Config::load`] checks everything once;
//! the rest of the program reads a [`Config`] and never a raw value. The table of all settings is in `settings`, how a
//! text becomes a value in `values`.

mod settings;
mod values;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use lanecast_shard::{DataPlaneConfig, RecorderConfig};

use crate::catalog::{CatalogSettings, Retention};
use crate::reach::Reach;
use settings::{SETTINGS, Setting, setting};
use values::{
    address, addresses, boolean, cors_origins, filter, folders, log_format, networks, number, seconds,
    seconds_of, socket_address, stun_server, tcp_bind, unless_off,
};

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the process is to do.
    pub task: Task,
    /// The HTTP server.
    pub http: HttpConfig,
    /// The shards.
    pub data_plane: DataPlaneConfig,
    /// False where `wsc.udp_bind` is our own default, so that a machine without IPv6 may fall back to IPv4.
    pub udp_bind_given: bool,
    /// What all sources have in common.
    pub source: SourceSettings,
    /// Where the database lives, and the recordings if nothing else is said.
    pub data_dir: PathBuf,
    /// Where the recordings live, and how long.
    pub recording: CatalogSettings,
    /// Bound of WSC-RTP sessions at a time.
    pub max_sessions: usize,
    /// WebRTC.
    pub webrtc: WebRtcConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Start the built-in camera.
    pub demo: bool,
}

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Serve until told to stop.
    Serve,
    /// Make the catalogue of the recordings anew from their files, and end (`lanecast catalog rebuild`).
    RebuildCatalog,
}

/// Settings of the HTTP server.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Address to listen on; `[::]` is dual-stack.
    pub bind: SocketAddr,
    /// Bound of open connections, upgrades included until a shard has them.
    pub max_connections: usize,
    /// Bound of a request's body in bytes.
    pub max_body_bytes: usize,
    /// How long a client may take to send a request's header, idle time before it included.
    pub header_timeout: Duration,
    /// Whose pages may call the API.
    pub cors_origins: CorsOrigins,
}

/// Settings of WebRTC.
#[derive(Clone, Debug)]
pub struct WebRtcConfig {
    /// Addresses that the world has for ours; first among the candidates.
    pub public_addresses: Vec<IpAddr>,
    /// Who tells the shards their public addresses.
    pub stun: Option<StunServer>,
    /// Where ICE-TCP listens.
    pub tcp_bind: TcpBind,
    /// Bound of sessions at a time.
    pub max_sessions: usize,
    /// Bound of sessions of one stream.
    pub max_sessions_per_stream: usize,
}

/// A STUN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    /// Its name or address, an IPv6 address in brackets.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
}

/// Where ICE-TCP listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpBind {
    /// The shards' address, and the number of the first one's UDP port.
    Auto,
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl TcpBind {
    /// The address, where the shards' sockets are at these.
    pub fn address(self, udp_bind: IpAddr, udp_port: u16) -> Option<SocketAddr> {
        match self {
            Self::Auto => Some(SocketAddr::new(udp_bind, udp_port)),
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

/// Whose pages may call the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Any page (without cookies).
    Any,
    /// Only pages of these origins; none if empty.
    Only(Vec<String>),
}

/// What all sources have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSettings {
    /// How long a TCP connect may take.
    pub connect: Duration,
    /// How long an RTSP answer may take.
    pub reply: Duration,
    /// How long media may be silent.
    pub silence: Duration,
    /// How long a better input must have worked before it takes the place of the one in use.
    pub return_after: Duration,
    /// How long a stream on demand stays connected after its last viewer.
    pub on_demand_idle: Duration,
    /// What an input may send, in bits per second.
    pub bits_per_second_max: u64,
    /// Where inputs may be.
    pub reach: Reach,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter as `tracing-subscriber` reads it (`info,lanecast=debug`); checked.
    pub filter: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line cannot be read, or asked for help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// A value is not acceptable.
    #[error("{origin}: {value:?} {reason}")]
    Value {
        /// The flag, variable or key as the operator wrote it.
        origin: String,
        /// What it says.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl Config {
    /// Reads the command line, the environment and the file of this process.
    pub fn from_process() -> Result<Self, ConfigError> {
        Self::load(std::env::args_os(), &|name| std::env::var_os(name))
    }

    /// Reads these arguments (the program's name first) and this environment.
    pub fn load(
        arguments: impl IntoIterator<Item = OsString>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let layers = Layers::read(arguments, environment)?;
        let (shards, udp_port) = ports(&layers)?;
        let data_dir: PathBuf = layers.parse("data_dir", |text| Ok(PathBuf::from(text)))?;
        Ok(Self {
            task: layers.task,
            http: http(&layers)?,
            data_plane: DataPlaneConfig {
                shards,
                udp_port,
                udp_bind: layers.parse("wsc.udp_bind", address)?,
                max_udp_payload: layers.parse("media.max_udp_payload", number(UDP_PAYLOAD_BYTES))?,
                gop_cache_bytes: layers.parse("media.gop_cache_bytes", number(GOP_CACHE_BYTES))?,
                websocket_queue_bytes: layers
                    .parse("wsc.websocket_queue_bytes", number(WEBSOCKET_QUEUE_BYTES))?,
                allow_foreign_destination: layers.parse("wsc.allow_foreign_destination", boolean)?,
                recorder: recorder(&layers)?,
                foreign_inputs_max: layers
                    .parse("source.ffmpeg_inputs_max", number(0..=FFMPEG_INPUTS_MAX))?,
                slate_after: layers
                    .parse("source.slate_after_seconds", unless_off(seconds_of(SLATE_SECONDS)))?,
            },
            udp_bind_given: layers.is_given("wsc.udp_bind"),
            source: source(&layers)?,
            recording: recording(&layers, &data_dir)?,
            data_dir,
            max_sessions: layers.parse("wsc.max_sessions", number(1..=1_000_000))?,
            webrtc: webrtc(&layers)?,
            log: LogConfig {
                filter: layers.parse("log.filter", filter)?,
                format: layers.parse("log.format", log_format)?,
            },
            demo: layers.parse("demo", boolean)?,
        })
    }

    /// The settings' keys with their defaults and meanings, for the documentation.
    pub fn settings() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        SETTINGS.iter().map(|setting| (setting.key, setting.default, setting.help))
    }
}

fn http(layers: &Layers) -> Result<HttpConfig, ConfigError> {
    let mut bind: SocketAddr = layers.parse("http.bind", socket_address)?;
    if let Some(port) = layers.flags.get("port") {
        bind.set_port(number(0..=u16::MAX)(port).map_err(|reason| value_error("--port", port, reason))?);
    }
    Ok(HttpConfig {
        bind,
        max_connections: layers.parse("http.max_connections", number(1..=1_000_000))?,
        max_body_bytes: layers.parse("http.max_body_bytes", number(1024..=64 << 20))?,
        header_timeout: layers.parse("http.header_timeout_seconds", seconds)?,
        cors_origins: layers.parse("http.cors_origins", cors_origins)?,
    })
}

fn webrtc(layers: &Layers) -> Result<WebRtcConfig, ConfigError> {
    Ok(WebRtcConfig {
        public_addresses: layers.parse("webrtc.public_addresses", addresses)?,
        stun: layers.parse("webrtc.stun", stun_server)?,
        tcp_bind: layers.parse("webrtc.tcp_bind", tcp_bind)?,
        max_sessions: layers.parse("webrtc.max_sessions", number(1..=1_000_000))?,
        max_sessions_per_stream: layers.parse("webrtc.max_sessions_per_stream", number(1..=1_000_000))?,
    })
}

fn source(layers: &Layers) -> Result<SourceSettings, ConfigError> {
    let bits = layers.parse("source.max_bits_per_second", unless_off(number(0..=u64::MAX)))?;
    Ok(SourceSettings {
        connect: layers.parse("source.connect_timeout_seconds", seconds)?,
        reply: layers.parse("source.reply_timeout_seconds", seconds)?,
        silence: layers.parse("source.silence_timeout_seconds", seconds)?,
        return_after: layers.parse("source.return_after_seconds", seconds_of(RETURN_SECONDS))?,
        on_demand_idle: layers.parse("source.on_demand_idle_seconds", seconds_of(IDLE_SECONDS))?,
        bits_per_second_max: bits.filter(|bits| *bits > 0).unwrap_or(u64::MAX),
        reach: Reach {
            denied: layers.parse("source.deny_networks", networks)?,
            folders: layers.parse("source.file_folders", folders)?,
        },
    })
}

fn recorder(layers: &Layers) -> Result<RecorderConfig, ConfigError> {
    Ok(RecorderConfig {
        segment: layers.parse("recording.segment_seconds", seconds_of(SEGMENT_SECONDS))?,
        fragment_max: layers.parse("recording.fragment_max_seconds", seconds_of(FRAGMENT_SECONDS))?,
        sync_interval: layers.parse("recording.fsync_seconds", unless_off(seconds_of(FSYNC_SECONDS)))?,
        queue_bytes_max: layers.parse("recording.queue_bytes", number(RECORDING_QUEUE_BYTES))?,
    })
}

fn recording(layers: &Layers, data_dir: &Path) -> Result<CatalogSettings, ConfigError> {
    let days = unless_off(number(1..=RETENTION_DAYS_MAX));
    let bytes = || unless_off(number(RECORDINGS_BYTES_MIN..=u64::MAX));
    let free_bytes = layers.parse("recording.min_free_bytes", unless_off(number(0..=u64::MAX)))?;
    Ok(CatalogSettings {
        folder: layers.parse("recording.dir", |text| {
            Ok(if text.is_empty() { data_dir.join("recordings") } else { PathBuf::from(text) })
        })?,
        retention: Retention {
            age_max: layers
                .parse("recording.retention_days", days)?
                .map(|days| Duration::from_secs(days * 24 * 3600)),
            stream_bytes_max: layers.parse("recording.max_bytes_per_stream", bytes())?,
            bytes_max: layers.parse("recording.max_bytes", bytes())?,
            free_bytes_min: free_bytes.filter(|bytes| *bytes > 0),
        },
    })
}

/// The number of shards and the UDP port of the first; all their ports must exist.
fn ports(layers: &Layers) -> Result<(usize, u16), ConfigError> {
    let shards: usize = layers.parse("shards", |text| match text {
        "auto" => Ok(default_shards()),
        text => number(1..=MAX_SHARDS)(text),
    })?;
    let udp_port: u16 = layers.parse("wsc.udp_port", |text| {
        let port = number(0..=u16::MAX)(text)?;
        let last = usize::from(port) + shards - 1;
        match port == 0 || last <= usize::from(u16::MAX) {
            true => Ok(port),
            false => Err(format!("leaves no port for each of {shards} shards (the last would be {last})")),
        }
    })?;
    Ok((shards, udp_port))
}

fn default_shards() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).clamp(1, MAX_SHARDS)
}

/// Where values come from, strongest first.
struct Layers<'a> {
    task: Task,
    flags: HashMap<&'static str, String>,
    environment: &'a dyn Fn(&str) -> Option<OsString>,
    file: HashMap<String, String>,
    file_name: String,
}

impl<'a> Layers<'a> {
    fn read(
        arguments: impl IntoIterator<Item = OsString>,
        environment: &'a dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let (task, mut matches) = task(command().try_get_matches_from(arguments)?);
        let mut flags = HashMap::new();
        for key in SETTINGS.iter().map(|setting| setting.key).chain(["port", "config"]) {
            if let Ok(Some(value)) = matches.try_remove_one::<String>(key) {
                flags.insert(key, value);
            }
        }
        let mut layers = Self { task, flags, environment, file: HashMap::new(), file_name: String::new() };
        if let Some(path) = layers.flags.get("config").cloned().or_else(|| layers.variable("LANECAST_CONFIG"))
        {
            layers.file = read_file(Path::new(&path))?;
            layers.file_name = path;
        }
        Ok(layers)
    }

    /// An empty variable counts as absent, as compose files write it.
    fn variable(&self, name: &str) -> Option<String> {
        let value = (self.environment)(name)?.to_string_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    }

    fn is_given(&self, key: &str) -> bool {
        self.find(setting(key)).is_some()
    }

    /// The strongest value of a setting, and where it stands.
    fn find(&self, setting: &Setting) -> Option<(String, String)> {
        if let Some(value) = self.flags.get(setting.key) {
            return Some((format!("--{}", setting.flag()), value.clone()));
        }
        let variables = [Some(setting.variable()), setting.old_variable.map(String::from)];
        for name in variables.into_iter().flatten() {
            if let Some(value) = self.variable(&name) {
                return Some((name, value));
            }
        }
        let value = self.file.get(setting.key)?;
        Some((format!("{}: {}", self.file_name, setting.key), value.clone()))
    }

    fn parse<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        let setting = setting(key);
        let (origin, value) =
            self.find(setting).unwrap_or_else(|| (setting.key.to_owned(), setting.default.to_owned()));
        parse(&value).map_err(|reason| value_error(origin, value, reason))
    }
}

fn value_error(origin: impl Into<String>, value: impl Into<String>, reason: String) -> ConfigError {
    ConfigError::Value { origin: origin.into(), value: value.into(), reason }
}

/// What is to be done, and the flags: they may stand before and behind a subcommand's name, and the innermost has all.
fn task(mut matches: ArgMatches) -> (Task, ArgMatches) {
    let mut task = Task::Serve;
    while let Some((name, inner)) = matches.remove_subcommand() {
        if name == "rebuild" {
            task = Task::RebuildCatalog;
        }
        matches = inner;
    }
    (task, matches)
}

fn command() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        let mut help = format!("{} [{}", setting.help, setting.variable());
        if let Some(old) = setting.old_variable {
            help += &format!(", {old}");
        }
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        help += &format!("; default {default}]");
        let argument = Arg::new(setting.key).long(setting.flag()).help(help).value_name("VALUE").global(true);
        match setting.key {
            "demo" => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => argument,
        }
    });
    Command::new("lanecast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A media server for many cameras and many viewers")
        .subcommand(catalog_command())
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .global(true)
                .help("Settings as TOML [LANECAST_CONFIG]"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .conflicts_with("http.bind")
                .action(ArgAction::Set)
                .help("HTTP port, on the address that the other settings give"),
        )
        .args(settings)
}

fn catalog_command() -> Command {
    let rebuild = Command::new("rebuild").about(
        "Makes the catalogue anew from the files of recording.dir, and tells how many there are; not while a server uses it",
    );
    Command::new("catalog")
        .about("The catalogue of the recordings")
        .subcommand_required(true)
        .subcommand(rebuild)
}

/// The file's values as text by key. An unknown key is an error: a typo must not pass in silence.
fn read_file(path: &Path) -> Result<HashMap<String, String>, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::File { path: file.clone(), reason: error.to_string() })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::File {
        path: file.clone(),
        reason: error.to_string(),
    })?;
    let mut values = HashMap::new();
    for (name, value) in table {
        let pairs = match value {
            toml::Value::Table(section) => {
                section.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)).collect()
            }
            value => vec![(name, value)],
        };
        for (key, value) in pairs {
            if !SETTINGS.iter().any(|setting| setting.key == key) {
                return Err(ConfigError::File { path: file, reason: format!("{key} is no setting") });
            }
            let text = text_of(&value).ok_or_else(|| {
                value_error(format!("{file}: {key}"), value.to_string(), "is no plain value".into())
            })?;
            values.insert(key, text);
        }
    }
    Ok(values)
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(boolean) => Some(boolean.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}

/// A UDP port each, and far more than any machine has cores.
const MAX_SHARDS: usize = 1024;
/// From what every IPv4 host must take (576, less headers) to what an Ethernet frame holds (1500 − 20 − 8).
const UDP_PAYLOAD_BYTES: RangeInclusive<u16> = 548..=1472;
/// From one small picture to one long GOP of a 4K camera many times over.
const GOP_CACHE_BYTES: RangeInclusive<usize> = 64 << 10..=4 << 30;
/// From a few packets to more than a slow viewer could catch up with.
const WEBSOCKET_QUEUE_BYTES: RangeInclusive<usize> = 64 << 10..=1 << 30;
/// A shorter file is all header and directory entry; a longer one makes retention and repair coarse.
const SEGMENT_SECONDS: RangeInclusive<u64> = 10..=3600;
/// It is what a kill may lose, and it waits in memory.
const FRAGMENT_SECONDS: RangeInclusive<u64> = 1..=10;
/// Less often than once a segment it would mean nothing.
const FSYNC_SECONDS: RangeInclusive<u64> = 0..=3600;
/// From one small fragment to what a camera makes while a disk spins up, many times over.
const RECORDING_QUEUE_BYTES: RangeInclusive<usize> = 1 << 20..=1 << 30;
/// From at once to where nobody waits for it any more.
const SLATE_SECONDS: RangeInclusive<u64> = 0..=300;
/// From at once to an hour.
const RETURN_SECONDS: RangeInclusive<u64> = 0..=3600;
/// From a viewer's reload of its page to a day.
const IDLE_SECONDS: RangeInclusive<u64> = 1..=86_400;
/// A thread each.
const FFMPEG_INPUTS_MAX: usize = 4096;
/// A hundred years.
const RETENTION_DAYS_MAX: u64 = 36_500;
/// Less than a segment of any camera would keep nothing.
const RECORDINGS_BYTES_MIN: u64 = 16 << 20;

/// The default of `wsc.udp_bind`: both IPv6 and IPv4.
pub const UDP_BIND: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[cfg(test)]
mod tests;

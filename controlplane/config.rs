//! The settings: command line over environment over file over default.
//!
//! Every setting has one key, and the key makes its three names: `http.bind` is `--http-bind`,
//! `LANECAST_HTTP_BIND` and `bind` in the file's `[http]`. [`Config::load`] checks everything once;
//! the rest of the program reads a [`Config`] and never a raw value.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Arg, ArgAction, Command};
use lanecast_shard::{DataPlaneConfig, RecorderConfig};
use tracing_subscriber::EnvFilter;
use url::Url;

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The HTTP server.
    pub http: HttpConfig,
    /// The shards.
    pub data_plane: DataPlaneConfig,
    /// False where `wsc.udp_bind` is our own default, so that a machine without IPv6 may fall back to IPv4.
    pub udp_bind_given: bool,
    /// How long a camera may take.
    pub source: SourceTimeouts,
    /// Where the database and recordings live.
    pub data_dir: PathBuf,
    /// Bound of WSC-RTP sessions at a time.
    pub max_sessions: usize,
    /// WebRTC.
    pub webrtc: WebRtcConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Start the built-in camera.
    pub demo: bool,
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

/// How long a camera may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceTimeouts {
    /// For the TCP connect.
    pub connect: Duration,
    /// For an RTSP answer.
    pub reply: Duration,
    /// Between two packets of media.
    pub silence: Duration,
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
        Ok(Self {
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
                recorder: RecorderConfig::default(),
            },
            udp_bind_given: layers.is_given("wsc.udp_bind"),
            source: SourceTimeouts {
                connect: layers.parse("source.connect_timeout_seconds", seconds)?,
                reply: layers.parse("source.reply_timeout_seconds", seconds)?,
                silence: layers.parse("source.silence_timeout_seconds", seconds)?,
            },
            data_dir: layers.parse("data_dir", |text| Ok(PathBuf::from(text)))?,
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

/// One setting: its key makes all its names.
struct Setting {
    key: &'static str,
    default: &'static str,
    /// The name of original.md, weaker than our own variable.
    old_variable: Option<&'static str>,
    help: &'static str,
}

impl Setting {
    fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }
    fn variable(&self) -> String {
        format!("LANECAST_{}", self.key.replace('.', "_").to_uppercase())
    }
}

/// Where values come from, strongest first.
struct Layers<'a> {
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
        let mut matches = command().try_get_matches_from(arguments)?;
        let mut flags = HashMap::new();
        for key in SETTINGS.iter().map(|setting| setting.key).chain(["port", "config"]) {
            if let Ok(Some(value)) = matches.try_remove_one::<String>(key) {
                flags.insert(key, value);
            }
        }
        let mut layers = Self { flags, environment, file: HashMap::new(), file_name: String::new() };
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

fn setting(key: &str) -> &'static Setting {
    // The keys are literals of this file; a test reads every setting once.
    SETTINGS.iter().find(|setting| setting.key == key).expect("a setting of the table")
}

fn command() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        let mut help = format!("{} [{}", setting.help, setting.variable());
        if let Some(old) = setting.old_variable {
            help += &format!(", {old}");
        }
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        help += &format!("; default {default}]");
        let argument = Arg::new(setting.key).long(setting.flag()).help(help).value_name("VALUE");
        match setting.key {
            "demo" => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => argument,
        }
    });
    Command::new("lanecast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A media server for many cameras and many viewers")
        .arg(Arg::new("config").long("config").value_name("FILE").help("Settings as TOML [LANECAST_CONFIG]"))
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

fn number<T: FromStr + PartialOrd + Display>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> {
    move |text| match text.trim().parse::<T>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("is no whole number from {} to {}", range.start(), range.end())),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(1..=300)(text).map(Duration::from_secs)
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is neither true nor false".into()),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| "is no address and port, like 0.0.0.0:8009 or [::]:8009".into())
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| "is no IP address".into())
}

fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let parse = |item: &str| match address(item) {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
            Err(format!("holds {ip}, which is nobody's address"))
        }
        Ok(ip) => Ok(ip.to_canonical()),
        Err(_) => Err(format!("holds {item:?}, which is no IP address")),
    };
    let addresses: Vec<IpAddr> = items(text).map(parse).collect::<Result<_, _>>()?;
    match addresses.len() <= PUBLIC_ADDRESSES_MAX {
        true => Ok(addresses),
        false => Err(format!("holds more than {PUBLIC_ADDRESSES_MAX} addresses")),
    }
}

fn stun_server(text: &str) -> Result<Option<StunServer>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let reason = || "is no host and port, like stun.example.org:3478 or [2001:db8::1]:3478".to_owned();
    let (host, port) = text.strip_prefix("stun:").unwrap_or(text).rsplit_once(':').ok_or_else(reason)?;
    let port = number(1..=u16::MAX)(port).map_err(|_| reason())?;
    // What a URL takes for a host; a bare IPv6 address it does not.
    match url::Host::parse(host) {
        Ok(_) => Ok(Some(StunServer { host: host.to_owned(), port })),
        Err(_) => Err(reason()),
    }
}

fn tcp_bind(text: &str) -> Result<TcpBind, String> {
    match text.trim() {
        "auto" => Ok(TcpBind::Auto),
        "off" => Ok(TcpBind::Off),
        text => socket_address(text)
            .map(TcpBind::At)
            .map_err(|_| "is neither an address and port, like 0.0.0.0:5000, nor auto nor off".into()),
    }
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| format!("is no log filter: {error}"))?;
    Ok(text.to_owned())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is neither text nor json".into()),
    }
}

fn cors_origins(text: &str) -> Result<CorsOrigins, String> {
    let origins: Vec<&str> = items(text).collect();
    match origins.as_slice() {
        ["*"] => Ok(CorsOrigins::Any),
        ["none"] => Ok(CorsOrigins::Only(Vec::new())),
        origins => origins.iter().map(|text| origin(text)).collect::<Result<_, _>>().map(CorsOrigins::Only),
    }
}

/// What stands between commas.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn origin(text: &str) -> Result<String, String> {
    let origin = Url::parse(text).ok().map(|url| url.origin().ascii_serialization());
    match origin {
        Some(origin) if origin == text.trim_end_matches('/').to_ascii_lowercase() => Ok(origin),
        _ => Err(format!("holds {text:?}, which is no origin like https://example.org")),
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

/// Every viewer gets them all in its answer.
const PUBLIC_ADDRESSES_MAX: usize = 8;

/// The default of `wsc.udp_bind`: both IPv6 and IPv4.
pub const UDP_BIND: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

const SETTINGS: &[Setting] = &[
    Setting {
        key: "http.bind",
        default: "0.0.0.0:8009",
        old_variable: Some("BIND_ADDRESS"),
        help: "Address and port of the HTTP server; [::]:8009 takes IPv4 and IPv6",
    },
    Setting {
        key: "http.max_connections",
        default: "4096",
        old_variable: None,
        help: "Open HTTP connections at a time, WebSockets included until a shard has them",
    },
    Setting {
        key: "http.max_body_bytes",
        default: "1048576",
        old_variable: None,
        help: "Largest request body in bytes",
    },
    Setting {
        key: "http.header_timeout_seconds",
        default: "10",
        old_variable: None,
        help: "How long a client may take to send a request's header, idle time before it included",
    },
    Setting {
        key: "http.cors_origins",
        default: "*",
        old_variable: None,
        help: "Origins whose pages may call the API, separated by commas; * for any, none for none",
    },
    Setting {
        key: "data_dir",
        default: "./data",
        old_variable: None,
        help: "Directory of the database and of the recordings",
    },
    Setting {
        key: "shards",
        default: "auto",
        old_variable: None,
        help: "Media threads, each on a core of its own; auto is all cores but one",
    },
    Setting {
        key: "wsc.udp_port",
        default: "5000",
        old_variable: Some("WSC_HOLEPUNCH_PORT"),
        help: "UDP port of shard 0, shard n uses this + n; 0 takes any free ports",
    },
    Setting {
        key: "wsc.udp_bind",
        default: "::",
        old_variable: None,
        help: "Address of the UDP sockets; :: takes IPv4 and IPv6",
    },
    Setting {
        key: "wsc.allow_foreign_destination",
        default: "false",
        old_variable: None,
        help: "Send RTP to an address other than the WebSocket's without its acknowledgement",
    },
    Setting {
        key: "wsc.websocket_queue_bytes",
        default: "4194304",
        old_variable: None,
        help: "Bound of a WebSocket viewer's queue in bytes",
    },
    Setting {
        key: "wsc.max_sessions",
        default: "20000",
        old_variable: None,
        help: "WSC-RTP sessions at a time",
    },
    Setting {
        key: "webrtc.public_addresses",
        default: "",
        old_variable: None,
        help: "IP addresses at which viewers reach the server's ports, separated by commas; before its own in answers",
    },
    Setting {
        key: "webrtc.stun",
        default: "",
        old_variable: None,
        help: "Host and port of the STUN server that tells the public address, like stun.example.org:3478",
    },
    Setting {
        key: "webrtc.tcp_bind",
        default: "auto",
        old_variable: None,
        help: "Address and port of ICE-TCP, for viewers without UDP; auto is wsc.udp_bind and wsc.udp_port; off",
    },
    Setting {
        key: "webrtc.max_sessions",
        default: "20000",
        old_variable: None,
        help: "WebRTC sessions at a time",
    },
    Setting {
        key: "webrtc.max_sessions_per_stream",
        default: "10000",
        old_variable: None,
        help: "WebRTC sessions of one stream at a time",
    },
    Setting {
        key: "media.max_udp_payload",
        default: "1200",
        old_variable: None,
        help: "Largest UDP payload in bytes, RTP header included",
    },
    Setting {
        key: "media.gop_cache_bytes",
        default: "33554432",
        old_variable: None,
        help: "Bound of each stream's GOP cache in bytes",
    },
    Setting {
        key: "source.connect_timeout_seconds",
        default: "5",
        old_variable: None,
        help: "How long the connection to a camera may take",
    },
    Setting {
        key: "source.reply_timeout_seconds",
        default: "5",
        old_variable: None,
        help: "How long a camera may take to answer",
    },
    Setting {
        key: "source.silence_timeout_seconds",
        default: "10",
        old_variable: None,
        help: "How long a camera may send no media",
    },
    Setting {
        key: "log.filter",
        // The DTLS library logs what strangers send, line by line.
        default: "info",
        old_variable: None,
        help: "What is logged, like info,lanecast=debug",
    },
    Setting { key: "log.format", default: "text", old_variable: None, help: "text, or json" },
    Setting {
        key: "demo",
        default: "false",
        old_variable: None,
        help: "Start a built-in camera and show its streams",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment: HashMap<String, OsString> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let arguments = std::iter::once("lanecast").chain(arguments.iter().copied()).map(OsString::from);
        Config::load(arguments, &|name| environment.get(name).cloned())
    }

    fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
        load(arguments, environment).expect_err("refused").to_string()
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = load(&[], &[]).unwrap();
        assert_eq!(config.http.bind, "0.0.0.0:8009".parse::<SocketAddr>().unwrap());
        assert_eq!(config.data_plane.udp_port, 5000);
        assert_eq!(config.data_plane.udp_bind, UDP_BIND);
        assert_eq!(config.data_dir, Path::new("./data"));
        assert_eq!(config.data_plane.max_udp_payload, 1200);
        assert!(config.data_plane.shards >= 1 && !config.demo && !config.udp_bind_given);
    }

    #[test]
    fn the_names_of_the_original_work() {
        let bind = |arguments: &[&str], environment: &[(&str, &str)]| {
            load(arguments, environment).unwrap().http.bind.to_string()
        };
        assert_eq!(bind(&["--port", "9000"], &[]), "0.0.0.0:9000");
        assert_eq!(bind(&[], &[("BIND_ADDRESS", "127.0.0.1:1")]), "127.0.0.1:1");
        assert_eq!(bind(&["--port", "9000"], &[("BIND_ADDRESS", "127.0.0.1:1")]), "127.0.0.1:9000");
        let own_first = [("BIND_ADDRESS", "127.0.0.1:1"), ("LANECAST_HTTP_BIND", "127.0.0.1:2")];
        assert_eq!(bind(&[], &own_first), "127.0.0.1:2");
        assert_eq!(load(&[], &[("WSC_HOLEPUNCH_PORT", "6000")]).unwrap().data_plane.udp_port, 6000);
    }

    #[test]
    fn command_line_beats_environment_beats_file_beats_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lanecast.toml");
        std::fs::write(&path, "shards = 3\n[http]\nbind = \"127.0.0.1:1\"\ncors_origins = [\"https://a.example\"]\n[source]\nreply_timeout_seconds = 7\n").unwrap();
        let file = path.to_str().unwrap();
        let config = load(&["--config", file], &[]).unwrap();
        assert_eq!((config.http.bind.port(), config.data_plane.shards), (1, 3));
        assert_eq!(config.source.reply, Duration::from_secs(7));
        assert_eq!(config.http.cors_origins, CorsOrigins::Only(vec!["https://a.example".into()]));
        let environment = [("LANECAST_CONFIG", file), ("LANECAST_HTTP_BIND", "127.0.0.1:2")];
        assert_eq!(load(&[], &environment).unwrap().http.bind.port(), 2);
        assert_eq!(load(&["--http-bind", "127.0.0.1:3"], &environment).unwrap().http.bind.port(), 3);
    }

    #[test]
    fn a_bad_value_is_named_where_it_stands() {
        assert!(refusal(&["--http-bind", "nowhere"], &[]).starts_with("--http-bind: \"nowhere\""));
        assert!(refusal(&["--port", "70000"], &[]).starts_with("--port: \"70000\""));
        assert!(refusal(&[], &[("BIND_ADDRESS", "x")]).starts_with("BIND_ADDRESS: \"x\""));
        assert!(refusal(&[], &[("LANECAST_SHARDS", "0")]).starts_with("LANECAST_SHARDS: \"0\""));
        assert!(refusal(&["--wsc-udp-port", "65535", "--shards", "2"], &[]).starts_with("--wsc-udp-port"));
        assert!(refusal(&["--log-filter", "a=b=c"], &[]).starts_with("--log-filter"));
        assert!(refusal(&["--http-cors-origins", "https://a.example/path"], &[]).contains("no origin"));
        assert!(refusal(&["--config", "/nonexistent.toml"], &[]).starts_with("/nonexistent.toml: "));
        assert!(matches!(load(&["--prot", "1"], &[]), Err(ConfigError::CommandLine(_))));
        assert!(matches!(
            load(&["--port", "1", "--http-bind", "[::]:1"], &[]),
            Err(ConfigError::CommandLine(_))
        ));
    }

    #[test]
    fn webrtc_has_addresses_a_stun_server_and_a_tcp_port() {
        let config = load(&[], &[]).unwrap().webrtc;
        assert_eq!((config.public_addresses, config.stun, config.tcp_bind), (vec![], None, TcpBind::Auto));
        let udp_bind = UDP_BIND;
        assert_eq!(config.tcp_bind.address(udp_bind, 5000), Some("[::]:5000".parse().unwrap()));
        let arguments =
            ["--webrtc-public-addresses=203.0.113.9, 2001:db8::9", "--webrtc-stun=[2001:db8::1]:3478"];
        let config = load(&arguments, &[("LANECAST_WEBRTC_TCP_BIND", "off")]).unwrap().webrtc;
        assert_eq!(config.public_addresses.len(), 2);
        assert_eq!(config.stun, Some(StunServer { host: "[2001:db8::1]".into(), port: 3478 }));
        assert_eq!((config.tcp_bind, config.tcp_bind.address(udp_bind, 5000)), (TcpBind::Off, None));
        for (flag, bad) in [
            ("--webrtc-public-addresses", "1.2.3.4,example.org"),
            ("--webrtc-public-addresses", "0.0.0.0"),
            ("--webrtc-stun", "stun.example.org"),
            ("--webrtc-stun", "stun.example.org:0"),
            ("--webrtc-stun", ":3478"),
            ("--webrtc-stun", "2001:db8::1:3478"),
            ("--webrtc-tcp-bind", "5000"),
            ("--webrtc-max-sessions-per-stream", "0"),
        ] {
            assert!(refusal(&[flag, bad], &[]).starts_with(&format!("{flag}: {bad:?}")), "{flag} {bad}");
        }
    }

    #[test]
    fn an_unknown_key_of_the_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lanecast.toml");
        let file = path.to_str().unwrap();
        std::fs::write(&path, "[http]\nbnid = \"x\"\n").unwrap();
        assert!(refusal(&["--config", file], &[]).contains("http.bnid is no setting"));
        std::fs::write(&path, "[http]\nbind = 1.5\n").unwrap();
        assert!(refusal(&["--config", file], &[]).contains("http.bind: \"1.5\""));
        std::fs::write(&path, "[http\n").unwrap();
        assert!(refusal(&["--config", file], &[]).starts_with(file));
    }

    #[test]
    fn the_demo_needs_no_value() {
        assert!(load(&["--demo"], &[]).unwrap().demo);
        assert!(load(&[], &[("LANECAST_DEMO", "true")]).unwrap().demo);
        assert!(!load(&["--demo=false"], &[("LANECAST_DEMO", "true")]).unwrap().demo);
    }

    #[test]
    fn every_setting_takes_its_own_default() {
        for setting in SETTINGS {
            let flag = format!("--{}={}", setting.flag(), setting.default);
            load(&[&flag], &[]).unwrap();
        }
        command().debug_assert();
    }
}

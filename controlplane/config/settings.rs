//! The table of all settings: key, default, and what `--help` says. How their texts are read is the business of `values`.

/// One setting: its key makes all its names.
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) default: &'static str,
    /// The name of original.md, weaker than our own variable.
    pub(super) old_variable: Option<&'static str>,
    pub(super) help: &'static str,
}

impl Setting {
    pub(super) fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }
    pub(super) fn variable(&self) -> String {
        format!("LANECAST_{}", self.key.replace('.', "_").to_uppercase())
    }
}

/// A setting by key.
pub(super) fn setting(key: &str) -> &'static Setting {
    // The keys are literals of `config`; a test reads every setting once.
    SETTINGS.iter().find(|setting| setting.key == key).expect("a setting of the table")
}

/// All of them.
pub(super) const SETTINGS: &[Setting] = &[
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
        key: "recording.dir",
        default: "",
        old_variable: None,
        help: "Folder of the recordings and of their catalogue; none is the folder recordings in data_dir",
    },
    Setting {
        key: "recording.fsync_seconds",
        default: "2",
        old_variable: None,
        help: "How often what was written is made durable (fdatasync). A kill of the server loses the fragment that is \
            being written, whatever is set. A power cut also loses what was written since the last time: 0 is after \
            every fragment, so it loses that fragment only; n is every n seconds, so it loses n seconds more; off is \
            when the system does it, often 30 s later",
    },
    Setting {
        key: "recording.segment_seconds",
        default: "60",
        old_variable: None,
        help: "A file of a recording ends at the first keyframe after this",
    },
    Setting {
        key: "recording.fragment_max_seconds",
        default: "2",
        old_variable: None,
        help: "A fragment is written after this even where no keyframe comes",
    },
    Setting {
        key: "recording.queue_bytes",
        default: "33554432",
        old_variable: None,
        help: "Bytes of each stream that may wait for the disk; beyond it GOPs are not recorded",
    },
    Setting {
        key: "recording.retention_days",
        default: "off",
        old_variable: None,
        help: "Recordings older than this are removed; off keeps them",
    },
    Setting {
        key: "recording.max_bytes_per_stream",
        default: "off",
        old_variable: None,
        help: "Bytes of recordings of one stream, beyond which its oldest are removed; off for no bound",
    },
    Setting {
        key: "recording.max_bytes",
        default: "off",
        old_variable: None,
        help: "Bytes of all recordings, beyond which the oldest are removed; off for no bound",
    },
    Setting {
        key: "recording.min_free_bytes",
        default: "1073741824",
        old_variable: None,
        help: "Bytes of the recordings' disk that stay free: the oldest recordings are removed for it; 0 or off for none",
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
        key: "source.return_after_seconds",
        default: "10",
        old_variable: None,
        help: "How long a better input must work before it is used again in place of the one in use",
    },
    Setting {
        key: "source.slate_after_seconds",
        default: "2",
        old_variable: None,
        help: "Viewers get the offline picture after so long without pictures; off for never",
    },
    Setting {
        key: "source.on_demand_idle_seconds",
        default: "10",
        old_variable: None,
        help: "A stream on demand stays connected for so long after its last viewer",
    },
    Setting {
        key: "source.max_bits_per_second",
        default: "200000000",
        old_variable: None,
        help: "What an input may send; one that sends more is disconnected; 0 or off for no bound",
    },
    Setting {
        key: "source.deny_networks",
        default: "",
        old_variable: None,
        help: "Networks that no input may be in, like 169.254.0.0/16,10.0.0.0/8, whatever its name resolves to",
    },
    Setting {
        key: "source.file_folders",
        default: "",
        old_variable: None,
        help: "Folders whose files may be inputs, separated by commas; none: file URLs are refused",
    },
    Setting {
        key: "source.ffmpeg_inputs_max",
        default: "64",
        old_variable: None,
        help: "Inputs that FFmpeg may have open at a time, each with a thread",
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

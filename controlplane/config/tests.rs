//! The settings' names, layers, bounds and refusals.

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
    assert!(matches!(load(&["--port", "1", "--http-bind", "[::]:1"], &[]), Err(ConfigError::CommandLine(_))));
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

#[test]
fn recordings_are_below_the_data_and_kept_as_long_as_there_is_room() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.recording.folder, Path::new("./data/recordings"));
    let free_only = Retention { free_bytes_min: Some(1 << 30), ..Retention::default() };
    assert_eq!(config.recording.retention, free_only);
    let (recorder, default) = (config.data_plane.recorder, RecorderConfig::default());
    assert_eq!(
        (recorder.segment, recorder.fragment_max, recorder.sync_interval, recorder.queue_bytes_max),
        (default.segment, default.fragment_max, default.sync_interval, default.queue_bytes_max)
    );
    assert_eq!(load(&["--data-dir", "/d"], &[]).unwrap().recording.folder, Path::new("/d/recordings"));
}

#[test]
fn recording_has_its_names_in_all_layers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lanecast.toml");
    std::fs::write(&path, "[recording]\ndir = \"/r\"\nretention_days = 30\nfsync_seconds = \"off\"\n")
        .unwrap();
    let arguments = ["--config", path.to_str().unwrap(), "--recording-max-bytes=1000000000000"];
    let environment = [
        ("LANECAST_RECORDING_MAX_BYTES_PER_STREAM", "50000000000"),
        ("LANECAST_RECORDING_MIN_FREE_BYTES", "0"),
    ];
    let config = load(&arguments, &environment).unwrap();
    assert_eq!(
        (config.recording.folder.as_path(), config.data_dir.as_path()),
        (Path::new("/r"), Path::new("./data"))
    );
    let retention = Retention {
        age_max: Some(Duration::from_secs(30 * 86_400)),
        stream_bytes_max: Some(50_000_000_000),
        bytes_max: Some(1_000_000_000_000),
        free_bytes_min: None,
    };
    assert_eq!((config.recording.retention, config.data_plane.recorder.sync_interval), (retention, None));
    let every_fragment = load(&["--recording-fsync-seconds=0"], &[]).unwrap().data_plane.recorder;
    assert_eq!(every_fragment.sync_interval, Some(Duration::ZERO));
}

#[test]
fn a_bad_setting_of_recording_is_named() {
    for (flag, bad) in [
        ("--recording-fsync-seconds", "-1"),
        ("--recording-fsync-seconds", "on"),
        ("--recording-segment-seconds", "9"),
        ("--recording-segment-seconds", "3601"),
        ("--recording-fragment-max-seconds", "0"),
        ("--recording-queue-bytes", "1"),
        ("--recording-retention-days", "0"),
        ("--recording-retention-days", "1.5"),
        ("--recording-max-bytes-per-stream", "0"),
        ("--recording-max-bytes", "1TB"),
        ("--recording-min-free-bytes", "-5"),
    ] {
        assert!(
            refusal(&[&format!("{flag}={bad}")], &[]).starts_with(&format!("{flag}: {bad:?}")),
            "{flag} {bad}"
        );
    }
}

#[test]
fn the_catalogue_is_rebuilt_with_the_servers_settings() {
    assert_eq!(load(&[], &[]).unwrap().task, Task::Serve);
    for arguments in [
        ["--data-dir=/d", "catalog", "rebuild"],
        ["catalog", "--data-dir=/d", "rebuild"],
        ["catalog", "rebuild", "--data-dir=/d"],
    ] {
        let config = load(&arguments, &[]).unwrap();
        assert_eq!(config.task, Task::RebuildCatalog);
        assert_eq!(config.recording.folder, Path::new("/d/recordings"), "{arguments:?}");
    }
    for arguments in [&["catalog"][..], &["rebuild"], &["catalog", "burn"]] {
        assert!(matches!(load(arguments, &[]), Err(ConfigError::CommandLine(_))), "{arguments:?}");
    }
}

#[test]
fn sources_may_be_anywhere_but_no_files_unless_told_otherwise() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.source.reach, Reach::default());
    let second = Duration::from_secs(1);
    assert_eq!((config.source.return_after, config.source.on_demand_idle), (10 * second, 10 * second));
    assert_eq!(config.source.bits_per_second_max, 200_000_000);
    assert_eq!((config.data_plane.slate_after, config.data_plane.foreign_inputs_max), (Some(2 * second), 64));
}

#[test]
fn sources_have_their_names_in_all_layers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lanecast.toml");
    let file = "[source]\ndeny_networks = [\"169.254.0.0/16\", \"::ffff:10.1.2.3/104\", \"fd00::/8\", \"::1\"]\n\
        slate_after_seconds = \"off\"\nmax_bits_per_second = 0\n";
    std::fs::write(&path, file).unwrap();
    let arguments = ["--config", path.to_str().unwrap(), "--source-file-folders=/video, /mnt/nas/clips"];
    let environment =
        [("LANECAST_SOURCE_FFMPEG_INPUTS_MAX", "3"), ("LANECAST_SOURCE_RETURN_AFTER_SECONDS", "0")];
    let config = load(&arguments, &environment).unwrap();
    let denied: Vec<String> = config.source.reach.denied.iter().map(ToString::to_string).collect();
    assert_eq!(denied, ["169.254.0.0/16", "10.0.0.0/8", "fd00::/8", "::1/128"]);
    assert_eq!(config.source.reach.folders, [Path::new("/video"), Path::new("/mnt/nas/clips")]);
    assert_eq!((config.source.bits_per_second_max, config.source.return_after), (u64::MAX, Duration::ZERO));
    assert_eq!((config.data_plane.slate_after, config.data_plane.foreign_inputs_max), (None, 3));
}

#[test]
fn a_bad_setting_of_sources_is_named() {
    for (flag, bad) in [
        ("--source-deny-networks", "10.0.0.0/33"),
        ("--source-deny-networks", "10.0.0.0/8,example.org"),
        ("--source-deny-networks", "10.0.0"),
        ("--source-file-folders", "video"),
        ("--source-file-folders", "/video,../etc"),
        ("--source-return-after-seconds", "-1"),
        ("--source-slate-after-seconds", "never"),
        ("--source-on-demand-idle-seconds", "0"),
        ("--source-max-bits-per-second", "200M"),
        ("--source-ffmpeg-inputs-max", "5000"),
    ] {
        assert!(
            refusal(&[&format!("{flag}={bad}")], &[]).starts_with(&format!("{flag}: {bad:?}")),
            "{flag} {bad}"
        );
    }
}

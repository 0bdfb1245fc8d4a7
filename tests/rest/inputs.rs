//! The inputs of a stream: their schemes, whom they trust, where they may be, and when they are connected.

use std::path::Path;
use std::time::Duration;

use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::StreamState;
#[cfg(feature = "ffmpeg")]
use lanecast_shard::InputKind;
use lanecast_shard::{Event, RecordingStatus, SlateStatus, StreamConfig, StreamId, StreamStatus};
use serde_json::{Value, json};

use crate::harness::{Answer, Server};
use crate::offers::BROWSER;

fn status(state: StreamState, codec: Option<Codec>) -> StreamStatus {
    StreamStatus {
        state,
        reason: None,
        active_input: None,
        codec,
        width: None,
        height: None,
        profile_level_id: None,
        recording: RecordingStatus::Off,
        slate: SlateStatus::Off,
    }
}

async fn create(server: &Server, url: &str) -> Answer {
    server.post("/streams", json!({"source_id": 7, "rtsp_url": url})).await
}

/// Refused with this status and code, in a sentence that names the field and holds `rule`.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str, rule: &str) {
    assert_eq!(answer.refusal(), (status, code.to_owned()), "{answer:?}");
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("rtsp_") && message.contains(rule), "{message}");
}

/// What the shard got last of stream 7.
async fn config(server: &mut Server, told: &str) -> StreamConfig {
    server.until_told(told).await;
    let (id, _) = server.control.stream("7").unwrap();
    server.plane().streams[&id].1.clone()
}

#[tokio::test]
async fn a_denied_network_is_refused_in_every_disguise() {
    let directory = tempfile::tempdir().unwrap();
    let denied = "--source-deny-networks=169.254.0.0/16,127.0.0.0/8,::1/128,fd00::/8";
    let server = Server::configured(directory.path(), &[denied]).await;
    for (url, net) in [
        ("rtsp://169.254.169.254/", "169.254.0.0/16"),
        ("rtsp://admin:s3cret@169.254.1.1:8554/x", "169.254.0.0/16"),
        ("rtsp://[::ffff:169.254.169.254]/", "169.254.0.0/16"),
        ("rtsp://[::ffff:a9fe:a9fe]/", "169.254.0.0/16"),
        ("rtsps://[fd00::7]/", "fd00::/8"),
        ("rtsp://0.0.0.0/", "127.0.0.0/8"),
        ("rtsp://[::]/", "::1/128"),
        // What the system's resolver takes for 127.0.0.1.
        ("rtsp://localhost/", "127.0.0.0/8"),
        ("rtsp://127.1/", "127.0.0.0/8"),
        ("rtsp://0x7f000001/", "127.0.0.0/8"),
        ("rtsp://2130706433/", "127.0.0.0/8"),
    ] {
        let answer = create(&server, url).await;
        assert_refused(&answer, 422, "denied_network", "source.deny_networks");
        let is_loopback = url.contains("localhost");
        assert!(answer.body.contains(net) || is_loopback && answer.body.contains("::1/128"), "{answer:?}");
        assert!(!answer.body.contains("s3cret"), "{answer:?}");
    }
    assert_eq!(server.get("/streams").await.json(), json!({"streams": []}));
    for (id, url) in [(1, "rtsp://192.0.2.1/"), (2, "rtsp://no-such-name.invalid/")] {
        let body = json!({"source_id": id, "rtsp_url": url});
        assert_eq!(server.post("/streams", body).await.status, 201, "{url}");
    }
}

#[cfg(feature = "ffmpeg")]
#[tokio::test]
async fn a_worker_does_not_reach_a_denied_network_either() {
    let directory = tempfile::tempdir().unwrap();
    let server =
        Server::configured(directory.path(), &["--source-deny-networks=169.254.0.0/16,127.0.0.0/8,::1"])
            .await;
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "https://[::ffff:169.254.169.254]/x.m3u8",
        "rtmp://169.254.1.1/live/abcd",
        "srt://169.254.1.1:9000",
        "udp://169.254.1.1:9000",
        "rtsp://169.254.1.1/?via=ffmpeg",
        "http://localhost:8009/",
        "http://LOCALHOST/",
        "srt://127.0.0.1:9000",
    ] {
        assert_refused(&create(&server, url).await, 422, "denied_network", "source.deny_networks");
    }
    assert_eq!(create(&server, "udp://0.0.0.0:5004").await.status, 201);
}

#[tokio::test]
async fn a_change_is_checked_and_what_it_does_not_name_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::over(directory.path()).await;
    server.add(json!(7)).await;
    server.stop().await;
    let mut server = Server::configured(directory.path(), &["--source-deny-networks=127.0.0.0/8"]).await;
    let denied = config(&mut server, "add").await.source.denied;
    assert_eq!(denied.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.0/8"]);
    assert_eq!(server.patch("/streams/7", json!({"should_record": true})).await.status, 200);
    let inputs = json!([
        {"label": "a", "url": "rtsp://192.0.2.1/", "priority": 5},
        {"label": "b", "url": "rtsp://127.0.0.1/", "priority": 1},
    ]);
    let answer = server.patch("/streams/7", json!({"rtsp_inputs": inputs})).await;
    assert_refused(&answer, 422, "denied_network", "rtsp_inputs[1].url leads into 127.0.0.0/8");
    assert_eq!(server.get("/streams/7").await.json()["rtsp_url"], "rtsp://127.0.0.1:1/x");
}

#[tokio::test]
async fn a_name_that_leads_into_a_denied_network_is_not_resolved() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::configured(directory.path(), &["--source-deny-networks=127.0.0.0/8,::1"]).await;
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://no-such-name.invalid/"});
    assert_eq!(server.post("/streams", body).await.status, 201);
    let (stream, _) = server.control.stream("7").unwrap();
    for (question, host) in [(1, "localhost"), (2, "192.0.2.1")] {
        server.emit(Event::Resolve { stream, question, host: host.into(), port: 554 }).await;
        server.until_told("resolved").await;
    }
    let resolved = std::mem::take(&mut server.plane().resolved);
    let [(1, Err(reason)), (2, Ok(addresses))] = resolved.as_slice() else { panic!("{resolved:?}") };
    assert!(reason.starts_with("the name localhost leads into"), "{reason}");
    assert_eq!(addresses[0].to_string(), "192.0.2.1:554");
}

#[cfg(feature = "ffmpeg")]
#[tokio::test]
async fn without_folders_there_are_no_files() {
    let (server, _directory) = Server::start().await;
    let answer = create(&server, "file:///etc/passwd").await;
    assert_refused(&answer, 422, "file_not_allowed", "source.file_folders");
}

#[cfg(feature = "ffmpeg")]
#[tokio::test]
async fn a_file_is_below_a_folder_and_there() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("in")).unwrap();
    for file in ["in/a b.mp4", "out.mp4"] {
        std::fs::write(root.join(file), "x").unwrap();
    }
    std::os::unix::fs::symlink(root.join("out.mp4"), root.join("in/link.mp4")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("in/etc")).unwrap();
    let allowed = format!("--source-file-folders={}", root.join("in").display());
    let mut server = Server::configured(&root.join("data"), &[&allowed]).await;
    let root = root.display();
    for (url, status, code) in [
        (format!("file://{root}/out.mp4"), 422, "file_not_allowed"),
        (format!("file://{root}/in/../out.mp4"), 422, "file_not_allowed"),
        (format!("file://{root}/in/%2e%2e/out.mp4"), 422, "file_not_allowed"),
        (format!("file://{root}/in/%2E./out.mp4"), 422, "file_not_allowed"),
        (format!("file://{root}/in%2f..%2fout.mp4"), 422, "file_not_allowed"),
        (format!("file://{root}/in%2f..%2fnothing.mp4"), 422, "file_not_allowed"),
        (format!("file://{root}/in/link.mp4"), 422, "file_not_allowed"),
        (format!("file://{root}/in/etc/passwd"), 422, "file_not_allowed"),
        ("file:///etc/passwd".into(), 422, "file_not_allowed"),
        ("file:///dev/zero".into(), 422, "file_not_allowed"),
        (format!("file://{root}/in/nothing.mp4"), 422, "file_not_found"),
        (format!("file://{root}/in"), 422, "file_not_found"),
        (format!("file://{root}/in/a%20b.mp4?x=1"), 422, "invalid_value"),
        (format!("file://host{root}/in/a%20b.mp4"), 422, "invalid_value"),
        (format!("file://admin:s3cret@host{root}/in/a%20b.mp4"), 400, "invalid_url"),
        (format!("file://{root}/in/a%00b.mp4"), 400, "invalid_url"),
    ] {
        let answer = create(&server, &url).await;
        assert_refused(&answer, status, code, "");
        assert!(!answer.body.contains("s3cret") && !answer.body.contains("passwd"), "{answer:?}");
    }
    let answer = create(&server, &format!("file://localhost{root}/in/a%20b.mp4")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let config = config(&mut server, "add").await;
    assert_eq!(config.source.inputs[0].kind, InputKind::Foreign);
    assert_eq!(config.foreign[0].as_ref().unwrap().as_str(), format!("file://{root}/in/a%20b.mp4"));
}

#[cfg(feature = "ffmpeg")]
#[tokio::test]
async fn a_file_is_checked_again_when_its_stream_starts() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("in")).unwrap();
    let (file, data) = (root.join("in/a.mp4"), root.join("data"));
    std::fs::write(&file, "x").unwrap();
    std::fs::write(root.join("out.mp4"), "x").unwrap();
    let allowed = format!("--source-file-folders={}", root.join("in").display());
    let start = async |arguments: &[&str]| Server::configured(&data, arguments).await;
    let server = start(&[&allowed]).await;
    assert_eq!(create(&server, &format!("file://{}", file.display())).await.status, 201);
    server.stop().await;

    let mut server = start(&[]).await;
    assert_eq!(config(&mut server, "add").await.foreign, [None], "no folder is allowed any more");
    server.stop().await;

    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(root.join("out.mp4"), &file).unwrap();
    let mut server = start(&[&allowed]).await;
    assert_eq!(config(&mut server, "add").await.foreign, [None], "the file is elsewhere by now");
    server.stop().await;

    std::fs::remove_file(&file).unwrap();
    let mut server = start(&[&allowed]).await;
    assert!(config(&mut server, "add").await.foreign[0].is_some(), "it may come yet");
    server.stop().await;
}

#[tokio::test]
async fn urls_that_break_a_rule_of_their_scheme_are_refused_by_name() {
    let (server, _directory) = Server::start().await;
    for (url, status, code, rule) in [
        ("ftp://cam/", 422, "unsupported_scheme", "takes rtsp, rtsps"),
        ("concat:/etc/passwd", 422, "unsupported_scheme", "concat"),
        ("pipe:0", 422, "unsupported_scheme", "pipe"),
        ("rtsps://", 400, "invalid_url", "host"),
        ("rtsps://u:s3cret@/x", 400, "invalid_url", "URL"),
        ("rtsps://cam:0/", 400, "invalid_url", "port"),
    ] {
        assert_refused(&create(&server, url).await, status, code, rule);
    }
    #[cfg(feature = "ffmpeg")]
    for (url, status, code, rule) in [
        ("srt://u:s3cret@h:9000", 422, "invalid_value", "user info"),
        ("srt://h", 422, "invalid_value", "port"),
        ("srt://:9000", 400, "invalid_url", "host"),
        ("udp://239.0.0.1", 422, "invalid_value", "port"),
        ("udp://cam:5000", 422, "invalid_value", "multicast"),
        ("udp://s3cret@239.0.0.1:1", 422, "invalid_value", "user info"),
        ("http://", 400, "invalid_url", "host"),
        ("http://u:s3cret@a b/", 400, "invalid_url", "URL"),
        ("rtmp:///live/s3cret", 400, "invalid_url", "host"),
        ("rtmp://h|x/live/s3cret", 400, "invalid_url", "URL"),
    ] {
        let answer = create(&server, url).await;
        assert_refused(&answer, status, code, rule);
        assert!(!answer.body.contains("s3cret"), "{answer:?}");
    }
    assert!(server.plane().streams.is_empty());
}

#[cfg(not(feature = "ffmpeg"))]
#[tokio::test]
async fn what_needs_ffmpeg_is_refused_by_a_server_without() {
    let (server, _directory) = Server::start().await;
    for url in ["rtmp://h/a/b", "srt://h:1", "http://h/x.ts", "file:///x", "rtsp://cam/?via=ffmpeg"] {
        assert_refused(&create(&server, url).await, 422, "unsupported_scheme", "built without FFmpeg");
    }
}

#[cfg(feature = "ffmpeg")]
#[tokio::test]
async fn the_shard_gets_every_kind_of_input() {
    let (mut server, _directory) = Server::start().await;
    let urls = [
        "rtsp://u:p@cam/a",
        "rtsp://u:p%40w@cam/a?x=1&via=ffmpeg",
        "rtmp://h/live/abcdef",
        "srt://h:9000?streamid=#!::r=cam&passphrase=qwertzuiop",
        "https://u:p@h/x.m3u8",
        "udp://@239.0.0.1:5000",
    ];
    let input = |(priority, url): (usize, &&str)| json!({"label": format!("{priority}"), "url": url, "priority": priority});
    let inputs: Vec<Value> = urls.iter().enumerate().map(input).collect();
    let answer = server.post("/streams", json!({"source_id": 7, "rtsp_inputs": inputs})).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let config = config(&mut server, "add").await;
    let kinds: Vec<InputKind> = config.source.inputs.iter().map(|input| input.kind).collect();
    assert_eq!((kinds[0], &kinds[1..]), (InputKind::Rtsp, &[InputKind::Foreign; 5][..]));
    let foreign: Vec<&str> =
        config.foreign.iter().map(|url| url.as_ref().map_or("", |url| url.as_str())).collect();
    let expected = [
        "",
        "rtsp://u:p%40w@cam/a?x=1",
        "rtmp://h/live/abcdef",
        "srt://h:9000?streamid=%23!::r=cam&passphrase=qwertzuiop",
        "https://u:p@h/x.m3u8",
        "udp://239.0.0.1:5000",
    ];
    assert_eq!(foreign, expected);
    assert_eq!(config.tls.len(), urls.len());
    assert_eq!(
        answer.json()["rtsp_inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|input| input["url"].as_str().unwrap())
            .collect::<Vec<_>>(),
        [
            "rtsp://cam/a",
            "rtsp://cam/a?x=1&via=ffmpeg",
            "rtmp://h/live/***",
            "srt://h:9000",
            "https://h/x.m3u8",
            "udp://239.0.0.1:5000"
        ]
    );
}

#[cfg(feature = "ffmpeg")]
#[tokio::test]
async fn no_secret_of_a_workers_input_is_shown() {
    let (server, _directory) = Server::start().await;
    let inputs = json!([
        {"label": "a", "url": "rtmp://h/live/keykeykey", "priority": 0},
        {"label": "b", "url": "srt://h:9000?streamid=%23!::u=nimda,r=idididid&passphrase=wordwordword", "priority": 1},
        {"label": "c", "url": "https://root:pass%2Fpass@h/x.m3u8?token=tokentoken", "priority": 2},
    ]);
    let created = server.post("/streams", json!({"source_id": 7, "rtsp_inputs": inputs})).await;
    let (stream, _) = server.control.stream("7").unwrap();
    let reason = "rtmp://h/live/keykeykey srt://h:9000?streamid=#!::u=nimda,r=idididid&passphrase=wordwordword \
        https://root:pass%2Fpass@h/x.m3u8?token=tokentoken pass/pass";
    let status = StreamStatus {
        reason: Some(reason.into()),
        active_input: Some(1),
        slate: SlateStatus::Failed(reason.into()),
        ..status(StreamState::Error, None)
    };
    server.emit(Event::StreamChanged { stream, status }).await;
    let shown = [
        created.body,
        server.get("/streams").await.body,
        server.get("/metrics").await.body,
        server.get("/").await.body,
    ];
    for secret in ["keykeykey", "idididid", "nimda", "wordwordword", "pass/pass", "pass%2Fpass", "tokentoken"]
    {
        assert!(shown.iter().all(|text| !text.contains(secret)), "{secret} {shown:?}");
    }
}

#[tokio::test]
async fn trust_is_checked_kept_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::over(directory.path()).await;
    let with = |tls: Value| json!({"source_id": 7, "rtsp_url": "rtsps://cam/", "tls": tls});
    for (tls, named) in [
        (json!({"insecure": "yes"}), "insecure"),
        (json!({"insecure": true, "ca_file": "/x"}), "exclude"),
        (json!({"ca_file": "relative.pem"}), "absolute"),
        (json!("insecure"), "tls"),
        (json!({"ca_file": 7}), "ca_file"),
    ] {
        let answer = server.post("/streams", with(tls)).await;
        assert_eq!(answer.refusal(), (400, "invalid_field".into()), "{answer:?}");
        assert!(answer.body.contains(named), "{answer:?}");
    }
    let no_file = server.post("/streams", with(json!({"ca_file": "/no/such/file.pem"}))).await;
    assert_eq!(no_file.refusal(), (422, "invalid_value".into()));
    assert!(no_file.json()["message"].as_str().unwrap().starts_with("tls "), "{no_file:?}");
    let garbage = directory.path().join("garbage.pem");
    std::fs::write(&garbage, "no certificate").unwrap();
    let input = json!([{"label": "a", "url": "rtsps://cam/", "priority": 0, "tls": {"ca_file": garbage}}]);
    let answer = server.post("/streams", json!({"source_id": 7, "rtsp_inputs": input})).await;
    assert_refused(&answer, 422, "invalid_value", "rtsp_inputs[0].tls");
    let plain = json!({"source_id": 7, "rtsp_url": "rtsp://cam/", "tls": {"insecure": true}});
    assert_eq!(server.post("/streams", plain).await.refusal(), (422, "invalid_value".into()));

    let created = server.post("/streams", with(json!({"insecure": true}))).await;
    assert_eq!(created.status, 201, "{created:?}");
    let view = created.json();
    assert_eq!(view["rtsp_inputs"][0]["tls"], json!({"insecure": true}));
    // A view that is sent back changes nothing.
    let patched = server.patch("/streams/7", json!({"rtsp_inputs": view["rtsp_inputs"]})).await;
    assert_eq!(patched.json()["rtsp_inputs"], view["rtsp_inputs"]);
    server.stop().await;
    let mut server = Server::over(directory.path()).await;
    assert!(config(&mut server, "add").await.tls[0].is_some());
    assert_eq!(server.get("/streams/7").await.json()["rtsp_inputs"], view["rtsp_inputs"]);
    server.stop().await;
}

#[tokio::test]
async fn on_demand_and_the_settings_reach_the_shard_and_stay() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "--source-on-demand-idle-seconds=33",
        "--source-return-after-seconds=44",
        "--source-max-bits-per-second=5000000",
    ];
    let mut server = Server::configured(directory.path(), &arguments).await;
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://cam/", "on_demand": true});
    let created = server.post("/streams", &body).await.json();
    assert_eq!((&created["on_demand"], &created["state"]), (&json!(true), &json!("Inactive")));
    let source = config(&mut server, "add").await.source;
    let second = Duration::from_secs(1);
    assert_eq!((source.on_demand, source.return_after), (Some(33 * second), 44 * second));
    assert_eq!(source.bits_per_second_max, 5_000_000);
    server.patch("/streams/7", json!({"should_record": true})).await;
    assert!(config(&mut server, "update").await.source.on_demand.is_some());
    let view = server.patch("/streams/7", json!({"on_demand": false})).await.json();
    assert_eq!(view["on_demand"], false);
    assert_eq!(config(&mut server, "update").await.source.on_demand, None);
    for wrong in [json!(1), json!("yes")] {
        let answer = server.patch("/streams/7", json!({"on_demand": wrong})).await;
        assert_eq!(answer.refusal(), (400, "invalid_field".into()));
    }
    server.patch("/streams/7", json!({"on_demand": true})).await;
    server.stop().await;
    let server = Server::over(directory.path()).await;
    assert_eq!(server.get("/streams/7").await.json()["on_demand"], true);
    server.stop().await;
}

#[tokio::test]
async fn streams_of_an_older_version_come_back() {
    let directory = tempfile::tempdir().unwrap();
    Server::over(directory.path()).await.stop().await;
    store(
        directory.path(),
        r#"{"inputs":[{"label":"main","url":"rtsp://cam/live?token=abcd","username":"u","password":"p",
        "priority":0,"transport":"udp"}],"should_record":true,"restart_interval_secs":null}"#,
    );
    let server = Server::over(directory.path()).await;
    let view = server.get("/streams/7").await.json();
    assert_eq!((&view["should_record"], &view["on_demand"]), (&json!(true), &json!(false)));
    let input =
        json!({"label": "main", "url": "rtsp://cam/live", "priority": 0, "transport": "udp", "tls": null});
    assert_eq!(view["rtsp_inputs"], json!([input]));
    server.stop().await;
}

fn store(data_dir: &Path, definition: &str) {
    let database = rusqlite::Connection::open(data_dir.join("lanecast.db")).unwrap();
    database
        .execute(
            "INSERT INTO streams (path_text, source_id, definition, created_unix_ms) VALUES ('7', '7', ?1, 0)",
            [definition],
        )
        .unwrap();
}

#[tokio::test]
async fn the_slate_is_shown_and_says_what_it_lacks() {
    let (server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let show = async |slate: SlateStatus, reason: Option<&str>| {
        let status = StreamStatus {
            slate,
            reason: reason.map(str::to_owned),
            active_input: Some(0),
            ..status(StreamState::Connecting, None)
        };
        server.emit(Event::StreamChanged { stream, status }).await;
        server.get("/streams/7").await.json()
    };
    let view = show(SlateStatus::Shown { since_unix_ms: 1_700_000_000_123 }, None).await;
    assert_eq!(view["slate"], json!({"state": "shown", "since": 1_700_000_000_123_i64, "reason": null}));
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("lanecast_stream_slate_shown{source_id=\"7\"} 1\n"), "{metrics}");
    assert!(
        metrics.contains("lanecast_stream_active_input{source_id=\"7\",label=\"main\"} 1\n"),
        "{metrics}"
    );
    let lacks = "no offline picture: GStreamer's element x264enc is missing";
    let view = show(SlateStatus::Failed(lacks.into()), None).await;
    assert_eq!(view["slate"], json!({"state": "failed", "since": null, "reason": lacks}));
    assert_eq!(view["state_reason"], lacks);
    let view = show(SlateStatus::Failed(lacks.into()), Some("refused")).await;
    assert_eq!(view["state_reason"], "refused");
    assert_eq!(show(SlateStatus::Off, None).await["slate"]["state"], "off");
}

/// A server with stream 7 on demand, told of `status` where there is one.
async fn on_demand(before: Option<StreamStatus>) -> (Server, tempfile::TempDir, StreamId) {
    let (mut server, directory) = Server::start().await;
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://cam/", "on_demand": true});
    assert_eq!(server.post("/streams", body).await.status, 201);
    server.until_told("add").await;
    let (stream, _) = server.control.stream("7").unwrap();
    if let Some(status) = before {
        server.emit(Event::StreamChanged { stream, status }).await;
    }
    (server, directory, stream)
}

/// Sends an offer, and what the shard says once it was asked for the stream.
async fn offer_and(server: &mut Server, stream: StreamId, then: Option<StreamStatus>) -> Answer {
    let router = server.router.clone();
    let body = json!({"offer": BROWSER}).to_string();
    let request = crate::harness::request(hyper::Method::POST, "/streams/7/webrtc")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(body))
        .unwrap();
    let answering = tokio::spawn(async move { crate::harness::answer(router, request).await });
    server.until_told("demand").await;
    if let Some(status) = then {
        // On its way there it is connecting, which is no answer yet.
        let connecting = StreamStatus { codec: None, ..self::status(StreamState::Connecting, None) };
        server.emit(Event::StreamChanged { stream, status: connecting }).await;
        server.emit(Event::StreamChanged { stream, status }).await;
    }
    answering.await.unwrap()
}

#[tokio::test]
async fn an_offer_wakes_a_stream_on_demand_and_waits_for_its_codec() {
    let (mut server, _directory, stream) = on_demand(None).await;
    let then = Some(status(StreamState::Connecting, Some(Codec::H265)));
    let answer = offer_and(&mut server, stream, then).await;
    // This browser has no H.265: the answer is about the codec that came.
    assert_eq!(answer.refusal(), (422, "codec_not_offered".into()));
    assert_eq!(server.plane().demanded, [stream]);

    let (mut server, _directory, stream) = on_demand(None).await;
    let answer = offer_and(&mut server, stream, Some(status(StreamState::Active, Some(Codec::H264)))).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn an_offer_does_not_wait_for_a_camera_that_fails_or_is_known() {
    let (mut server, _directory, stream) = on_demand(None).await;
    let answer = offer_and(&mut server, stream, Some(status(StreamState::Error, None))).await;
    assert_eq!(answer.status, 201, "the default is H.264: {answer:?}");

    let known = status(StreamState::Inactive, Some(Codec::H264));
    let (mut server, _directory, stream) = on_demand(Some(known)).await;
    assert_eq!(offer_and(&mut server, stream, None).await.status, 201);
    assert_eq!(server.plane().demanded, [stream]);
}

#[tokio::test]
async fn an_offer_ends_with_its_stream_or_the_server() {
    let (mut server, _directory, _) = on_demand(None).await;
    let router = server.router.clone();
    let offer = |router: axum::Router| {
        let body = json!({"offer": BROWSER}).to_string();
        let request = crate::harness::request(hyper::Method::POST, "/streams/7/webrtc")
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body))
            .unwrap();
        tokio::spawn(async move { crate::harness::answer(router, request).await })
    };
    let answering = offer(router.clone());
    server.until_told("demand").await;
    assert_eq!(server.delete("/streams/7").await.status, 204);
    assert_eq!(answering.await.unwrap().refusal(), (503, "busy".into()));

    server.post("/streams", json!({"source_id": 7, "rtsp_url": "rtsp://cam/", "on_demand": true})).await;
    let answering = offer(router);
    server.until_told("demand").await;
    server.control.stop();
    assert_eq!(answering.await.unwrap().refusal(), (503, "busy".into()));
}

#[tokio::test]
async fn a_stream_that_is_connected_always_is_not_waited_for() {
    let (server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    let answer = server.post("/streams/7/webrtc", json!({"offer": BROWSER})).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(server.plane().demanded.is_empty());
}

//! Cameras that go away and come back together, again and again: each is back within seconds, nobody else notices, and
//! nothing is left over.
//!
//! `LANECAST_STORM_CAMERAS` says how many (500 in a check by hand), `LANECAST_WATCH_SECONDS` how long they flap (600).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Camera, Packet, Rest, Server, Usage, Viewer, assert_continuous, threads, until};

/// A hundred cameras on a busy machine, from a debug build.
const STORM_PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn cameras_that_go_and_come_together_are_back_within_seconds_and_nobody_else_notices() {
    let server = Server::start();
    let calm = Camera::start("--codec h264 --gop-seconds 1 --fps 10");
    server.rest.create("calm", &calm.url());
    server.rest.active("calm");
    let viewer = Viewer::websocket(&server, "calm");
    let before = Usage::of(&server);
    let count = cameras();
    let mut site = Camera::start(&site(count));
    let created = Instant::now();
    create(&server.rest, "storm", &site, count, json!({}));
    all_active(&server.rest, "storm", count);
    println!("{count} cameras: active {:?} after the first was added", created.elapsed());
    let quiet = settled(&server);
    let mut packets = watch(&viewer, Duration::from_secs(3));
    println!("quiet: {quiet:?}, the other camera's viewer paused {:?} at most", largest_pause(&packets));

    let mut during = vec![];
    for round in 1..=2 {
        let gone = site.kill();
        none_active(&server.rest, "storm", count);
        during.extend(watch(&viewer, Duration::from_secs(5)));
        site = gone.restart();
        let back = Instant::now();
        all_active(&server.rest, "storm", count);
        println!("round {round}: all back {:?} after the camera, {:?}", back.elapsed(), Usage::of(&server));
        during.extend(watch(&viewer, Duration::from_secs(1)));
    }
    println!("storm: the other camera's viewer paused {:?} at most", largest_pause(&during));

    packets.extend(during);
    assert_continuous(&packets);
    assert!(viewer.is_open());
    descriptors_are_back(&server, quiet.descriptors);
    let after = settled(&server);
    println!("after: {after:?}, threads {:?}", threads(&server));
    assert!(after.threads <= quiet.threads + THREADS_MORE, "{after:?} {:?}", threads(&server));
    assert!(
        after.resident_bytes < quiet.resident_bytes + OUTAGE_BYTES * count as u64 + SLACK_BYTES,
        "{quiet:?} {after:?}"
    );
    remove(&server.rest, "storm", count);
    descriptors_are_back(&server, before.descriptors);
}

#[test]
fn cameras_lost_together_are_not_asked_again_in_step() {
    let server = Server::start();
    let count = 40;
    let site = Camera::start(&site(count));
    create(&server.rest, "storm", &site, count, json!({}));
    all_active(&server.rest, "storm", count);
    let port = site.port();
    drop(site);
    let attempts = refused_attempts(port, 3 * count);

    let by_camera = attempts.iter().fold(BTreeMap::<_, Vec<Instant>>::new(), |mut all, (camera, at)| {
        all.entry(camera).or_default().push(*at);
        all
    });
    assert_eq!(by_camera.len(), count, "all of them try again: {by_camera:?}");
    let pauses = by_camera.values().filter_map(|times| Some(*times.get(2)? - *times.get(1)?));
    let (shortest, longest) = (pauses.clone().min(), pauses.max());
    println!("{} attempts in {:?}; pauses {shortest:?} to {longest:?}", attempts.len(), spread(&attempts));
    let spread = longest.expect("pauses") - shortest.expect("pauses");
    // A fifth up and down of a second or more; a busy machine only adds to it.
    assert!(spread >= Duration::from_millis(150), "{spread:?}");
}

#[test]
fn cameras_that_flap_by_the_hour_leave_nothing_behind() {
    let server = Server::start_with(&[
        "--source-connect-timeout-seconds=1",
        "--source-reply-timeout-seconds=1",
        "--source-silence-timeout-seconds=1",
        "--source-slate-after-seconds=1",
    ]);
    let calm = Camera::start("--codec h264 --gop-seconds 1 --fps 10");
    server.rest.create("calm", &calm.url());
    server.rest.active("calm");
    let by_calm = Viewer::websocket(&server, "calm");
    settled(&server);
    let before = Sample::of(&server);
    let each = (cameras() / KINDS.len()).clamp(4, 50);
    let sites = KINDS.map(|(kind, flags)| (kind, Camera::start(&format!("{flags} {}", site(each)))));
    for (kind, site) in &sites {
        create(&server.rest, kind, site, each, json!({ "restart_interval_secs": 1 }));
        if *kind == "frozen" {
            site.freeze();
        }
    }
    let viewers = sites.each_ref().map(|(kind, _)| Viewer::websocket(&server, &format!("{kind}-0")));

    let watched = Duration::from_secs(watched_seconds().unwrap_or(20));
    let (samples, packets) = sampled(&server, &by_calm, watched);
    let streams = (KINDS.len() * each) as u64;
    let reconnects = server.rest.metric("lanecast_stream_reconnects_total");
    println!("{streams} cameras flapped {reconnects} times in {watched:?}");
    for sample in samples.iter().step_by(samples.len().div_ceil(20)) {
        println!("  {sample:?}");
    }
    println!("threads {:?}; the calm viewer paused {:?} at most", threads(&server), largest_pause(&packets));
    assert!(reconnects >= watched.as_secs_f64() * streams as f64 / 8.0, "they flapped: {reconnects}");
    assert_continuous(&packets);
    for ((kind, _), viewer) in sites.iter().zip(&viewers) {
        assert!(viewer.is_open(), "{kind}");
        if cfg!(feature = "gstreamer") || !PICTURELESS.contains(kind) {
            // All of them: the camera's and the slate's.
            assert_continuous(&watch(viewer, Duration::from_secs(1)));
        }
    }
    assert_bounded(&before, &samples, streams);
    let lines = server.log().lines().filter(|line| line.contains(" INFO ")).count() as u64;
    let minutes = watched.as_secs().div_ceil(60) + 1;
    println!("{lines} lines at INFO");
    assert!(lines <= 50 + LINES_A_MINUTE * streams * minutes, "{lines} lines");

    for (kind, _) in &sites {
        remove(&server.rest, kind, each);
    }
    descriptors_are_back(&server, before.usage.descriptors);
    settled(&server);
    println!("after: {:?}, before: {before:?}", Sample::of(&server));
}

#[test]
#[cfg(feature = "gstreamer")]
fn a_wall_of_lost_cameras_costs_little_memory_for_each() {
    let server = Server::start_with(&["--source-slate-after-seconds=1"]);
    let count = (cameras() / 4).max(10);
    let nobody = Camera::start("");
    let url = nobody.url();
    drop(nobody);
    let shown = || server.rest.metric("lanecast_stream_slate_shown") as usize;
    let pictures = || server.rest.metric("lanecast_stream_slate_access_units_total") as usize;
    // What is loaded for the first slate of either kind is no stream's.
    server.rest.create("first", &url);
    until("a slate", || (shown() == 1).then_some(()));
    let first = Viewer::websocket(&server, "first");
    first.rtp(20);
    let before = settled(&server);
    for number in 0..count {
        server.rest.create(format!("lost-{number}"), &url);
    }
    until("a slate for all", || (shown() == 1 + count).then_some(()));
    // A stream that nobody watches has a new random access point every two seconds: some rounds of its memory.
    until("rounds of the slate", || (pictures() >= 5 * count).then_some(()));
    let unwatched = settled(&server);
    let viewers: Vec<_> =
        (0..count).map(|number| Viewer::websocket(&server, &format!("lost-{number}"))).collect();
    for viewer in &viewers {
        assert_continuous(&viewer.rtp_until("a round of the slate", |packets| packets.len() >= 20));
        assert!(viewer.is_open());
    }
    let watched = settled(&server);
    let each =
        |after: &Usage| after.resident_bytes.saturating_sub(before.resident_bytes) / count as u64 / 1024;
    println!("{count} lost: {} KB each unwatched, {} KB each watched", each(&unwatched), each(&watched));
    println!("threads {:?}", threads(&server));
    assert!(each(&unwatched) < OUTAGE_BYTES / 1024, "{before:?} {unwatched:?}");
    assert!(each(&watched) < 2 * OUTAGE_BYTES / 1024, "{before:?} {watched:?}");
}

#[test]
fn a_camera_that_floods_is_an_error_that_names_the_bound_and_others_play_on() {
    let server = Server::start_with(&["--source-max-bits-per-second=50000000"]);
    let calm = Camera::start("--codec h264 --gop-seconds 1 --fps 10");
    server.rest.create("calm", &calm.url());
    server.rest.active("calm");
    let viewer = Viewer::websocket(&server, "calm");
    let floods = [(); 4].map(|()| flood());
    for (number, address) in floods.iter().enumerate() {
        let body = json!({ "source_id": format!("flood-{number}"), "rtsp_url": format!("rtsp://{address}/cam"),
            "restart_interval_secs": 1 });
        server.rest.post("/streams", &body).expect(201);
    }
    for number in 0..floods.len() {
        let reason = server.rest.error_reason(&format!("flood-{number}"));
        assert!(reason.contains("source.max_bits_per_second"), "{reason}");
    }
    let packets = watch(&viewer, Duration::from_secs(5));
    println!("beside four floods the viewer paused {:?} at most", largest_pause(&packets));
    assert_continuous(&packets);
    assert_eq!(server.rest.stream("calm")["state"], "Active");
}

/// What the flapping cameras do, and how.
const KINDS: [(&str, &str); 9] = [
    ("drops", "--drop-every 1"),
    ("by-name", "--drop-every 1"),
    ("garbage", "--drop-every 1 --garbage-between-frames"),
    ("udp", "--drop-every 1 --transport udp"),
    ("silent", "--silence-after 0.5"),
    ("refuses", "--refuse"),
    ("locked", "--user ann --password s3cret-word"),
    ("frozen", ""),
    ("slow", "--drop-every 3"),
];

/// Of these viewers get the slate only.
const PICTURELESS: [&str; 3] = ["refuses", "locked", "frozen"];

/// A site of so many small cameras.
fn site(count: usize) -> String {
    format!("--codec h264 --gop-seconds 1 --fps 5 --count {count}")
}

fn cameras() -> usize {
    number("LANECAST_STORM_CAMERAS").unwrap_or(100) as usize
}

fn watched_seconds() -> Option<u64> {
    number("LANECAST_WATCH_SECONDS")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn create(rest: &Rest, name: &str, site: &Camera, count: usize, settings: Value) {
    for number in 0..count {
        let url = site.url_of(number);
        let url = match name {
            "by-name" => url.replace("127.0.0.1", "localhost"),
            "locked" => url.replace("rtsp://", "rtsp://ann:wr0ng-word@"),
            _ => url,
        };
        let mut body = json!({ "source_id": format!("{name}-{number}"), "rtsp_url": url });
        let settings = settings.as_object().expect("settings").clone();
        body.as_object_mut().expect("a body").extend(settings);
        rest.post("/streams", &body).expect(201);
    }
}

fn remove(rest: &Rest, name: &str, count: usize) {
    for number in 0..count {
        rest.delete(&format!("/streams/{name}-{number}")).expect(204);
    }
}

fn all_active(rest: &Rest, name: &str, count: usize) {
    states(rest, name, &format!("all {count} Active"), |active| active == count);
}

fn none_active(rest: &Rest, name: &str, count: usize) {
    states(rest, name, &format!("none of {count} Active"), |active| active == 0);
}

/// Waits until so many streams of a name are Active.
fn states(rest: &Rest, name: &str, what: &str, pleases: impl Fn(usize) -> bool) {
    let deadline = Instant::now() + STORM_PATIENCE;
    let prefix = format!("{name}-");
    loop {
        let view = rest.get("/streams").expect(200).json();
        let streams = view["streams"].as_array().expect("streams");
        let mine =
            streams.iter().filter(|one| one["source_id"].as_str().is_some_and(|id| id.starts_with(&prefix)));
        let active = mine.clone().filter(|one| one["state"] == "Active").count();
        if pleases(active) {
            return;
        }
        let other = mine.clone().find(|one| one["state"] != "Active");
        assert!(Instant::now() < deadline, "never {what}: {active} are; {other:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a viewer gets in so long.
fn watch(viewer: &Viewer, time: Duration) -> Vec<Packet> {
    let end = Instant::now() + time;
    viewer.rtp_until(&format!("pictures of {time:?}"), |_| Instant::now() >= end)
}

/// Between two packets.
fn largest_pause(packets: &[Packet]) -> Duration {
    packets.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
}

/// Once what was under way is over.
fn settled(server: &Server) -> Usage {
    let mut last = Usage::of(server);
    until("that descriptors and threads stay the same", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = Usage::of(server);
        let same = (now.descriptors, now.threads) == (last.descriptors, last.threads);
        last = now;
        same.then_some(now)
    })
}

fn descriptors_are_back(server: &Server, before: usize) {
    let mut now = 0;
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("the descriptors", || {
            now = Usage::of(server).descriptors;
            (now == before).then_some(())
        })
    }));
    assert!(waited.is_ok(), "{now} descriptors, {before} before");
}

/// What a process holds, and the shard in it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    usage: Usage,
    ring_operations: u64,
    timers: u64,
}

impl Sample {
    fn of(server: &Server) -> Self {
        let metric = |name| server.rest.metric(name) as u64;
        Self {
            usage: Usage::of(server),
            ring_operations: metric("lanecast_shard_ring_operations"),
            timers: metric("lanecast_shard_timers"),
        }
    }
}

/// Samples twice a second, and what a viewer got meanwhile.
fn sampled(server: &Server, viewer: &Viewer, time: Duration) -> (Vec<Sample>, Vec<Packet>) {
    let end = Instant::now() + time;
    let (mut samples, mut packets) = (vec![], vec![]);
    while Instant::now() < end {
        packets.extend(watch(viewer, Duration::from_millis(500)));
        samples.push(Sample::of(server));
    }
    (samples, packets)
}

/// The second half of the time takes no more than the first.
fn assert_bounded(before: &Sample, samples: &[Sample], streams: u64) {
    let most =
        |what: fn(&Sample) -> u64, samples: &[Sample]| samples.iter().map(what).max().expect("samples");
    let descriptors = most(|sample| sample.usage.descriptors as u64, samples);
    // A connection, the one before it that is being closed, and a pair of UDP ports.
    assert!(descriptors <= before.usage.descriptors as u64 + 4 * streams + 20, "{descriptors} descriptors");
    // A receive or a connect, a write and two UDP receives; the shard's own timers come and go.
    let operations = most(|sample| sample.ring_operations, samples);
    assert!(operations <= before.ring_operations + 5 * streams + 20, "{operations} operations, {before:?}");
    // The source's, the stream's and the slate's; those of viewers.
    let timers = most(|sample| sample.timers, samples);
    assert!(timers <= before.timers + 4 * streams + 20, "{timers} timers, {before:?}");
    let threads = most(|sample| sample.usage.threads as u64, samples);
    assert!(threads <= (before.usage.threads + THREADS_MORE) as u64, "{threads} threads, {before:?}");
    let (first, second) = samples.split_at(samples.len() / 2);
    let resident = |half| most(|sample| sample.usage.resident_bytes, half);
    let (first, second) = (resident(first), resident(second));
    assert!(second < first + first / 5 + SLACK_BYTES, "{first} bytes, and then {second}");
}

/// The attempts at cameras of a port: which, and when. Each is hung up on.
fn refused_attempts(port: u16, count: usize) -> Vec<(String, Instant)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the camera's port");
    let attempts = listener.incoming().filter_map(|connection| {
        let mut line = String::new();
        BufReader::new(connection.ok()?).read_line(&mut line).ok()?;
        let (_, camera) = line.trim_end_matches(" RTSP/1.0\r\n").rsplit_once('/')?;
        Some((camera.to_owned(), Instant::now()))
    });
    attempts.take(count).collect()
}

fn spread(attempts: &[(String, Instant)]) -> Duration {
    match attempts {
        [(_, first), .., (_, last)] => *last - *first,
        _ => Duration::ZERO,
    }
}

/// A camera that sends without end, as fast as it can.
fn flood() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || flood_one(&stream));
        }
    });
    address
}

fn flood_one(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let request: Vec<String> =
            reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let method = request.first()?.split(' ').next()?;
        let cseq = request.iter().find(|line| line.to_ascii_lowercase().starts_with("cseq:"))?;
        let (headers, body) = match method {
            "DESCRIBE" => ("Content-Type: application/sdp\r\n", FLOOD_SDP),
            "SETUP" => ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""),
            _ => ("Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\nSession: 1\r\n", ""),
        };
        let length = body.len();
        write!(writer, "RTSP/1.0 200 OK\r\n{cseq}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
            .ok()?;
        if method == "PLAY" {
            break;
        }
    }
    for number in (0..=u16::MAX).cycle() {
        let mut packet = vec![b'$', 0, 0x05, 0x78, 0x80, 0x80 | 96];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 3600).to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        packet.extend([0x41; 1400 - 12]);
        writer.write_all(&packet).ok()?;
    }
    None
}

const FLOOD_SDP: &str =
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";

/// A stream says so much a minute at INFO, whatever its camera does.
const LINES_A_MINUTE: u64 = 8;
/// While a slate is made GStreamer has a few; names are looked up by a handful that go after a while.
const THREADS_MORE: usize = 16;
/// A stream's slate in its cache.
const OUTAGE_BYTES: u64 = 1 << 20;
const SLACK_BYTES: u64 = 32 << 20;

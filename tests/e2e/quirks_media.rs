//! Quirks of cameras in their media, one test each: viewers see a clean stream all the same. What devices are known for
//! which is in `docs/cameras.md`; some quirks have had their test in `erring_cameras.rs` before.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Camera, Codec, Decoded, Decoder, Packet, Server, Viewer, access_units, assert_continuous,
};
use crate::harness::{free_udp_port, with_media_port};

const PICTURES: usize = 40;

#[test]
fn parameter_sets_at_the_start_only_serve_late_viewers_and_reconnects() {
    let server = Server::start();
    let camera = Camera::start("--codec h264 --fps 50 --parameter-sets-at-start-only");
    let body = json!({ "source_id": 7, "rtsp_url": camera.url(), "restart_interval_secs": 1 });
    server.rest.post("/streams", &body).expect(201);
    server.rest.active("7");
    let early = Viewer::websocket(&server, "7");
    early.rtp_until("three keyframes", |packets| keyframes(packets, Codec::H264) >= 3);
    let late = Viewer::websocket(&server, "7");
    decode(&late, Codec::H264, 1);

    let camera = camera.kill().restart();
    let url = camera.url();
    server.rest.stream_when("7", "Active again", |stream| stream["state"] == "Active");
    let after =
        early.rtp_until("keyframes of the next connection", |packets| keyframes(packets, Codec::H264) >= 5);
    assert_continuous(&after);
    decode(&Viewer::websocket(&server, "7"), Codec::H264, 1);
    assert_eq!(url, camera.url());
}

#[test]
fn a_description_of_another_size_gives_way_to_the_media() {
    for codec in [Codec::H264, Codec::H265] {
        let watched = watch(&format!("{} --wrong-sprop", flag(codec)));
        let is_right = |stream: &serde_json::Value| stream["width"] == 640 && stream["height"] == 360;
        watched.server.rest.stream_when("7", "of the size that the media has", is_right);
        let decoded = decode(&Viewer::websocket(&watched.server, "7"), codec, 1);
        assert_eq!((decoded.width, decoded.height), (640, 360));
    }
}

#[test]
fn a_description_without_pps_is_completed_by_the_media() {
    is_decoded(Codec::H264, "--no-pps-in-sprop");
    is_decoded(Codec::H265, "--no-pps-in-sprop");
}

#[test]
fn parameter_sets_with_the_timestamp_of_the_picture_before_are_used() {
    is_decoded(Codec::H264, "--no-sprop --early-parameter-sets --no-aggregation");
    is_decoded(Codec::H265, "--no-sprop --early-parameter-sets");
}

#[test]
fn two_pictures_with_one_timestamp_are_two_access_units() {
    is_decoded(Codec::H264, "--paired-timestamps");
    is_decoded(Codec::H264, "--paired-timestamps --no-marker");
    is_decoded(Codec::H265, "--paired-timestamps --no-marker");
}

#[test]
fn timestamps_that_leap_by_hours_do_not_reach_viewers() {
    assert_paced(&watch("--codec h264 --timestamps-leap 3").seconds(5));
    assert_paced(&watch("--codec h264 --timestamps-leap -7").seconds(5));
}

#[test]
fn single_pictures_with_timestamps_of_other_hours_do_not_reach_viewers() {
    assert_paced(&watch("--codec h264 --stray-timestamps").seconds(4));
}

#[test]
fn timestamps_that_stand_still_for_seconds_do_not_stop_viewers() {
    assert_paced(&watch("--codec h264 --timestamps-stand-still 2").seconds(7));
}

#[test]
fn timestamps_at_a_wrong_rate_are_brought_to_the_right_one() {
    for factor in ["2", "0.1"] {
        let packets = watch(&format!("--codec h264 --timestamps-run {factor}")).seconds(10);
        assert_continuous(&packets);
        let last = packets[packets.len() - 1].at - Duration::from_secs(3);
        let settled: Vec<Packet> = packets.into_iter().filter(|packet| packet.at > last).collect();
        let (by_timestamp, by_clock) = spans(&settled);
        let rate = by_timestamp / by_clock;
        assert!((0.9..1.1).contains(&rate), "{by_timestamp} s in {by_clock} s of a camera at {factor}");
    }
}

#[test]
fn timestamps_that_wrap_run_on() {
    let packets = watch("--codec h264 --timestamps-wrap-soon").seconds(4);
    assert_continuous(&packets);
    let stamps: Vec<u32> =
        access_units(&packets, Codec::H264).iter().map(|unit| unit.rtp_timestamp).collect();
    assert!(stamps.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == 3600), "{stamps:?}");
}

#[test]
fn sequence_numbers_that_wrap_lose_nothing() {
    for transport in ["tcp", "udp"] {
        let watched = watch(&format!("--codec h264 --sequence-wraps-soon --transport {transport}"));
        decode(&watched.viewer, Codec::H264, 1);
        assert_eq!(watched.server.rest.metric("lanecast_stream_packets_lost_total"), 0.0);
    }
}

#[test]
fn sequence_numbers_that_start_again_lose_nothing() {
    is_decoded(Codec::H264, "--sequence-restarts-every 1 --packet-bytes 200");
    is_decoded(Codec::H264, "--sequence-restarts-every 1 --packet-bytes 200 --transport udp");
}

#[test]
fn an_ssrc_that_changes_while_numbers_run_on_loses_nothing() {
    is_decoded(Codec::H264, "--ssrc-changes-every 0.5");
    is_decoded(Codec::H264, "--ssrc-changes-every 0.5 --transport udp");
}

#[test]
fn a_source_that_changes_with_all_its_numbers_loses_nothing() {
    is_decoded(Codec::H264, "--source-changes-every 1");
    is_decoded(Codec::H264, "--source-changes-every 1 --transport udp");
}

#[test]
fn packets_of_8_and_of_64_kilobytes_are_cut_to_what_viewers_take() {
    is_decoded(Codec::H264, "--bitrate 8M --oversize-packets 8192");
    is_decoded(Codec::H264, "--bitrate 8M --idr-bytes 300000 --oversize-packets 65535");
    is_decoded(Codec::H265, "--bitrate 8M --idr-bytes 300000 --oversize-packets 65535");
}

#[test]
fn fragments_that_never_end_are_ended_by_what_follows() {
    is_decoded(Codec::H264, "--packet-bytes 300 --fragments-without-end");
    is_decoded(Codec::H264, "--packet-bytes 300 --fragments-without-end --no-marker");
    is_decoded(Codec::H264, "--packet-bytes 300 --fragments-without-end --marker-every-packet");
    is_decoded(Codec::H265, "--packet-bytes 300 --fragments-without-end");
}

#[test]
fn fragments_without_a_start_are_dropped_and_counted() {
    for codec in [Codec::H264, Codec::H265] {
        let watched = watch(&format!("{} --packet-bytes 200 --fragments-without-start", flag(codec)));
        let packets = watched.seconds(5);
        assert_continuous(&packets);
        assert_pictures(&packets, codec, 1);
        assert!(keyframes(&packets, codec) >= 2);
        assert!(watched.server.rest.metric("lanecast_stream_packets_dropped_total") > 0.0);
        let missing = packets.windows(2).filter(|pair| step_90k(pair) == 7200).count();
        assert!(missing >= 5, "broken pictures do not reach viewers: {missing} are missing");
    }
}

#[test]
fn fragments_with_start_and_end_are_whole() {
    is_decoded(Codec::H264, "--single-fragments --packet-bytes 30000");
    is_decoded(Codec::H265, "--single-fragments --packet-bytes 30000");
}

#[test]
fn slices_in_several_aggregation_packets_make_one_picture() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (codec, name) in [(Codec::H264, "slices.h264"), (Codec::H265, "slices.h265")] {
        let clip = directory.path().join(name);
        encode(codec, &clip, "slices=6:bframes=0:open-gop=0");
        for more in ["", " --no-marker"] {
            let flags = format!("{} --packet-bytes 600 --aggregate-slices{more}", clip.display());
            decode(&watch(&flags).viewer, codec, 6);
        }
    }
}

#[test]
fn start_codes_in_payloads_are_taken_away() {
    is_decoded(Codec::H264, "--annex-b");
    is_decoded(Codec::H265, "--annex-b");
}

#[test]
fn a_start_code_in_an_sei_does_not_cut_it() {
    for codec in [Codec::H264, Codec::H265] {
        let watched = watch(&format!("{} --start-code-in-sei --no-aggregation", flag(codec)));
        let sei = if codec == Codec::H264 { 6 } else { 39 };
        let packets = watched.seconds(2);
        assert_pictures(&packets, codec, 1);
        let whole = |packet: &&Packet| packet.payload().windows(5).any(|bytes| bytes == [0, 0, 0, 1, 0x65]);
        assert!(packets.iter().filter(whole).count() >= 25);
        for unit in access_units(&packets, codec) {
            assert!(unit.nal_types.iter().filter(|&&kind| kind == sei).count() <= 1, "{:?}", unit.nal_types);
        }
    }
}

#[test]
fn delimiters_and_filler_everywhere_do_not_reach_viewers() {
    for codec in [Codec::H264, Codec::H265] {
        let watched = watch(&format!("{} --clutter", flag(codec)));
        decode(&watched.viewer, codec, 1);
        let padding: &[u8] = if codec == Codec::H264 { &[9, 12] } else { &[35, 38] };
        for unit in access_units(&watched.viewer.rtp(100), codec) {
            assert!(!unit.nal_types.iter().any(|kind| padding.contains(kind)), "{:?}", unit.nal_types);
        }
    }
}

#[test]
fn b_pictures_keep_the_times_that_they_are_shown_at() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (codec, name) in [(Codec::H264, "b.h264"), (Codec::H265, "b.h265")] {
        let clip = directory.path().join(name);
        encode(codec, &clip, "bframes=2:b-pyramid=0:b-adapt=0:open-gop=0:slices=1");
        let watched = watch(&format!("{} --b-pictures", clip.display()));
        let packets =
            watched.viewer.rtp_until("enough access units", |packets| units(packets) > PICTURES + 20);
        let numbers = packets.windows(2).map(|pair| pair[1].sequence().wrapping_sub(pair[0].sequence()));
        assert!(numbers.into_iter().all(|step| step == 1), "sequence numbers rise by one");
        let mut shown: Vec<u32> =
            access_units(&packets, codec).iter().map(|unit| unit.rtp_timestamp).collect();
        assert!(!shown.is_sorted(), "B-pictures are sent later than they are shown");
        // The last ones' turn has not come.
        shown.sort_by_key(|at| at.wrapping_sub(packets[0].rtp_timestamp()).cast_signed());
        let steps: Vec<u32> = shown.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        // Those of before the viewer came are given to it in little time.
        let squeezed = steps.iter().take_while(|&&step| step < 3600).count();
        assert!(steps[squeezed..steps.len() - 4].iter().all(|&step| step == 3600), "{steps:?}");
        // Not decoded: straight from such a camera too, ffmpeg 5.1 finds fault with the first pictures' times.
        assert_pictures(&packets, codec, 1);
    }
}

#[test]
fn a_payload_type_that_the_description_does_not_have_is_learnt() {
    is_decoded(Codec::H264, "--wrong-payload-type");
    is_decoded(Codec::H264, "--wrong-payload-type --transport udp");
}

#[test]
fn packets_of_a_foreign_payload_type_are_passed_over() {
    is_decoded(Codec::H264, "--foreign-payload-type --packet-bytes 200");
    is_decoded(Codec::H264, "--foreign-payload-type --packet-bytes 200 --transport udp");
}

#[test]
fn padding_extensions_and_contributing_sources_are_taken_away() {
    is_decoded(Codec::H264, "--rtp-extras");
    is_decoded(Codec::H265, "--rtp-extras");
}

#[test]
fn lost_and_reordered_datagrams_damage_pictures_and_the_next_keyframe_repairs_them() {
    let watched = watch("--codec h264 --fps 50 --bitrate 2M --transport udp --loss 5 --reorder");
    let packets = watched.seconds(5);
    assert_continuous(&packets);
    assert!(keyframes(&packets, Codec::H264) >= 3);
    assert!(watched.server.rest.metric("lanecast_stream_packets_lost_total") > 0.0);
    assert_eq!(watched.server.rest.metric("lanecast_stream_reconnects_total"), 0.0);
    let sei = whole_fillers(&packets);
    assert!(sei > 50, "only {sei} pictures came through");
    let stall = packets.windows(2).map(|pair| pair[1].at - pair[0].at).max().expect("packets");
    assert!(stall < Duration::from_millis(1500), "{stall:?} without a packet");
}

#[test]
fn reordered_datagrams_lose_nothing() {
    let watched = watch("--codec h264 --bitrate 2M --transport udp --reorder");
    decode(&watched.viewer, Codec::H264, 1);
    let of = |name: &str| watched.server.rest.metric(name);
    let (received, lost) =
        (of("lanecast_stream_packets_received_total"), of("lanecast_stream_packets_lost_total"));
    // One in 20 is late, and on a busy machine a few may be too late.
    assert!(lost * 100.0 < received, "{lost} of {received} were given up");
}

#[test]
fn duplicate_datagrams_are_dropped() {
    is_decoded(Codec::H264, "--bitrate 2M --transport udp --duplicates 20");
    is_decoded(Codec::H264, "--bitrate 2M --transport udp --duplicates 20 --reorder");
}

/// A camera, the server, and a viewer.
struct Watched {
    server: Server,
    viewer: Viewer,
    /// Lives as long as it is watched.
    _camera: Camera,
}

impl Watched {
    /// All packets of so many seconds.
    fn seconds(&self, seconds: u64) -> Vec<Packet> {
        self.viewer.rtp_until(&format!("{seconds} seconds"), |packets| match packets {
            [first, .., last] => last.at.duration_since(first.at).as_secs() >= seconds,
            _ => false,
        })
    }
}

fn watch(flags: &str) -> Watched {
    let server = Server::start();
    let camera = Camera::start(flags);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewer = Viewer::websocket(&server, "7");
    Watched { server, viewer, _camera: camera }
}

fn flag(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "--codec h264",
        Codec::H265 => "--codec h265",
    }
}

/// ffmpeg decodes what a viewer of a camera with these flags gets, without a line of complaint.
fn is_decoded(codec: Codec, flags: &str) {
    decode(&watch(&format!("{} {flags}", flag(codec))).viewer, codec, 1);
}

fn decode(viewer: &Viewer, codec: Codec, slices: usize) -> Decoded {
    let sdp = with_media_port(&viewer.sdp(), free_udp_port());
    let packets = viewer.rtp_until("enough access units", |packets| units(packets) >= PICTURES + 20);
    assert_continuous(&packets);
    assert_pictures(&packets, codec, slices);
    let decoder = Decoder::start(&sdp, PICTURES);
    decoder.feed(&packets);
    decoder.finish()
}

fn units(packets: &[Packet]) -> usize {
    packets.iter().filter(|packet| packet.marker()).count()
}

/// Each access unit is whole and one picture.
#[track_caller]
fn assert_pictures(packets: &[Packet], codec: Codec, slices: usize) {
    let is_slice = |kind: &u8| match codec {
        Codec::H264 => (1..=5).contains(kind),
        Codec::H265 => *kind < 32,
    };
    let units = access_units(packets, codec);
    // The last one may not be over.
    for unit in &units[..units.len() - 1] {
        assert!(unit.complete, "{unit:?}");
        assert_eq!(unit.nal_types.iter().filter(|kind| is_slice(kind)).count(), slices, "{unit:?}");
    }
}

/// Timestamps run as the clock does, in steps of less than half a second.
#[track_caller]
fn assert_paced(packets: &[Packet]) {
    assert_continuous(packets);
    let (by_timestamp, by_clock) = spans(packets);
    assert!((by_timestamp - by_clock).abs() < 1.0, "{by_timestamp} s in {by_clock} s");
    for pair in packets.windows(2) {
        let step = step_90k(pair);
        let waited = (pair[1].at - pair[0].at).as_secs_f64();
        assert!(f64::from(step) / 90_000.0 < waited + 0.5, "a step of {step} after {waited} s");
    }
}

fn step_90k(pair: &[Packet]) -> u32 {
    pair[1].rtp_timestamp().wrapping_sub(pair[0].rtp_timestamp())
}

/// Counts the SEI messages that the camera fills H.264 pictures up with. Each is as long as it says: nothing broken
/// reaches viewers.
#[track_caller]
fn whole_fillers(packets: &[Packet]) -> usize {
    let mut nal = Vec::new();
    let mut whole = 0;
    for packet in packets {
        let payload = packet.payload();
        match payload[0] & 0x1f {
            28 if payload[1] & 0x80 != 0 => nal = [&[payload[1] & 0x1f], &payload[2..]].concat(),
            28 => nal.extend_from_slice(&payload[2..]),
            _ => nal = payload.to_vec(),
        }
        let is_over = payload[0] & 0x1f != 28 || payload[1] & 0x40 != 0;
        if is_over && nal.first() == Some(&6) {
            let size: usize =
                nal[2..].iter().map(|&byte| usize::from(byte)).scan(false, until_less_than_255).sum();
            let header = 2 + size / 255 + 1;
            assert_eq!(nal.len(), header + size + 1, "an SEI is as long as it says, and its stop bit");
            whole += 1;
        }
    }
    whole
}

fn until_less_than_255(is_over: &mut bool, byte: usize) -> Option<usize> {
    (!std::mem::replace(is_over, *is_over || byte < 255)).then_some(byte)
}

/// Seconds by timestamps and by arrival, without what a joining viewer gets at once.
fn spans(packets: &[Packet]) -> (f64, f64) {
    let joined = packets[0].at + Duration::from_millis(300);
    let first = packets.iter().find(|packet| packet.at > joined).expect("packets after the first");
    let last = &packets[packets.len() - 1];
    let by_timestamp = f64::from(last.rtp_timestamp().wrapping_sub(first.rtp_timestamp())) / 90_000.0;
    (by_timestamp, last.at.duration_since(first.at).as_secs_f64())
}

fn keyframes(packets: &[Packet], codec: Codec) -> usize {
    access_units(packets, codec).iter().filter(|unit| unit.is_random_access(codec)).count()
}

/// Four seconds of a test picture, 25 a second and a keyframe every second, by x264 or x265 with these parameters.
fn encode(codec: Codec, path: &Path, parameters: &str) {
    let (encoder, option) = match codec {
        Codec::H264 => ("libx264", "-x264-params"),
        Codec::H265 => ("libx265", "-x265-params"),
    };
    let parameters = format!("{parameters}:keyint=25:scenecut=0:log-level=0");
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-f", "lavfi"]);
    command.args(["-i", "testsrc=size=640x384:rate=25:duration=4", "-pix_fmt", "yuv420p"]);
    command.args(["-c:v", encoder, "-preset", "ultrafast", option, &parameters]).arg(path);
    assert!(command.status().expect("ffmpeg is installed").success());
}

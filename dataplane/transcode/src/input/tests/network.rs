//! Servers that are not ours.

use super::*;

/// What comes decodes from its first random access point on.
fn decodes(opened: &Opened, codec: Codec, sets: &ParameterSets) -> Vec<InputUnit> {
    let units = opened.units(60);
    let first = units.iter().position(|unit| is_random_access(codec, unit)).expect("a random access point");
    assert_eq!(decoded(codec, sets, &units[first..]), units.len() - first);
    // The clip's sound is a little longer than its pictures: a gap each time it begins anew.
    let odd = steps(&units).iter().filter(|step| step.abs_diff(3600) > 180).count();
    assert!(odd <= 3, "{:?}", steps(&units));
    units
}

fn clip(encoder: &str) -> Media {
    Media::new().make(&format!("{SOURCE} {SOUND} {encoder} -c:a aac"), "clip.mp4")
}

/// `ffmpeg` sends the clip again and again in real time.
fn send(media: &Media, format: &str, url: &str) -> Process {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "quiet", "-nostdin", "-re", "-stream_loop", "-1", "-i"]).arg(media.path("clip.mp4"));
    command.args(["-c", "copy"]).args(format.split_whitespace()).arg(url);
    Process::start(&mut command)
}

fn hls(name: &str, more: &str) -> Media {
    let source = "-f lavfi -i testsrc=size=320x240:rate=25:duration=4";
    let list = "-hls_time 1 -hls_list_size 0 -hls_playlist_type vod";
    Media::new().make(&format!("{source} {H264_B} -f hls {list} {more}"), name)
}

#[test]
fn hls_by_http_is_paced_and_ends() {
    for more in ["", "-hls_segment_type fmp4"] {
        let media = hls("list.m3u8", more);
        // FFmpeg names the init segment relative to where it runs.
        let _ = std::fs::rename("init.mp4", media.path("init.mp4"));
        let (_server, port) = serve(media.0.path());
        let opened = open(&format!("http://127.0.0.1:{port}/list.m3u8"));
        let (codec, sets) = opened.playing();
        let began = Instant::now();
        let units = opened.units(100);
        assert!(
            began.elapsed() >= Duration::from_millis(3200),
            "at most half a second ahead: {:?}",
            began.elapsed()
        );
        assert_eq!(decoded(codec, &sets, &units), 100);
        assert_eq!(opened.ended(), "the HTTP input is over");
    }
}

#[test]
fn hls_that_is_live_goes_on() {
    let media = clip(H264);
    let list = media.path("list.m3u8");
    let live = "-f hls -hls_time 1 -hls_list_size 3 -hls_flags delete_segments";
    let _sender = send(&media, live, list.to_str().expect("UTF-8"));
    let (_server, port) = serve(media.0.path());
    let (opened, codec, sets) = open_when_there(&format!("http://127.0.0.1:{port}/list.m3u8"));
    // More than the list holds: it is asked for again.
    decodes(&opened, codec, &sets);
    opened.units(60);
}

#[test]
fn hls_with_sound_of_its_own_and_several_variants() {
    let media = Media::new();
    let maps = "-map 0:v -map 0:v -map 1:a -s:v:1 160x120";
    let list = "-f hls -hls_time 1 -hls_playlist_type vod -master_pl_name master.m3u8";
    let mut maker = ffmpeg(&format!("{SOURCE} {SOUND} {maps} {H264} -c:a aac {list}"));
    maker.args(["-var_stream_map", "v:0,agroup:a v:1,agroup:a a:0,agroup:a"]);
    assert!(maker.arg(media.path("v%v.m3u8")).status().expect("ffmpeg is installed").success());
    let (_server, port) = serve(media.0.path());
    let opened = open(&format!("http://127.0.0.1:{port}/master.m3u8"));
    let (codec, sets) = opened.playing();
    let units = opened.units(PICTURES);
    assert_eq!(decoded(codec, &sets, &units), PICTURES);
    assert!(is_random_access(codec, &units[0]));
    assert_eq!(opened.ended(), "the HTTP input is over", "one variant only");
}

#[test]
fn mpeg_ts_by_http() {
    let media = Media::new().make(&format!("{SOURCE} {SOUND} {H264} -c:a aac"), "clip.ts");
    let (_server, port) = serve(media.0.path());
    let opened = open(&format!("http://user:secret@127.0.0.1:{port}/clip.ts"));
    let (codec, sets) = opened.playing();
    assert_eq!(decoded(codec, &sets, &opened.units(PICTURES)), PICTURES);
    let sentence = open(&format!("http://user:secret@127.0.0.1:{port}/none.ts")).ended();
    assert!(sentence.contains("404") && !sentence.contains("secret"), "{sentence}");
}

#[test]
fn rtmp_from_ffmpeg() {
    let (media, port) = (clip(H264), free_tcp_port());
    let url = format!("rtmp://127.0.0.1:{port}/live/x");
    let _server = send(&media, "-f flv -listen 1", &url);
    let (opened, codec, sets) = open_when_there(&url);
    assert!(sets.is_complete());
    decodes(&opened, codec, &sets);
}

#[test]
fn rtmp_from_nginx() {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
    if !Path::new(MODULE).exists() {
        eprintln!("skipped: no {MODULE} (libnginx-mod-rtmp)");
        return;
    }
    let (media, port) = (clip(H264), free_tcp_port());
    let folder = media.0.path().display();
    media.write(
        "nginx.conf",
        &format!(
            "daemon off; master_process off; pid {folder}/pid; error_log /dev/null; load_module {MODULE};
            events {{}}
            rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}"
        ),
    );
    let mut nginx = Command::new("/usr/sbin/nginx");
    let _server = Process::start(nginx.arg("-p").arg(media.0.path()).arg("-c").arg(media.path("nginx.conf")));
    let until = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    let url = format!("rtmp://127.0.0.1:{port}/live/x");
    let _sender = send(&media, "-f flv", &url);
    let (opened, codec, sets) = open_when_there(&url);
    assert!(sets.is_complete());
    decodes(&opened, codec, &sets);
}

#[test]
fn srt_both_ways() {
    let (media, port) = (clip(H265), free_udp_port());
    let _server = send(&media, "-f mpegts", &format!("srt://127.0.0.1:{port}?mode=listener"));
    let (opened, codec, sets) = open_when_there(&format!("srt://127.0.0.1:{port}"));
    assert_eq!(codec, Codec::H265);
    decodes(&opened, codec, &sets);

    let port = free_udp_port();
    let opened = open(&format!("srt://127.0.0.1:{port}?mode=listener"));
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < until);
        // It ends by itself where nobody listens yet.
        let mut sender = send(&media, "-f mpegts", &format!("srt://127.0.0.1:{port}"));
        let event = loop {
            match opened.events.recv_timeout(Duration::from_millis(100)) {
                Ok(event) => break Some(event),
                Err(_) if sender.0.try_wait().expect("a state").is_some() => break None,
                Err(_) => {}
            }
        };
        match event {
            Some(InputEvent::Playing { codec, parameter_sets }) => {
                decodes(&opened, codec, &parameter_sets);
                return;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
}

#[test]
fn mpeg_ts_by_udp() {
    let (media, port) = (clip(H264), free_udp_port());
    let _sender = send(&media, "-f mpegts", &format!("udp://127.0.0.1:{port}?pkt_size=1316"));
    let opened = open(&format!("udp://127.0.0.1:{port}"));
    let (codec, sets) = opened.playing();
    decodes(&opened, codec, &sets);
}

/// GStreamer's server; prints its port.
const RTSP_SERVER: &str = r#"
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0"); gi.require_version("GstRtsp", "1.0")
from gi.repository import Gst, GstRtsp, GstRtspServer, GLib
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_protocols(getattr(GstRtsp.RTSPLowerTrans, sys.argv[1]))
factory.set_launch("( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1 ! "
    "x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96 audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 )")
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1"); server.set_service("0")
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"#;

#[test]
fn rtsp_by_ffmpeg() {
    for transport in ["TCP", "UDP"] {
        let mut server =
            Process::start(Command::new("/usr/bin/python3").args(["-c", RTSP_SERVER, transport]));
        let port = server.line();
        let opened = open(&format!("rtsp://127.0.0.1:{}/cam?via=ffmpeg", port.trim()));
        let (codec, sets) = opened.playing();
        let units = opened.units(60);
        let first =
            units.iter().position(|unit| is_random_access(codec, unit)).expect("a random access point");
        assert_eq!(decoded(codec, &sets, &units[first..]), units.len() - first);
    }
}

#[test]
fn a_sender_that_falls_silent_ends_it() {
    let (media, port) = (clip(H264), free_udp_port());
    let sender = send(&media, "-f mpegts", &format!("udp://127.0.0.1:{port}?pkt_size=1316"));
    let mut config = config(&format!("udp://127.0.0.1:{port}"));
    config.silence_timeout = Duration::from_secs(3);
    let opened = open_with(&Inputs::new(1), config);
    opened.playing();
    drop(sender);
    let sentence = opened.events.iter().find_map(|event| match event {
        InputEvent::Ended(sentence) => Some(sentence),
        _ => None,
    });
    assert_eq!(sentence.as_deref(), Some("the UDP input was silent for 3s"));
}

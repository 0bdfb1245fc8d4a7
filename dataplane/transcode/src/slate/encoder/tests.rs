use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::slate::SlateCaption;

fn request(codec: Codec, width: u32, height: u32) -> SlateRequest {
    SlateRequest { codec, width, height, caption: None }
}

fn captioned(codec: Codec, width: u32, height: u32) -> SlateRequest {
    let caption = SlateCaption { stream: "gate <north> & yard".to_owned(), since_unix_ms: 1_795_399_805_000 };
    SlateRequest { caption: Some(caption), ..request(codec, width, height) }
}

/// The clip so many times over, with its parameter sets before each random access point, as a shard sends it.
fn looped(clip: &SlateClip, times: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut put = |nal: &[u8]| {
        stream.extend([0, 0, 0, 1]);
        stream.extend(nal);
    };
    for _ in 0..times {
        clip.parameter_sets.iter().for_each(|set| put(set));
        clip.units.iter().flatten().for_each(|nal| put(&nal.to_contiguous()));
    }
    stream
}

fn format(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "h264",
        Codec::H265 => "hevc",
    }
}

/// Standard output and standard error of a program that reads the stream.
fn pipe(program: &str, arguments: &[&str], stream: Vec<u8>) -> (String, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("installed");
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(&stream));
    let output = child.wait_with_output().expect("runs");
    // A reader that saw enough closes its end.
    let _ = writer.join().expect("no panic");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{program}: {stderr}");
    (stdout, stderr)
}

/// Decodes three rounds without a word of complaint, and gives the checksums of all pictures.
fn decode(clip: &SlateClip) -> Vec<String> {
    let arguments =
        ["-xerror", "-v", "warning", "-err_detect", "explode", "-f", format(clip.codec), "-i", "-"];
    let output = ["-fps_mode", "passthrough", "-f", "framemd5", "-"];
    let (sums, complaints) = pipe("ffmpeg", &[&arguments[..], &output[..]].concat(), looped(clip, 3));
    assert_eq!(complaints, "");
    let pictures = sums.lines().filter(|line| !line.starts_with('#'));
    pictures.map(|line| line.rsplit(',').next().unwrap_or_default().trim().to_owned()).collect()
}

/// `key=value` lines of what ffprobe says of it.
fn probe(clip: &SlateClip) -> String {
    let entries = "stream=profile,level,width,height,has_b_frames,pix_fmt,refs";
    let arguments =
        ["-v", "error", "-f", format(clip.codec), "-show_entries", entries, "-of", "default=nw=1", "-"];
    pipe("ffprobe", &arguments, looped(clip, 1)).0
}

fn check_promises(request: &SlateRequest) {
    let (codec, width, height) = (request.codec, request.width, request.height);
    let clip = make(request).expect("made");
    assert_eq!(clip.codec, codec);
    assert_eq!(clip.interval, Duration::from_millis(200));
    assert_eq!(clip.units.len(), 10);
    for (number, unit) in clip.units.iter().enumerate() {
        let expected = if number == 0 { NalClass::RandomAccess } else { NalClass::Picture };
        assert_eq!(unit.len(), 1, "one slice");
        assert_eq!(unit[0].class(codec), expected, "picture {number}");
        assert!(unit[0].is_first_slice(codec));
        assert!(
            number == 0 || unit[0].len() <= 64 + (width * height / 4096) as usize,
            "a picture like the last one"
        );
    }
    let pictures = decode(&clip);
    assert_eq!(pictures.len(), 30, "{width}x{height}");
    assert!(pictures.iter().all(|picture| picture == &pictures[0]), "nothing moves");

    let probed = probe(&clip);
    for line in [
        format!("width={width}"),
        format!("height={height}"),
        "has_b_frames=0".to_owned(),
        "pix_fmt=yuv420p".to_owned(),
    ] {
        assert!(probed.lines().any(|probed| probed == line), "{line} in {probed}");
    }
    match codec {
        Codec::H264 => {
            let profile = clip.parameter_sets.profile_level_id().expect("an SPS");
            assert_eq!(&profile[..2], "42", "baseline");
            assert_eq!(
                clip.parameter_sets.profile_level_id_bytes().expect("an SPS")[1] & 0x40,
                0x40,
                "constrained"
            );
        }
        Codec::H265 => assert!(probed.contains("profile=Main\n"), "{probed}"),
    }
}

#[test]
fn h264_decodes_in_rounds_at_every_size() {
    for (width, height) in
        [(64, 64), (16, 16), (320, 180), (704, 576), (1280, 720), (1920, 1080), (722, 182), (1080, 1920)]
    {
        check_promises(&captioned(Codec::H264, width, height));
    }
}

#[test]
fn h265_decodes_in_rounds_at_every_size() {
    for (width, height) in [(64, 64), (16, 16), (320, 180), (704, 576), (1920, 1080), (722, 182), (180, 320)]
    {
        check_promises(&captioned(Codec::H265, width, height));
    }
}

#[test]
fn the_largest_picture_can_be_made() {
    check_promises(&request(Codec::H264, 7680, 4320));
}

#[test]
fn a_text_that_is_markup_is_only_text() {
    let caption = |stream: &str| {
        let caption = SlateCaption { stream: stream.to_owned(), since_unix_ms: 0 };
        SlateRequest { caption: Some(caption), ..request(Codec::H264, 640, 360) }
    };
    for text in [
        "</text></svg>",
        "&lt;&#0;&unknown;",
        "<![CDATA[",
        "]]>",
        "\u{0}\u{1b}[31m\u{202e}",
        "\u{fffe}\u{10ffff}",
        "日本語カメラ 🎥",
    ] {
        make(&caption(text)).expect(text);
    }
}

#[test]
fn a_missing_element_names_its_package() {
    gstreamer::init().expect("GStreamer");
    let missing = element("nosuchelement").expect_err("no such element");
    assert!(
        matches!(&missing, SlateError::Missing { element, .. } if element == "nosuchelement"),
        "{missing}"
    );
    assert_eq!(package("x265enc"), "gstreamer1.0-plugins-bad");
    assert_eq!(package("x264enc"), "gstreamer1.0-plugins-ugly");
    assert_eq!(package("rsvgdec"), "gstreamer1.0-plugins-bad");
    let told = SlateError::Missing { element: "x264enc".to_owned(), package: package("x264enc").to_owned() }
        .to_string();
    assert!(told.contains("x264enc") && told.contains("gstreamer1.0-plugins-ugly"), "{told}");
}

#[test]
fn an_error_of_a_pipeline_is_told_and_does_not_hang() {
    gstreamer::init().expect("GStreamer");
    let broken = vec![Buffer::from_slice(b"<svg><no".to_vec())];
    let chain = [element("rsvgdec").expect("installed"), element("videoconvert").expect("installed")];
    let caps = Caps::builder("video/x-raw").build();
    let outcome = run(&Caps::builder("image/svg+xml").build(), broken, &chain, &caps);
    assert!(outcome.is_err() || outcome.is_ok_and(|pictures| pictures.is_empty()));

    let picture =
        vec![Buffer::from_slice(b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>".to_vec())];
    let chain = [element("rsvgdec").expect("installed"), element("videoconvert").expect("installed")];
    let impossible = Caps::builder("video/x-raw")
        .field("width", 9i32)
        .field("height", 9i32)
        .field("format", "nonsense")
        .build();
    let error = run(&Caps::builder("image/svg+xml").build(), picture, &chain, &impossible)
        .expect_err("no such format");
    assert!(error.to_string().contains("GStreamer"), "{error}");
}

#[test]
fn what_is_no_slate_is_refused() {
    let good = make(&request(Codec::H264, 64, 64)).expect("made");
    let wanted = request(Codec::H264, 64, 64);
    assert_eq!(check(&wanted, &good), Ok(()));
    assert!(check(&request(Codec::H264, 66, 64), &good).is_err(), "another size");
    let mut backwards = good.clone();
    backwards.units.reverse();
    assert!(check(&wanted, &backwards).is_err());
    let mut short = good.clone();
    short.units.pop();
    assert!(check(&wanted, &short).is_err());
    let mut empty = good.clone();
    empty.units[3].clear();
    assert!(check(&wanted, &empty).is_err());
    let unset = SlateClip { parameter_sets: ParameterSets::new(Codec::H264), ..good };
    assert!(check(&wanted, &unset).is_err());
}

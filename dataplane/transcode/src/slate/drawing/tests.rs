use lanecast_protocol::codec::Codec;

use super::*;

fn request(width: u32, height: u32, stream: &str) -> SlateRequest {
    let caption = SlateCaption { stream: stream.to_owned(), since_unix_ms: 1_795_399_805_999 };
    SlateRequest { codec: Codec::H264, width, height, caption: Some(caption) }
}

fn lines(request: &SlateRequest) -> Vec<String> {
    let column = Column::new(request.width, request.height, request.caption.as_ref());
    let text = |part: Part| match part.shape {
        Shape::Camera => "(camera)".to_owned(),
        Shape::Text { text, .. } => text,
    };
    column.parts.into_iter().map(text).collect()
}

#[test]
fn tells_which_stream_and_since_when() {
    let expected = ["(camera)", "No signal", "gate", "since 2026-11-23 02:10:05 UTC"];
    for (width, height) in [(320, 180), (704, 576), (1920, 1080), (1080, 1920), (7680, 4320)] {
        assert_eq!(lines(&request(width, height, "gate")), expected, "{width}x{height}");
    }
}

#[test]
fn a_plain_slate_has_no_words_of_an_outage() {
    let plain = SlateRequest { caption: None, ..request(1920, 1080, "gate") };
    assert_eq!(lines(&plain), ["(camera)", "No signal"]);
}

#[test]
fn a_small_picture_says_what_can_be_read() {
    assert_eq!(lines(&request(64, 64, "gate")), ["No signal", "gate"]);
    assert_eq!(lines(&request(16, 16, "gate")), ["No signal"]);
    assert_eq!(lines(&request(1920, 32, "gate"))[0], "No signal", "flat");
}

#[test]
fn nothing_leaves_the_picture() {
    let id = "W".repeat(128);
    for width in (16..=2000).step_by(62) {
        for height in (16..=2000).step_by(62) {
            let request = request(width, height, &id);
            let column = Column::new(width, height, request.caption.as_ref());
            assert!(column.used_height() <= height as f32, "{width}x{height}");
            for part in &column.parts {
                let Shape::Text { text, .. } = &part.shape else { continue };
                let used = text_width_em(text) * part.height;
                assert!(used <= width as f32, "{text} at {width}x{height}: {used}");
            }
        }
    }
}

#[test]
fn a_long_id_loses_its_middle() {
    assert_eq!(shorten("building-7/floor-2/camera-0001", 9.0), "buildin…a-0001");
    assert_eq!(shorten("short", 9.0), "short");
    let long = format!("first-{}-last", "x".repeat(100));
    let shown = &lines(&request(320, 180, &long))[2];
    assert!(shown.starts_with("first-") && shown.contains('…') && shown.ends_with("-last"), "{shown}");
}

#[test]
fn a_uuid_is_shown_whole_from_320_pixels_up() {
    let id = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
    for (width, height) in [(320, 180), (640, 480), (1920, 1080)] {
        assert_eq!(lines(&request(width, height, id))[2], id);
    }
}

#[test]
fn markup_in_an_id_is_only_text() {
    let svg = svg(&request(640, 360, r#"<b>&amp;</b> "'"#));
    assert!(svg.contains(r#">&lt;b&gt;&amp;amp;&lt;/b&gt; "'</text>"#), "{svg}");
}

#[test]
fn what_no_document_can_carry_is_replaced() {
    assert_eq!(
        printable("a\0b\u{1b}c\u{202e}d\u{ffff}e\u{1fffe}f\u{9f}"),
        "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f\u{fffd}"
    );
    assert_eq!(printable("Straße 日本 🎥"), "Straße 日本 🎥");
    assert_eq!(printable(&"x".repeat(1000)).len(), 128);
}

#[test]
fn a_time_beyond_the_calendar_is_left_out() {
    let at = |since_unix_ms| since(&SlateCaption { stream: String::new(), since_unix_ms });
    assert_eq!(at(0).as_deref(), Some("since 1970-01-01 00:00:00 UTC"));
    assert_eq!(at(-1).as_deref(), Some("since 1969-12-31 23:59:59 UTC"));
    assert_eq!(at(i64::MAX), None);
    assert_eq!(at(i64::MIN), None);
}

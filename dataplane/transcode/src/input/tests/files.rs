//! Files: each container's way to hold NAL units, pacing, beginning anew.

use super::*;

/// A pass of the file decodes to all its pictures, and the next pass goes on with the times.
fn plays(media: &Media, name: &str, codec: Codec) -> Vec<InputUnit> {
    let began = Instant::now();
    let opened = open(&media.url(name));
    let (told, sets) = opened.playing();
    assert_eq!(told, codec);
    let units = opened.units(PICTURES);
    assert!(began.elapsed() >= Duration::from_millis(950), "a second's pictures take a second");
    assert!(is_random_access(codec, &units[0]));
    assert_eq!(decoded(codec, &sets, &units), PICTURES);
    let more = opened.units(5);
    assert!(is_random_access(codec, &more[0]), "it begins anew");
    let all = [units, more].concat();
    assert!(steps(&all[..PICTURES]).iter().all(|step| step.abs_diff(3600) <= 90), "{:?}", steps(&all));
    let pass = all[PICTURES].timestamp_90k.wrapping_sub(all[0].timestamp_90k);
    assert!(pass.abs_diff(90_000) <= 180, "{pass}");
    all
}

#[test]
fn mp4_with_reordered_pictures() {
    let media = Media::new().make(&format!("{SOURCE} {SOUND} {H264_B} -c:a aac"), "a.mp4");
    let units = plays(&media, "a.mp4", Codec::H264);
    let times: Vec<u32> = units.iter().map(|unit| unit.timestamp_90k).collect();
    assert!(!times.is_sorted(), "they come in decode order");
    let video: u64 = units.iter().flat_map(|unit| &unit.nals).map(|nal| nal.len() as u64 + 4).sum();
    let all: u64 = units.iter().map(|unit| unit.bytes).sum();
    assert!(all > video, "the sound counts: {all} of {video}");
}

#[test]
fn mpeg_ts() {
    let media = Media::new().make(&format!("{SOURCE} {SOUND} {H264_B} -c:a aac"), "a.ts");
    plays(&media, "a.ts", Codec::H264);
}

#[test]
fn matroska_with_h265() {
    plays(&Media::new().make(&format!("{SOURCE} {H265}"), "a.mkv"), "a.mkv", Codec::H265);
}

#[test]
fn mp4_with_h265() {
    plays(&Media::new().make(&format!("{SOURCE} {H265}"), "a.mp4"), "a.mp4", Codec::H265);
    plays(&Media::new().make(&format!("{SOURCE} {H265} -tag:v hvc1"), "a.mp4"), "a.mp4", Codec::H265);
}

#[test]
fn mpeg_ts_with_h265() {
    plays(&Media::new().make(&format!("{SOURCE} {H265}"), "a.ts"), "a.ts", Codec::H265);
}

#[test]
fn flv_and_fragmented_mp4() {
    plays(&Media::new().make(&format!("{SOURCE} {H264}"), "a.flv"), "a.flv", Codec::H264);
    let fragmented = format!("{SOURCE} {H264} -movflags frag_keyframe+empty_moov");
    plays(&Media::new().make(&fragmented, "a.mp4"), "a.mp4", Codec::H264);
}

#[test]
fn a_path_with_odd_letters() {
    let media = Media::new().make(&format!("{SOURCE} {H264}"), "a b%d:ü.mp4");
    let url = Url::from_file_path(media.path("a b%d:ü.mp4")).expect("a path");
    open(url.as_str()).playing();
}

#[test]
fn elementary_streams_have_times_too() {
    for (encoder, name, codec) in [(H264, "a.h264", Codec::H264), (H265, "a.hevc", Codec::H265)] {
        let media = Media::new().make(&format!("{SOURCE} {encoder}"), name);
        let opened = open(&media.url(name));
        let (_, sets) = opened.playing();
        let units = opened.units(PICTURES);
        assert_eq!(decoded(codec, &sets, &units), PICTURES);
        assert!(units.windows(2).all(|pair| pair[0].timestamp_90k != pair[1].timestamp_90k));
    }
}

#[test]
fn a_receiver_without_room_gets_the_same_again() {
    let media = Media::new().make(&format!("{SOURCE} {H264}"), "a.mp4");
    let (sender, events) = mpsc::channel();
    let mut refused = 0;
    let deliver = move |event| {
        refused += 1;
        if refused % 3 != 0 {
            return Err(Unready(event));
        }
        let _ = sender.send(event);
        Ok(())
    };
    let inputs = Inputs::new(1);
    let handle = inputs.open(config(&media.url("a.mp4")), deliver).expect("opened");
    let opened = Opened { handle: Some(handle), events, inputs };
    let (codec, sets) = opened.playing();
    assert_eq!(decoded(codec, &sets, &opened.units(PICTURES)), PICTURES);
}

#[test]
fn a_receiver_without_room_for_long_goes_on_at_a_random_access_point() {
    let media = Media::new().make(&format!("{SOURCE} {H264}"), "a.mp4");
    let (sender, events) = mpsc::channel();
    let (mut units, mut closed_at) = (0, None);
    let deliver = move |event| {
        if matches!(event, InputEvent::Unit(_)) {
            units += 1;
            if units > 3 {
                let closed_at = *closed_at.get_or_insert_with(Instant::now);
                if closed_at.elapsed() < Duration::from_millis(2500) {
                    return Err(Unready(event));
                }
            }
        }
        let _ = sender.send(event);
        Ok(())
    };
    let inputs = Inputs::new(1);
    let handle = inputs.open(config(&media.url("a.mp4")), deliver).expect("opened");
    let opened = Opened { handle: Some(handle), events, inputs };
    let (codec, _) = opened.playing();
    let units = opened.units(8);
    assert!(!is_random_access(codec, &units[2]));
    assert!(is_random_access(codec, &units[3]), "not the fourth picture, which needs those before it");
    let one: u64 = units[3].nals.iter().map(|nal| nal.len() as u64 + 4).sum();
    assert!(units[3].bytes > one, "what was left out was read");
}

//! Whatever a camera answers to DESCRIBE.
#![no_main]

use lanecast_protocol::codec::{Nal, ParameterSets};
use lanecast_protocol::sdp::Presentation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let base = url::Url::parse("rtsp://camera.example/stream/").expect("a URL");
    let Ok(presentation) = Presentation::parse(data, &base) else { return };
    let mut sets = ParameterSets::new(presentation.video.codec);
    for set in presentation.video.parameter_sets {
        sets.handle_nal(&Nal::from_bytes(set));
    }
    sets.shape();
});

//! A slate by GStreamer, from request to clip: one pipeline draws the picture, a second encodes it ten times over.
//!
//! Everything here blocks, for milliseconds or, should GStreamer hang, for ever: [`super::worker`] sees to that.

use std::time::Duration;

use bytes::Bytes;
use gstreamer::prelude::*;
use gstreamer::{Buffer, Caps, ClockTime, Element, ElementFactory, Pipeline, Sample, State};
use gstreamer_app::{AppSink, AppSrc};
use lanecast_protocol::codec::{Codec, Nal, NalClass, ParameterSets, split_annex_b};

use super::{SlateClip, SlateError, SlateRequest, drawing};

/// Makes a slate. The first call starts GStreamer.
pub(super) fn make(request: &SlateRequest) -> Result<SlateClip, SlateError> {
    gstreamer::init().map_err(|error| SlateError::Failed(format!("GStreamer cannot start: {error}")))?;
    let encoder = encoder(request)?;
    let picture = draw(request)?;
    let units = encode(request.codec, encoder, &picture)?;
    clip(request, &units)
}

/// The picture, raw.
fn draw(request: &SlateRequest) -> Result<Sample, SlateError> {
    let svg = Buffer::from_slice(drawing::svg(request).into_bytes());
    let source_caps = Caps::builder("image/svg+xml").build();
    let picture_caps = Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("colorimetry", "bt709")
        .field("width", side(request.width))
        .field("height", side(request.height))
        .build();
    let elements = [element("rsvgdec")?, element("videoconvert")?];
    let mut pictures = run(&source_caps, vec![svg], &elements, &picture_caps)?;
    pictures.pop().ok_or_else(|| SlateError::Failed("GStreamer drew no picture".to_owned()))
}

/// The picture encoded [`PICTURES`] times, each as an access unit with start codes.
fn encode(codec: Codec, encoder: Element, picture: &Sample) -> Result<Vec<Sample>, SlateError> {
    let drawn = picture.buffer().zip(picture.caps());
    let (buffer, caps) = drawn.ok_or_else(|| SlateError::Failed("GStreamer drew nothing".to_owned()))?;
    let mut source_caps = caps.to_owned();
    source_caps.make_mut().set("framerate", gstreamer::Fraction::new(PICTURES_PER_SECOND, 1));
    let pictures = (0..PICTURES).map(|number| timed(buffer.to_owned(), number)).collect();
    run(&source_caps, pictures, &[encoder], &encoded_caps(codec))
}

/// A picture with its time; its pixels are shared.
fn timed(mut picture: Buffer, number: u32) -> Buffer {
    let interval = ClockTime::SECOND / PICTURES_PER_SECOND as u64;
    let timed = picture.make_mut();
    timed.set_pts(interval * u64::from(number));
    timed.set_dts(ClockTime::NONE);
    timed.set_duration(interval);
    picture
}

/// No picture refers to a later one, one slice each, one thread (the cores belong to the shards).
fn encoder(request: &SlateRequest) -> Result<Element, SlateError> {
    match request.codec {
        Codec::H264 => {
            let encoder = element("x264enc")?;
            encoder.set_property_from_str("speed-preset", "ultrafast");
            encoder.set_property_from_str("tune", "zerolatency");
            encoder.set_property_from_str("pass", "quant");
            encoder.set_property("quantizer", X264_QUANTIZER);
            encoder.set_property("ip-factor", X264_FINER_FIRST);
            encoder.set_property("key-int-max", PICTURES * 2);
            encoder.set_property("threads", 1u32);
            encoder.set_property("sliced-threads", false);
            encoder.set_property("aud", false);
            encoder.set_property("bframes", 0u32);
            encoder.set_property("ref", 1u32);
            Ok(encoder)
        }
        Codec::H265 => {
            let encoder = element("x265enc")?;
            encoder.set_property_from_str("speed-preset", "ultrafast");
            encoder.set_property_from_str("tune", "zerolatency");
            encoder.set_property("qp", X265_QUANTIZER);
            encoder.set_property("key-int-max", PICTURES as i32 * 2);
            encoder.set_property("option-string", x265_options(request));
            Ok(encoder)
        }
    }
}

/// What x265 is asked for beyond its preset: one thread, one slice, nothing looked for in pictures that stand still.
fn x265_options(request: &SlateRequest) -> String {
    // A picture has to be at least one coding tree unit.
    let tree_unit = if request.width.min(request.height) < 64 { 16 } else { 64 };
    // SAO is no need of ours, but x265 3.5 (Debian 12) leaks the filter's tables when it is off for any picture: 5 KB
    // each time at 320x180.
    format!(
        "sao=1:ipratio={X265_FINER_FIRST}:ctu={tree_unit}:bframes=0:ref=1:open-gop=0:scenecut=0:slices=1:pools=none:wpp=0:frame-threads=1:\
         max-merge=1:psy-rd=0:aq-mode=0:weightp=0:repeat-headers=1:aud=0:info=0:hrd=0"
    )
}

fn encoded_caps(codec: Codec) -> Caps {
    let (media, profile) = match codec {
        Codec::H264 => ("video/x-h264", "constrained-baseline"),
        Codec::H265 => ("video/x-h265", "main"),
    };
    Caps::builder(media)
        .field("profile", profile)
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .build()
}

/// An element by name, or which package is missing.
fn element(name: &str) -> Result<Element, SlateError> {
    let Some(factory) = ElementFactory::find(name) else {
        return Err(SlateError::Missing { element: name.to_owned(), package: package(name).to_owned() });
    };
    factory
        .create()
        .build()
        .map_err(|error| SlateError::Failed(format!("GStreamer's element {name}: {error}")))
}

/// The Debian package that holds an element.
fn package(name: &str) -> &'static str {
    let known = PACKAGES.iter().find(|(element, _)| *element == name);
    known.map_or("the plugin that has it", |(_, package)| package)
}

/// Puts buffers in at one end of a chain of elements and takes what comes out at the other.
fn run(
    source_caps: &Caps,
    buffers: Vec<Buffer>,
    chain: &[Element],
    sink_caps: &Caps,
) -> Result<Vec<Sample>, SlateError> {
    let source = app::<AppSrc>("appsrc")?;
    source.set_caps(Some(source_caps));
    source.set_format(gstreamer::Format::Time);
    let sink = app::<AppSink>("appsink")?;
    sink.set_caps(Some(sink_caps));
    sink.set_property("sync", false);
    sink.set_property("wait-on-eos", false);

    let pipeline = Running(Pipeline::new());
    let mut elements = vec![source.upcast_ref::<Element>()];
    elements.extend(chain);
    elements.push(sink.upcast_ref());
    pipeline.0.add_many(&elements).map_err(failed)?;
    Element::link_many(&elements).map_err(failed)?;
    // A failure to start is told on the bus, with its cause.
    let _ = pipeline.0.set_state(State::Playing);
    for buffer in buffers {
        let _ = source.push_buffer(buffer);
    }
    let _ = source.end_of_stream();
    pipeline.wait()?;
    Ok(std::iter::from_fn(|| sink.try_pull_sample(ClockTime::ZERO)).collect())
}

fn app<T: IsA<Element>>(name: &str) -> Result<T, SlateError> {
    element(name)?
        .downcast()
        .map_err(|_| SlateError::Failed(format!("GStreamer's element {name} is something else")))
}

/// A pipeline that is stopped when dropped, as GStreamer demands.
struct Running(Pipeline);

impl Running {
    /// Blocks until all went through.
    fn wait(&self) -> Result<(), SlateError> {
        use gstreamer::{MessageType, MessageView};
        let bus = self.0.bus().ok_or_else(|| SlateError::Failed("a pipeline without bus".to_owned()))?;
        let message = bus.timed_pop_filtered(ClockTime::NONE, &[MessageType::Error, MessageType::Eos]);
        match message.as_ref().map(|message| message.view()) {
            Some(MessageView::Error(error)) => {
                let element = error.src().map(|source| source.path_string()).unwrap_or_default();
                let (told, detail) = (error.error(), error.debug().unwrap_or_default());
                Err(SlateError::Failed(format!("GStreamer: {element}: {told} ({detail})")))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.set_state(State::Null);
    }
}

/// Takes the access units apart, and checks that they are what a slate promises to be.
fn clip(request: &SlateRequest, samples: &[Sample]) -> Result<SlateClip, SlateError> {
    let codec = request.codec;
    let mut parameter_sets = ParameterSets::new(codec);
    let mut units = Vec::new();
    for sample in samples {
        let unit = access_unit(sample)?;
        let mut slices = Vec::new();
        for nal in split_annex_b(unit).map(Nal::from_bytes) {
            match nal.class(codec) {
                NalClass::ParameterSet => drop(parameter_sets.handle_nal(&nal)),
                NalClass::RandomAccess | NalClass::Picture => slices.push(nal),
                // The encoder's advertisement, delimiters.
                NalClass::Other => {}
            }
        }
        units.push(slices);
    }
    let interval = Duration::from_secs(1) / PICTURES_PER_SECOND as u32;
    let clip = SlateClip { codec, parameter_sets, units, interval };
    check(request, &clip).map_err(|fault| SlateError::Failed(format!("the encoder's output {fault}")))?;
    Ok(clip)
}

fn check(request: &SlateRequest, clip: &SlateClip) -> Result<(), &'static str> {
    let shape = clip.parameter_sets.shape().ok_or("has no readable SPS")?;
    let all =
        |slices: &[Nal], class| !slices.is_empty() && slices.iter().all(|nal| nal.class(clip.codec) == class);
    let Some((first, others)) = clip.units.split_first() else { return Err("has no picture") };
    if (shape.width, shape.height) != (request.width, request.height) {
        return Err("has another size");
    }
    if !clip.parameter_sets.is_complete() {
        return Err("lacks a parameter set");
    }
    if clip.units.len() != PICTURES as usize {
        return Err("lacks pictures");
    }
    if !all(first, NalClass::RandomAccess) || !others.iter().all(|slices| all(slices, NalClass::Picture)) {
        return Err("has random access points elsewhere than at its start");
    }
    Ok(())
}

fn access_unit(sample: &Sample) -> Result<Bytes, SlateError> {
    let buffer = sample
        .buffer()
        .ok_or_else(|| SlateError::Failed("GStreamer gave a picture without bytes".to_owned()))?;
    let mapped = buffer.map_readable().map_err(failed)?;
    Ok(Bytes::copy_from_slice(&mapped))
}

fn failed(error: gstreamer::glib::BoolError) -> SlateError {
    SlateError::Failed(format!("GStreamer: {error}"))
}

/// At most `SIDE_MAX`.
fn side(pixels: u32) -> i32 {
    pixels as i32
}

/// Pictures of a clip: two seconds, so that a viewer who lost a packet waits no longer than that for a whole picture.
const PICTURES: u32 = 10;

/// Enough for a player to feel alive; each beyond the first is some dozen bytes.
const PICTURES_PER_SECOND: i32 = 5;

/// Of all pictures but the first: so much coarser that nothing of the first is worth correcting, and all look the same.
const X264_QUANTIZER: u32 = 26;
const X265_QUANTIZER: i32 = 40;

/// Twice as fine is 6 less: the first picture has 20 by x264, 22 by x265, letters without visible blocks.
const X264_FINER_FIRST: f32 = 2.0;
const X265_FINER_FIRST: u32 = 8;

/// Elements and where Debian has them.
const PACKAGES: [(&str, &str); 6] = [
    ("appsink", "gstreamer1.0-plugins-base"),
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("rsvgdec", "gstreamer1.0-plugins-bad"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
    ("x265enc", "gstreamer1.0-plugins-bad"),
];

#[cfg(test)]
mod tests;

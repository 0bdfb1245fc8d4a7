//! What the end-to-end tests are made of: the real binary, cameras, viewers and an independent decoder.
//!
//! Every process and thread here ends with the value that owns it, and what a process said is shown when the
//! test that owned it fails. Waiting is done on events with a deadline; only state behind REST is polled.

mod burnt_in_clock;
mod camera;
mod checker;
mod chromium;
mod clip;
mod decoder;
mod ffmpeg_source;
mod film;
mod gst_server;
mod live555_server;
mod picture;
mod player_page;
mod process;
mod random;
mod recordings;
mod rest;
mod rtp;
mod rtsp_streaming_server;
mod server;
mod stamps;
mod udp;
mod usage;
mod vlc_server;
mod wait;
mod webdriver;
mod whep_viewer;
mod wsc;

pub use camera::Camera;
pub use checker::Checker;
pub use chromium::Chromium;
pub use clip::Clip;
pub use decoder::{Decoded, Decoder, with_media_port};
pub use ffmpeg_source::{HttpFolder, RtmpServer, Sender};
pub use film::{Film, assert_in_real_time};
pub use gst_server::GstServer;
pub use live555_server::Live555Server;
pub use picture::Picture;
pub use player_page::{ClockReading, PlayerPage};
pub use process::Process;
pub use random::Random;
pub use recordings::{RecordedFile, Recordings, Sample, assert_all_play, assert_plays};
pub use rest::{Answer, Rest};
pub use rtp::{AccessUnit, Codec, Packet, access_units, assert_continuous, assert_on_time};
pub use rtsp_streaming_server::RtspStreamingServer;
pub use server::{Server, StoppedServer};
pub use stamps::{Stamp, now_unix_ms, stamps_of_packets};
pub use udp::{Udp, free_udp_port};
pub use usage::{Usage, threads};
pub use vlc_server::VlcServer;
pub use wait::{PATIENCE, until};
pub use whep_viewer::WhepViewer;
pub use wsc::{Incoming, Viewer, ViewerOptions};

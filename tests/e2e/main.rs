//! End to end: the real binary between real cameras and real viewers, on loopback.
//!
//! What a test needs beside the binary: ffmpeg, GStreamer's RTSP server, and `lanecast-camera` built in the
//! same profile (`tools/test.sh` sees to all of it).

#[cfg_attr(
    not(all(feature = "ffmpeg", feature = "gstreamer")),
    allow(dead_code, unused_imports, reason = "a build without them leaves their tests out")
)]
mod harness;

#[cfg(not(all(feature = "ffmpeg", feature = "gstreamer")))]
mod built_without;
mod cameras;
mod erring_cameras;
mod failover;
mod faults;
#[cfg(feature = "ffmpeg")]
mod foreign_inputs;
#[cfg(feature = "ffmpeg")]
mod foreign_inputs_refused;
mod join;
mod on_demand;
#[cfg(feature = "gstreamer")]
mod outage_browser;
mod pictures;
mod program;
mod quirks_media;
mod quirks_rtsp;
mod reconnect;
mod recording;
mod recording_faults;
mod rest;
mod rewind;
mod rewind_browser;
mod rewind_webrtc;
mod rtsps;
mod servers;
#[cfg(feature = "gstreamer")]
mod slate;
mod slow_viewers;
mod storm;
mod webrtc;
mod webrtc_peers;
mod wsc_rtp;

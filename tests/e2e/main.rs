//! End to end: the real binary between real cameras and real viewers, on loopback.
//!
//! What a test needs beside the binary: ffmpeg, GStreamer's RTSP server, and `lanecast-camera` built in the
//! same profile (`tools/test.sh` sees to all of it).

mod harness;

mod cameras;
mod erring_cameras;
mod faults;
mod join;
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
mod slow_viewers;
mod storm;
mod webrtc;
mod webrtc_peers;
mod wsc_rtp;

//! FFmpeg and GStreamer, off the shards: what is blocking or heavy runs here on threads of its own, bounded in number,
//! and gives access units to whoever asked.
//!
//! [`input`] reads what is not RTSP by FFmpeg (feature `ffmpeg`). [`slate`] makes the offline picture by GStreamer
//! (feature `gstreamer`). Without its feature each says so to whoever asks.

pub mod input;
pub mod slate;

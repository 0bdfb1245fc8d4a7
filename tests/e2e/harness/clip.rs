//! A film of a few seconds, encoded by ffmpeg: what servers of files serve.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::Codec;

pub struct Clip {
    directory: TempDir,
    path: PathBuf,
}

/// Pictures a second.
const RATE: usize = 15;

impl Clip {
    /// `extension` says in which container: `mp4`, or `264` and `265` for the elementary stream. 320x240 at 15
    /// pictures a second, a random access point a second, no B-frames. Everybody may read it.
    pub fn encode(codec: Codec, seconds: usize, extension: &str) -> Self {
        Self::encode_with(codec, seconds, extension, 0)
    }

    /// The same with two B-frames after each other.
    pub fn encode_with_b_frames(codec: Codec, seconds: usize, extension: &str) -> Self {
        Self::encode_with(codec, seconds, extension, 2)
    }

    fn encode_with(codec: Codec, seconds: usize, extension: &str, b_frames: u32) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join(format!("clip.{extension}"));
        let clip = Self { directory, path };
        let picture = format!("testsrc=size=320x240:rate={RATE}:duration={seconds}");
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", &picture]);
        command.args(["-pix_fmt", "yuv420p", "-preset", "ultrafast", "-g", "15"]).args(match codec {
            Codec::H264 => ["-c:v", "libx264", "-x264-params", "scenecut=0"],
            Codec::H265 => ["-c:v", "libx265", "-x265-params", "scenecut=0:open-gop=0:log-level=none:info=0"],
        });
        let status = command
            .args(["-bf", &b_frames.to_string()])
            .arg(&clip.path)
            .status()
            .expect("ffmpeg is installed");
        assert!(status.success(), "{status}");
        for (path, mode) in [(clip.directory(), 0o777), (clip.path(), 0o644)] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
        }
        clip
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, with nothing else.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

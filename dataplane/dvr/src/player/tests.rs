//! What the player promises, over files in memory and virtual time.

mod archive;
mod chance;
mod open;
mod play;
mod recorded;
mod repair;
mod scene;
mod segments;

use std::time::Instant;

use self::archive::{Camera, Recorded, START};

/// Any time: virtual time is counted from it.
fn origin() -> Instant {
    Instant::now()
}

/// Minutes of this camera, one behind the other.
fn minutes(camera: Camera, minutes: i64) -> Vec<Recorded> {
    let pictures = 60_000 / camera.frame_ms;
    (0..minutes).map(|minute| camera.record(1 + minute, START + minute * 60_000, pictures as usize)).collect()
}

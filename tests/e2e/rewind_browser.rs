//! Live-rewind as its user has it: the player page in Chromium, and the time of day in the pictures to tell which
//! moment is on the screen.

use std::time::Duration;

use crate::harness::{GstServer, PlayerPage, Server};

/// The camera of the clock: a keyframe a second.
const CLOCK: &str = "--clock --size 640x360 --fps 15 --key-interval 15";

#[test]
fn the_clock_in_a_live_picture_is_near_now() {
    let server = Server::start();
    let camera = GstServer::start(CLOCK);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let page = PlayerPage::open(&server, "?stream=7&autoplay=1");
    page.when("playing", |view| view["state"] == "playing");

    page.clock_when("near now", |reading| reading.age() < Duration::from_secs(2));
}

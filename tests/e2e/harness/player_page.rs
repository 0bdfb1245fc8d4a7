//! The player page of the server in a real browser: what it knows, what it shows, and what its picture's clock says.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Chromium, Picture, Server, burnt_in_clock, until};

/// The player page in a browser.
pub struct PlayerPage {
    pub browser: Chromium,
}

impl PlayerPage {
    pub fn open(server: &Server, query: &str) -> Self {
        let browser = Chromium::start();
        browser.go(&format!("http://{}/debug/webrtc-client{query}", server.address()));
        Self { browser }
    }

    /// Presses Play and waits for the first picture on the screen; measured here, beside the page's own measuring.
    pub fn click_play(&self) -> Duration {
        let script = "const [done] = arguments;
            let clicked;
            const limit = setTimeout(() => done(null), 25000);
            document.getElementById('video').requestVideoFrameCallback((now) => {
                clearTimeout(limit);
                done(now - clicked);
            });
            clicked = performance.now();
            document.getElementById('play').click();
            new MutationObserver(() => lanecast.state === 'failed' && done(null))
                .observe(document.getElementById('status'), { attributes: true });";
        let milliseconds = self.browser.run_async(script, &[]).as_f64();
        milliseconds.map_or(Duration::MAX, |milliseconds| Duration::from_secs_f64(milliseconds / 1e3))
    }

    pub fn run(&self, script: &str) -> Value {
        self.browser.run(script, &[])
    }

    /// What the page knows.
    pub fn view(&self) -> Value {
        self.run("return lanecast")
    }

    pub fn when(&self, what: &str, pleases: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.view();
                pleases(&last).then(|| last.clone())
            })
        }));
        waited.unwrap_or_else(|_| panic!("the page was never {what}; last: {last:#}"))
    }

    /// The text of what is to be seen of an element.
    pub fn shown(&self, selector: &str) -> String {
        let text =
            self.browser.run("return document.querySelector(arguments[0]).innerText", &[json!(selector)]);
        text.as_str().expect("text").to_owned()
    }

    /// What is to be seen in place of the video.
    pub fn picture(&self, name: &str) -> Picture {
        Picture::from_png(&self.browser.screenshot("#video"), name)
    }

    /// Leaves a picture of the page for who wants to look.
    pub fn keep(&self, name: &str) {
        Picture::from_png(&self.browser.screenshot_of_page(), name);
    }

    /// The clock in the picture on the screen, where it can be read: see [`burnt_in_clock`].
    pub fn clock(&self) -> Option<ClockReading> {
        let script = "const [across, middles] = arguments;
            const video = document.getElementById('video');
            if (video.readyState < video.HAVE_CURRENT_DATA || !video.videoWidth) return null;
            const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
            const context = canvas.getContext('2d', { willReadFrequently: true });
            context.drawImage(video, 0, 0);
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            const readAt = Date.now();
            const size = canvas.width / across;
            const green = ([x, y]) => data[4 * (Math.floor(y * size) * canvas.width + Math.floor(x * size)) + 1];
            return { blocks: middles.map(green), readAt };";
        let middles: Vec<_> = burnt_in_clock::middles().collect();
        let seen = self.browser.run(script, &[json!(burnt_in_clock::BLOCKS_ACROSS), json!(middles)]);
        let blocks: Vec<u8> = serde_json::from_value(seen["blocks"].clone()).ok()?;
        Some(ClockReading {
            picture_unix_ms: burnt_in_clock::unix_ms(&blocks)?,
            read_at_unix_ms: seen["readAt"].as_u64().expect("a time"),
        })
    }

    /// The clock in the picture, as soon as it pleases.
    pub fn clock_when(&self, what: &str, mut pleases: impl FnMut(ClockReading) -> bool) -> ClockReading {
        let mut last = None;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.clock();
                last.filter(|&reading| pleases(reading))
            })
        }));
        waited.unwrap_or_else(|_| panic!("the clock was never {what}; last: {last:?}; {:#}", self.view()))
    }
}

/// When a picture was made by its camera, and when it was seen.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    pub picture_unix_ms: u64,
    pub read_at_unix_ms: u64,
}

impl ClockReading {
    /// How old the picture was.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.read_at_unix_ms.saturating_sub(self.picture_unix_ms))
    }
}

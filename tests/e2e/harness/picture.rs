//! A picture as a viewer has it on the screen, and whether it is GStreamer's test picture.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The seven bars of SMPTE's picture from left to right.
const BARS: [(char, [u8; 3]); 7] = [
    ('W', [255, 255, 255]),
    ('Y', [255, 255, 0]),
    ('C', [0, 255, 255]),
    ('G', [0, 255, 0]),
    ('M', [255, 0, 255]),
    ('R', [255, 0, 0]),
    ('B', [0, 0, 255]),
];

/// How far each channel may be from a bar's colour: coders and colour matrices change it a little.
const TOLERANCE: u8 = 50;

pub struct Picture {
    width: usize,
    height: usize,
    /// Three bytes a pixel, row by row.
    rgb: Vec<u8>,
}

impl Picture {
    /// Decodes a PNG with ffmpeg. Where `LANECAST_KEEP_PICTURES` names a directory, the PNG is left there under
    /// `name`, to look at.
    pub fn from_png(png: &[u8], name: &str) -> Self {
        if let Some(directory) = std::env::var_os("LANECAST_KEEP_PICTURES") {
            std::fs::write(Path::new(&directory).join(format!("{name}.png")), png).expect("a file");
        }
        let (width, height) = (number(&png[16..20]), number(&png[20..24]));
        let mut command = Command::new("ffmpeg");
        command.args(["-loglevel", "error", "-f", "png_pipe", "-i", "-"]);
        command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ffmpeg runs");
        let mut stdin = child.stdin.take().expect("piped");
        let bytes = png.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let rgb = child.wait_with_output().expect("ffmpeg ends").stdout;
        writer.join().expect("no panic").expect("ffmpeg reads");
        assert_eq!(rgb.len(), width * height * 3, "a picture of {width}x{height}");
        Self { width, height, rgb }
    }

    /// The bars that a row crosses from left to right, each by its letter, those of the wrap counted once.
    /// `row` is a share of the height.
    pub fn bars(&self, row: f64) -> String {
        let y = (self.height as f64 * row) as usize;
        let pixels = self.rgb[y * self.width * 3..(y + 1) * self.width * 3].chunks_exact(3);
        let mut bars: Vec<(char, usize)> = vec![];
        for letter in pixels.filter_map(letter) {
            match bars.last_mut() {
                Some((last, length)) if *last == letter => *length += 1,
                _ => bars.push((letter, 1)),
            }
        }
        // What lies between two bars looks now and then like a third.
        bars.retain(|&(_, length)| length > self.width / 50);
        let mut letters: String = bars.iter().map(|&(letter, _)| letter).collect();
        if letters.len() > 1 && letters.chars().next() == letters.chars().last() {
            letters.pop();
        }
        letters
    }

    /// Fails unless it is the (horizontally moving) picture of `videotestsrc pattern=smpte`.
    #[track_caller]
    pub fn assert_is_test_picture(&self) {
        let bars = self.bars(0.45);
        let whole: String = BARS.iter().map(|&(letter, _)| letter).collect();
        let turned = (0..whole.len()).any(|at| format!("{}{}", &whole[at..], &whole[..at]) == bars);
        assert!(turned, "the bars are {bars:?}, of {}x{} pixels", self.width, self.height);
    }
}

fn letter(pixel: &[u8]) -> Option<char> {
    let near = |colour: &[u8; 3]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(*b) <= TOLERANCE);
    BARS.iter().find(|(_, colour)| near(colour)).map(|&(letter, _)| letter)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

/// The judge is judged: the test picture itself, and another one.
mod tests {
    use super::*;

    #[test]
    fn the_test_picture_is_known_and_snow_is_not() {
        let bars = Picture::from_png(&picture("smpte"), "judge-smpte");
        bars.assert_is_test_picture();
        assert_eq!(bars.bars(0.45), "WYCGMRB");
        assert_ne!(Picture::from_png(&picture("snow"), "judge-snow").bars(0.45).len(), 7);
        assert_eq!(Picture::from_png(&picture("black"), "judge-black").bars(0.45), "");
    }

    fn picture(pattern: &str) -> Vec<u8> {
        let pattern = format!("pattern={pattern}");
        let arguments = ["-q", "videotestsrc", "num-buffers=1", &pattern, "!", "pngenc", "!", "fdsink"];
        let output = Command::new("gst-launch-1.0").args(arguments).output().expect("GStreamer's tools");
        output.stdout
    }
}

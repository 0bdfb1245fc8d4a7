//! What a slate looks like: an SVG image of exactly the picture's size. Pure text; fonts and pixels are GStreamer's.
//!
//! The layout is one column in the middle: a crossed-out camera, "No signal", the stream's id, since when. What would be
//! too small to read is left out. The widths of texts are estimates on the safe side, since the font is not known here.

use std::fmt::Write as _;

use time::OffsetDateTime;

use super::{SlateCaption, SlateRequest};

/// The picture as an SVG document.
pub(super) fn svg(request: &SlateRequest) -> String {
    let (width, height) = (request.width, request.height);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"><rect width="{width}" height="{height}" fill="{BACKGROUND}"/>"##
    );
    Column::new(width, height, request.caption.as_ref()).draw(&mut svg);
    svg.push_str("</svg>");
    svg
}

/// What is drawn below each other, and the space between.
struct Column {
    center_x: f32,
    height: f32,
    parts: Vec<Part>,
}

struct Part {
    /// Empty space above, unless it is the first.
    gap: f32,
    height: f32,
    shape: Shape,
}

enum Shape {
    Camera,
    Text { text: String, fill: &'static str, weight: &'static str },
}

impl Column {
    fn new(width: u32, height: u32, caption: Option<&SlateCaption>) -> Self {
        let (width, height) = (width as f32, height as f32);
        let usable = width * USABLE;
        let title = (height * TITLE_OF_HEIGHT).min(width * TITLE_OF_WIDTH).max(READABLE * 1.4);
        let title = title.min(usable / text_width_em(TITLE));
        let mut parts = Vec::new();
        if title >= READABLE_WITH_CAMERA {
            parts.push(Part { gap: 0.0, height: title * 2.0, shape: Shape::Camera });
        }
        parts.push(text(TITLE.to_owned(), title * 0.35, title, "#e6e9ed", "600"));
        if let Some(caption) = caption {
            let id = fit_or_shorten(printable(&caption.stream), title * ID_OF_TITLE, usable);
            let since = since(caption).and_then(|since| fit(since, title * SINCE_OF_TITLE, usable));
            parts.extend(id.map(|(id, size)| text(id, title * 0.42, size, "#a9b3be", "400")));
            parts.extend(since.map(|(since, size)| text(since, title * 0.24, size, "#77828f", "400")));
        }
        Self { center_x: width / 2.0, height, parts }.without_what_does_not_fit()
    }

    /// Flat pictures have no room for all: the camera goes first, then the last lines.
    fn without_what_does_not_fit(mut self) -> Self {
        while self.parts.len() > 1 && self.used_height() > self.height * USABLE {
            match self.parts[0].shape {
                Shape::Camera => drop(self.parts.remove(0)),
                Shape::Text { .. } => drop(self.parts.pop()),
            }
        }
        self
    }

    fn used_height(&self) -> f32 {
        let gaps: f32 = self.parts.iter().skip(1).map(|part| part.gap).sum();
        gaps + self.parts.iter().map(|part| part.height).sum::<f32>()
    }

    fn draw(&self, svg: &mut String) {
        let mut y = (self.height - self.used_height()) / 2.0;
        for (at, part) in self.parts.iter().enumerate() {
            y += if at == 0 { 0.0 } else { part.gap };
            part.draw(svg, self.center_x, y);
            y += part.height;
        }
    }
}

impl Part {
    fn draw(&self, svg: &mut String, center_x: f32, y: f32) {
        // Writing to a string cannot fail.
        let _ = match &self.shape {
            Shape::Camera => {
                let scale = self.height / CAMERA_HEIGHT;
                let x = center_x - CAMERA_WIDTH / 2.0 * scale;
                write!(svg, r#"<g transform="translate({x:.2} {y:.2}) scale({scale:.4})">{CAMERA}</g>"#)
            }
            Shape::Text { text, fill, weight } => {
                let (size, baseline) = (self.height, y + self.height * BASELINE);
                let text = escape(text);
                write!(
                    svg,
                    r#"<text x="{center_x:.2}" y="{baseline:.2}" font-family="{FONTS}" font-size="{size:.2}" font-weight="{weight}" text-anchor="middle" fill="{fill}">{text}</text>"#
                )
            }
        };
    }
}

fn text(text: String, gap: f32, size: f32, fill: &'static str, weight: &'static str) -> Part {
    Part { gap, height: size, shape: Shape::Text { text, fill, weight } }
}

/// "since 2026-11-23 02:10:05 UTC"; `None` for a time beyond the calendar.
fn since(caption: &SlateCaption) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(caption.since_unix_ms.div_euclid(1000)).ok()?;
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    Some(format!("since {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"))
}

/// The text with a font size at which it fits a width, if that can be read.
fn fit(text: String, size: f32, width: f32) -> Option<(String, f32)> {
    let fitting = size.max(READABLE).min(width / text_width_em(&text));
    (fitting >= READABLE).then_some((text, fitting))
}

/// First makes the text smaller, then shorter; `None` if too little would be left of it.
fn fit_or_shorten(text: String, size: f32, width: f32) -> Option<(String, f32)> {
    let smallest = (size * SHRINK_MIN).max(READABLE);
    let fitting = size.min(width / text_width_em(&text)).max(smallest);
    let shortened = shorten(&text, width / fitting);
    (shortened == text || shortened.chars().count() >= SHORTENED_MIN).then_some((shortened, fitting))
}

/// Takes characters out of the middle until it fits: ids of one place often differ only at the end.
fn shorten(text: &str, width_em: f32) -> String {
    // What was fitted to the width may miss it by a rounding.
    if text_width_em(text) <= width_em * 1.001 {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let room = width_em - char_width_em(ELLIPSIS);
    let (mut used, mut head, mut tail) = (0.0, 0, 0);
    while head + tail < chars.len() {
        let from_head = head <= tail;
        let next = if from_head { chars[head] } else { chars[chars.len() - 1 - tail] };
        used += char_width_em(next);
        if used > room {
            break;
        }
        if from_head { head += 1 } else { tail += 1 }
    }
    chars[..head].iter().chain([&ELLIPSIS]).chain(&chars[chars.len() - tail..]).collect()
}

/// What XML cannot carry, or what would turn the line around, becomes a replacement character; no endless text.
fn printable(text: &str) -> String {
    let visible = |c: char| if is_drawable(c) { c } else { char::REPLACEMENT_CHARACTER };
    text.chars().take(TEXT_MAX).map(visible).collect()
}

fn is_drawable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        && !matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
        && u32::from(c) & 0xfffe != 0xfffe
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

fn text_width_em(text: &str) -> f32 {
    text.chars().map(char_width_em).sum()
}

/// Not less than the advance in DejaVu Sans, which is wider than the other fonts of [`FONTS`].
fn char_width_em(c: char) -> f32 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' | '-' | 'I' | '/' | '(' | ')' => {
            0.42
        }
        'f' | 'r' | 't' | '[' | ']' | '"' | '*' | '_' => 0.52,
        'a'..='z' if !matches!(c, 'm' | 'w') => 0.65,
        '0'..='9' => 0.65,
        'A'..='Z' if !matches!(c, 'M' | 'W' | 'O' | 'Q') => 0.78,
        '\u{0}'..='\u{2ff}' => 1.0,
        _ => 1.1,
    }
}

/// A camera and a line across it, in a box of [`CAMERA_WIDTH`] by [`CAMERA_HEIGHT`]. Its shapes need no font.
const CAMERA: &str = r##"<rect x="2" y="6" width="15" height="12" rx="2.2" fill="#55606d"/><path d="M18.2 10.4 L22.6 7.4 Q23.4 7 23.4 7.9 V16.1 Q23.4 17 22.6 16.6 L18.2 13.6 Z" fill="#55606d"/><path d="M3.4 20.8 L20 3.4" stroke="#14181d" stroke-width="4.4"/><path d="M3.4 20.8 L20 3.4" stroke="#55606d" stroke-width="1.6" stroke-linecap="round"/>"##;
const CAMERA_WIDTH: f32 = 25.4;
const CAMERA_HEIGHT: f32 = 24.0;

const TITLE: &str = "No signal";
const BACKGROUND: &str = "#14181d";
/// Debian brings at least one of them with any program that draws text.
const FONTS: &str = "DejaVu Sans, Liberation Sans, Noto Sans, sans-serif";
const ELLIPSIS: char = '…';

/// Of the width and height: the rest is margin.
const USABLE: f32 = 0.9;
const TITLE_OF_HEIGHT: f32 = 0.12;
const TITLE_OF_WIDTH: f32 = 0.12;
const ID_OF_TITLE: f32 = 0.42;
const SINCE_OF_TITLE: f32 = 0.33;
/// Where the letters stand, from the top of a line.
const BASELINE: f32 = 0.86;
/// A font of fewer pixels is only noise.
const READABLE: f32 = 8.0;
/// With a smaller title, the camera would be a smudge.
const READABLE_WITH_CAMERA: f32 = 12.0;
/// How much smaller a text may get before it is shortened.
const SHRINK_MIN: f32 = 0.7;
/// Fewer characters of an id tell nothing.
const SHORTENED_MIN: usize = 8;
/// Characters of an id that are looked at: it has up to 128 bytes.
const TEXT_MAX: usize = 128;

#[cfg(test)]
mod tests;

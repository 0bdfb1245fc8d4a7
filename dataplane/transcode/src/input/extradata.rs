//! The decoder configuration of a stream (FFmpeg's "extradata"). `ffmpeg-next` hands it out through a raw pointer only, so
//! FFmpeg is made to write it: the header of an AVI file has it behind the 40 bytes of a `BITMAPINFOHEADER`, as it is.

use std::io::{self, Write};
use std::sync::mpsc;

use bytes::Bytes;
use ffmpeg_next::{Dictionary, Stream, codec, encoder, format};

/// The bytes; none where there are none, or where FFmpeg does not know the picture's size.
pub(super) fn of(stream: &Stream<'_>) -> Bytes {
    avi_header(stream).ok().and_then(|header| behind_bitmap_header(&Bytes::from(header))).unwrap_or_default()
}

fn avi_header(stream: &Stream<'_>) -> Result<Vec<u8>, ffmpeg_next::Error> {
    let (sender, written) = mpsc::channel();
    let sink = format::context::StreamIo::from_write(Sink(sender))?;
    let mut file = format::output_to_stream(sink, None, Some("avi"))?;
    file.add_stream(encoder::find(codec::Id::None))?.set_parameters(stream.parameters());
    // Not strict: the container that it comes from may name the codec by another tag than AVI does.
    file.write_header_with(Dictionary::from_iter([("strict", "-1")]))?;
    drop(file);
    Ok(written.iter().flatten().collect())
}

/// Of the only `strf` chunk.
fn behind_bitmap_header(file: &Bytes) -> Option<Bytes> {
    let at = file.windows(4).position(|name| name == b"strf")?;
    let len = file.get(at + 4..at + 8)?.try_into().ok().map(u32::from_le_bytes)?;
    let len = usize::try_from(len).ok()?.checked_sub(BITMAP_HEADER_LEN)?;
    let at = at + 8 + BITMAP_HEADER_LEN;
    (at + len <= file.len()).then(|| file.slice(at..at + len))
}

const BITMAP_HEADER_LEN: usize = 40;

/// What FFmpeg writes into: it keeps the writer until the file is closed.
struct Sink(mpsc::Sender<Vec<u8>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! A connection of ICE-TCP (RFC 6544): frames of two bytes of length (RFC 4571) both ways, and a bounded queue.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lanecast_net::{Ring, Socket};

/// Largest frame that a viewer sends us: checks, handshakes, feedback.
const MAX_FRAME_BYTES: usize = 2048;
/// Room of one receive.
const RECEIVE_BYTES: usize = 4096;
/// Media that may wait: a keyframe of 4K and some. A connection that is slower loses access units.
const MAX_QUEUED_BYTES: usize = 4 << 20;

/// One connection.
#[derive(Debug)]
pub(crate) struct IceTcp {
    /// The viewer's slot.
    pub(crate) viewer: usize,
    pub(crate) epoch: u32,
    pub(crate) from: SocketAddr,
    /// What came and is no whole frame yet.
    pub(crate) received: BytesMut,
    socket: Socket,
    token: u64,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    writing: bool,
}

impl IceTcp {
    pub(crate) fn new(viewer: usize, epoch: u32, from: SocketAddr, socket: Socket, token: u64) -> Self {
        Self {
            viewer,
            epoch,
            from,
            received: BytesMut::new(),
            socket,
            token,
            queue: VecDeque::new(),
            queued_bytes: 0,
            writing: false,
        }
    }

    /// Receives on, behind what is there.
    pub(crate) fn receive(&mut self, ring: &mut Ring) {
        let mut buffer = std::mem::take(&mut self.received);
        buffer.reserve(RECEIVE_BYTES);
        ring.receive(self.token, &self.socket, buffer);
    }

    /// True if media of `bytes` may be queued. An access unit is begun only while a quarter of the queue is free, so that
    /// one that is begun is not cut.
    pub(crate) fn has_room(&self, bytes: usize, starts_access_unit: bool) -> bool {
        let kept_free = if starts_access_unit { MAX_QUEUED_BYTES / 4 } else { 0 };
        self.queued_bytes + bytes + kept_free <= MAX_QUEUED_BYTES
    }

    /// Queues packets of `segment_bytes` each (the last may be shorter) as one frame each; false if the queue is full.
    pub(crate) fn send(&mut self, ring: &mut Ring, packets: &[u8], segment_bytes: u16) -> bool {
        let segment = usize::from(segment_bytes.max(1));
        let bytes = packets.len() + 2 * packets.len().div_ceil(segment);
        if self.queued_bytes + bytes > MAX_QUEUED_BYTES {
            return false;
        }
        let mut frames = BytesMut::with_capacity(bytes);
        for packet in packets.chunks(segment) {
            frames.put_u16(packet.len() as u16);
            frames.put_slice(packet);
        }
        self.queued_bytes += frames.len();
        self.queue.push_back(frames.freeze());
        self.write_on(ring);
        true
    }

    /// A write ended.
    pub(crate) fn on_written(&mut self, ring: &mut Ring, written: usize) {
        self.writing = false;
        self.queued_bytes = self.queued_bytes.saturating_sub(written);
        self.write_on(ring);
    }

    /// Ends the connection now.
    pub(crate) fn shut(&self, ring: &mut Ring) {
        self.socket.shutdown();
        ring.cancel_all(&self.socket);
    }

    fn write_on(&mut self, ring: &mut Ring) {
        if !self.writing && !self.queue.is_empty() {
            ring.write(self.token, &self.socket, &mut self.queue);
            self.writing = true;
        }
    }
}

/// The next frame of `buffer`; `Ok(None)`: not all of it is there.
///
/// # Errors
/// When it is longer than any frame of a viewer.
pub(crate) fn next_frame(buffer: &mut BytesMut) -> Result<Option<BytesMut>, ()> {
    let Some(&[high, low]) = buffer.first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_FRAME_BYTES {
        return Err(());
    }
    if buffer.len() < 2 + length {
        return Ok(None);
    }
    buffer.advance(2);
    Ok(Some(buffer.split_to(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_wherever_the_bytes_were_split() {
        let wire = [0, 3, 1, 2, 3, 0, 0, 0, 1, 9];
        for split in 0..wire.len() {
            let mut buffer = BytesMut::from(&wire[..split]);
            let mut frames = vec![];
            for rest in [&wire[split..], &[]] {
                while let Some(frame) = next_frame(&mut buffer).unwrap() {
                    frames.push(frame.to_vec());
                }
                buffer.extend_from_slice(rest);
            }
            assert_eq!(frames, [vec![1, 2, 3], vec![], vec![9]], "split at {split}");
        }
    }

    #[test]
    fn a_frame_that_no_viewer_would_send_ends_the_connection() {
        assert!(next_frame(&mut BytesMut::from(&[0xff, 0xff, 1][..])).is_err());
    }
}

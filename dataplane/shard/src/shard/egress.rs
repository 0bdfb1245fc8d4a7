//! A run on its way to one viewer: sealed, or under the viewer's own numbers.

use std::time::Instant;

use lanecast_net::{DestinationId, Ring};
use lanecast_packet::{Run, Squeeze};
use lanecast_protocol::wsc::Transport;
use lanecast_relay::fanout::ViewerId;
use slab::Slab;

use super::webrtc::slot_of;
use crate::drive::ice_tcp::IceTcp;
use crate::drive::scratch::Scratch;
use crate::drive::viewer::{WebRtc, Wsc};
use crate::drive::websocket::{frame_run, framed_bytes};

/// A run under the timestamps of a viewer that gets it late; a copy only where they differ.
pub(super) fn restamped(run: &Run, squeeze: &Squeeze) -> Run {
    let mapped = squeeze.map(run.rtp_timestamp());
    if mapped == run.rtp_timestamp() { run.clone() } else { run.with_timestamp(mapped) }
}

/// Sends a run under the viewer's own numbers. False if it cannot take it; no number is used then, so that it sees no gap.
pub(super) fn send_stitched(
    now: Instant,
    wsc: &mut Wsc,
    viewer: ViewerId,
    run: &Run,
    squeeze: &Squeeze,
    ring: &mut Ring,
    scratch: &mut Scratch,
) -> bool {
    let takes = match wsc.transport {
        // Nobody listens yet: nothing is lost.
        Transport::None => return true,
        Transport::Udp(_) => ring.can_send(DestinationId(viewer.0)),
        Transport::WebSocket => wsc.websocket.has_room(framed_bytes(run), run.starts_access_unit()),
    };
    let Some(stitcher) = wsc.stitcher.as_mut().filter(|_| takes) else { return false };
    let Some(room) = scratch.room(run.bytes().len()) else { return false };
    let own = stitcher.stitch(now, run, squeeze, room);
    match wsc.transport {
        Transport::WebSocket => wsc.websocket.media(&frame_run(&own), run.starts_access_unit()),
        Transport::Udp(_) | Transport::None => {
            let mut refused = Vec::new();
            ring.send_run(own.bytes(), own.segment_bytes(), [DestinationId(viewer.0)], &mut refused);
            refused.is_empty()
        }
    }
}

/// Seals a run for one viewer and sends it its way; bytes sealed, or `None` if it cannot take it.
#[allow(clippy::too_many_arguments)]
pub(super) fn send_sealed(
    now: Instant,
    end: &mut WebRtc,
    viewer: ViewerId,
    run: &Run,
    squeeze: &Squeeze,
    ring: &mut Ring,
    scratch: &mut Scratch,
    connections: &mut Slab<IceTcp>,
) -> Option<usize> {
    let connection = end.media_connection();
    // What cannot leave must not be sealed: the viewer would see a gap where pictures were left out.
    let sealed_bytes = end.peer.sealed_bytes(run)?;
    let takes = match connection {
        None => ring.can_send(DestinationId(viewer.0)),
        Some(connection) => connections
            .get(slot_of(connection))
            .is_some_and(|connection| connection.has_room(sealed_bytes, run.starts_access_unit())),
    };
    if !takes {
        return None;
    }
    let room = scratch.room(sealed_bytes)?;
    let sealed = end.peer.seal_run(now, run, squeeze, room)?;
    let bytes = scratch.take();
    match connection {
        Some(connection) => {
            let connection = connections.get_mut(slot_of(connection))?;
            connection.send(ring, &bytes, sealed.segment_bytes).then_some(bytes.len())
        }
        None => {
            let length = bytes.len();
            let mut refused = Vec::new();
            ring.send_run(&bytes, sealed.segment_bytes, [DestinationId(viewer.0)], &mut refused);
            refused.is_empty().then_some(length)
        }
    }
}

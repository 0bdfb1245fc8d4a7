//! Interleaved frames come back whole, wherever the connection cut them.
#![no_main]

use bytes::{BufMut, BytesMut};
use lanecast_protocol::rtsp::{Frame, Frames};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u16, Vec<Vec<u8>>)| {
    let (channel, cut, payloads) = input;
    let mut sent = BytesMut::new();
    for payload in &payloads {
        sent.put_slice(&[b'$', channel]);
        sent.put_u16(payload.len() as u16);
        sent.put_slice(payload);
    }
    let (mut received, mut frames, mut rest) = (BytesMut::new(), Frames::default(), &sent[..]);
    let mut expected = payloads.iter();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(usize::from(cut) + 1));
        (received, rest) = ([&received[..], piece].concat()[..].into(), later);
        while let Some(frame) = frames.next_frame(&mut received).expect("nothing is wrong with it") {
            let Frame::Interleaved { channel: on, payload } = frame else { panic!("{frame:?}") };
            assert_eq!((on, Some(&payload[..])), (channel, expected.next().map(|sent| &sent[..])));
        }
    }
    assert_eq!(expected.next(), None);
});

//! A hostile file through the player: whatever is in it, packet numbers run on, timestamps never go back, memory is bounded, and the
//! player ends.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use lanecast_dvr::keyframes::{self, Keyframe};
use lanecast_dvr::player::{Extent, Located, Player, PlayerConfig, PlayerOutput, Wanted};
use lanecast_dvr::segment::SegmentId;
use lanecast_protocol::codec::Codec;

const START_UNIX_MS: i64 = 1_790_000_000_000;
/// What goes before the file: the codec, the speed, the wanted time, and what the viewer does in mid-play.
const PLAN_BYTES: usize = 8;
/// Timeouts and answers of one file.
const STEPS_MAX: usize = 4000;
/// Reads, one picture as large as the input may make it, its packets, and those that are kept.
const BUFFERED_MAX: usize = 4 << 20;

/// The first bytes are a plan, the rest is a file. An index of it is made by the look of its fragments.
pub fn play(data: &[u8]) {
    let Some((&plan, file)) = data.split_first_chunk::<PLAN_BYTES>() else { return };
    let codec = if plan[0] & 1 == 0 { Codec::H264 } else { Codec::H265 };
    let speed = [0.0, 0.25, 1.0, 2.0, 4.0, 8.0, 16.0, f64::NAN][usize::from(plan[1] & 7)];
    let wanted = START_UNIX_MS + i64::from(u16::from_be_bytes([plan[2], plan[3]])) * 10;
    let located = Located {
        segment: SegmentId(1),
        start_unix_ms: START_UNIX_MS,
        codec,
        extent: Extent::Closed {
            end_unix_ms: START_UNIX_MS + 60_000,
            bytes: file.len() as u64 + u64::from(plan[4] >> 7) * 1000,
            keyframes: index(file, i64::from(plan[5]) * 40),
        },
    };
    let now = Instant::now();
    let config = PlayerConfig { max_udp_payload: 1200, ssrc: 1, codec: None, history: true };
    let mut scene = Scene {
        file,
        located,
        player: Player::new(now, config, wanted, speed),
        now,
        next_packet: None,
        newest: None,
        waits: true,
        is_over: false,
    };
    scene.run(plan[6], plan[7]);
}

struct Scene<'a> {
    file: &'a [u8],
    located: Located,
    player: Player,
    now: Instant,
    next_packet: Option<u64>,
    newest: Option<u32>,
    /// For [`Player::play`].
    waits: bool,
    is_over: bool,
}

impl Scene<'_> {
    fn run(&mut self, act: u8, often: u8) {
        self.serve();
        for step in 0..STEPS_MAX {
            if self.is_over || self.waits {
                return;
            }
            if step % (usize::from(often) + 1) == usize::from(often) {
                match act % 5 {
                    0 => self.player.refresh(self.now),
                    1 => self.player.block(self.now, None),
                    2 => self.player.block(self.now, Some(self.now + Duration::from_secs(3))),
                    3 => self.player.set_speed(self.now, f64::from(step as u32 % 17)),
                    _ => self.player.set_pace(step as u64 * 10_000),
                }
                self.serve();
            }
            match self.player.poll_timeout() {
                Some(at) => self.now = self.now.max(at),
                None if self.is_over => return,
                None => {
                    assert!(self.player.speed() == 0.0, "stuck");
                    self.now += Duration::from_secs(1);
                    self.player.set_speed(self.now, 1.0);
                }
            }
            self.player.handle_timeout(self.now);
            self.serve();
        }
    }

    fn serve(&mut self) {
        while let Some(output) = self.player.poll_output() {
            assert!(!self.is_over, "{output:?} at the end");
            assert!(self.player.buffered_bytes() < BUFFERED_MAX, "{} bytes", self.player.buffered_bytes());
            match output {
                PlayerOutput::Locate(wanted) => {
                    let located = matches!(wanted, Wanted::At(_)).then(|| self.located.clone());
                    self.player.handle_located(self.now, Ok(located));
                }
                PlayerOutput::Read { segment, offset, bytes } => {
                    let start = self.file.len().min(offset as usize);
                    let end = self.file.len().min(start + bytes);
                    let read = BytesMut::from(&self.file[start..end]);
                    self.player.handle_read(self.now, segment, offset, Ok(read));
                }
                PlayerOutput::Ready { .. } => {
                    self.waits = false;
                    self.player.play(self.now, 65_530, u32::MAX - 1000);
                }
                PlayerOutput::Run(run) => {
                    assert!(self.next_packet.is_none_or(|next| run.first_packet() == next));
                    self.next_packet = Some(run.first_packet() + u64::from(run.packets()));
                    if !run.is_out_of_order() {
                        let ahead = |newest: u32| run.rtp_timestamp().wrapping_sub(newest) as i32 >= 0;
                        assert!(self.newest.is_none_or(ahead), "a timestamp goes back");
                        self.newest = Some(run.rtp_timestamp());
                    }
                }
                PlayerOutput::Live | PlayerOutput::Nothing | PlayerOutput::Unreadable(_) => {
                    self.is_over = true;
                }
                _ => {}
            }
        }
    }
}

/// A keyframe where a `prft` box is. What is written as such is read as the same.
fn index(file: &[u8], apart_ms: i64) -> Vec<Keyframe> {
    let boxes = file.windows(4).enumerate().filter(|(at, kind)| *at >= 4 && *kind == b"prft");
    let keyframes: Vec<_> = boxes
        .zip(1..)
        .map(|((at, _), number)| Keyframe {
            unix_ms: START_UNIX_MS + number * (apart_ms + 1),
            offset: at as u64 - 4,
        })
        .collect();
    let read = keyframes::decode(&keyframes::encode(&keyframes)).expect("an index");
    assert_eq!(read, keyframes);
    keyframes::decode(file);
    read
}

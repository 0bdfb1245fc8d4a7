//! An access unit as the recorder takes it: the NAL units of one picture.

use std::rc::Rc;
use std::time::Instant;

use lanecast_protocol::codec::{Nal, ParameterSets};

/// The NAL units of one picture, in decode order.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    /// When its first slice came.
    pub arrived: Instant,
    /// The camera's RTP timestamp, at the camera's clock rate.
    pub camera_timestamp: u32,
    /// Ours (90 kHz), on the stream's one timeline, which goes on over a reconnect by the real time that passed.
    pub timestamp_90k: u32,
    /// A decoder can start here.
    pub random_access: bool,
    /// The camera's network lost a part of it.
    pub damaged: bool,
    /// The first one of another input, or of the same after a break: its clock rate in Hz.
    pub new_clock_rate_hz: Option<u32>,
    /// Those that are in force from here on.
    pub parameter_sets: Rc<ParameterSets>,
    /// Slices and SEI; no parameter sets, delimiters or filler.
    pub nals: Vec<Nal>,
}

//! Sans-IO: one stream, recorded and played back.
//!
//! The recorded walk, in file order: [`wall_clock`] gives each access unit of [`lanecast_relay`] its time of day;
//! [`recorder`] makes fragments of them and says what to write where; [`segment`] is what is known of a file while it is
//! written; [`keyframes`] finds the place of a moment in it; [`player`] reads it back as runs for one viewer.
//!
//! Nothing here reads a clock or opens a file: time is an argument, bytes go in, and what should be done comes back as a
//! small enum. Which files there are is the catalogue's business, which the control plane has.

pub mod keyframes;
pub mod player;
pub mod recorder;
pub mod segment;
pub mod wall_clock;

//! What the scenarios share: programs that run beside each other, CPU time, the bare-kernel limit and the cost of sealing.

pub mod limit;
pub mod machine;
pub mod peer;
pub mod programs;
pub mod runs;
pub mod seal;
pub mod segments;
pub mod shape;

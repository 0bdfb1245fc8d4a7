//! What the scenarios share: programs that run beside each other, CPU time, and the bare-kernel limit.

pub mod limit;
pub mod machine;
pub mod programs;
pub mod shape;

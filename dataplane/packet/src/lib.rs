//! Packets, runs and bursts: who owns the bytes of the data plane, and for how long.

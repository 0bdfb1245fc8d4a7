//! What a process holds of the system, read from `/proc`. What may be held is for the tests to say.

use std::collections::BTreeMap;
use std::fs;

use super::Server;

/// Descriptors, threads and memory of a process, at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub descriptors: usize,
    /// Without the kernel's own for the rings (`iou-wrk`, `iou-sqp`), which come and go.
    pub threads: usize,
    /// VmRSS.
    pub resident_bytes: u64,
}

impl Usage {
    pub fn of(server: &Server) -> Self {
        let id = server.id();
        Self {
            descriptors: fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").count(),
            threads: threads(server).values().sum(),
            resident_bytes: server.resident_bytes(),
        }
    }
}

/// By name, how many there are.
pub fn threads(server: &Server) -> BTreeMap<String, usize> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", server.id())).expect("it runs") {
        // It may be over by now.
        let Ok(name) = fs::read_to_string(task.expect("a task").path().join("comm")) else { continue };
        if !name.starts_with("iou-") {
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
    }
    threads
}

//! Waiting with a deadline.

use std::time::{Duration, Instant};

/// How long a thing that must happen may take on a busy two-core machine before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `question` until it has an answer; fails, naming `what`, when none came in [`PATIENCE`].
/// Only for what cannot be awaited: state behind REST, a port another process binds.
pub fn until<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

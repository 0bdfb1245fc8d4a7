//! When a session's next sign of life is due, and by which method (RFC 2326 sections 10.8 and 12.37).
//!
//! Cameras offer methods that they refuse or never answer, and take those that they do not offer. So there are two,
//! the likelier first; where it is refused, or not answered for half the interval, the other follows.

use std::time::{Duration, Instant};

use super::dialogue::Method;

/// The keepalives of one session.
#[derive(Debug)]
pub(super) struct Keepalive {
    interval: Duration,
    methods: [Method; 2],
    /// The one that was asked last, or will be asked next: an index.
    current: usize,
    /// How many were asked since one was accepted, or since the last round of refusals.
    asked: usize,
    /// When the first of them was asked.
    round: Instant,
    /// When the last of them was asked.
    last: Instant,
    due: Instant,
}

impl Keepalive {
    /// For a session of this timeout that begins at `now`.
    pub(super) fn new(now: Instant, timeout: Duration, get_parameter_first: bool) -> Self {
        let methods = if get_parameter_first {
            [Method::GetParameter, Method::Options]
        } else {
            [Method::Options, Method::GetParameter]
        };
        let interval = interval(timeout);
        Self { interval, methods, current: 0, asked: 0, round: now, last: now, due: now + interval }
    }

    /// The camera tells another timeout at `now`.
    pub(super) fn set_timeout(&mut self, now: Instant, timeout: Duration) {
        self.interval = interval(timeout);
        self.due = self.due.min(now + self.interval);
    }

    /// When to poll.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The method to ask with now, if it is time.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Method> {
        if now < self.due {
            return None;
        }
        match self.asked {
            1 => self.current = 1 - self.current,
            _ => (self.asked, self.round) = (0, now),
        }
        self.asked += 1;
        self.last = now;
        self.due = self.round + if self.asked == 1 { self.interval / 2 } else { self.interval };
        self.methods.get(self.current).copied()
    }

    /// The answer to what was asked last came.
    pub(super) fn handle_answer(&mut self, now: Instant, accepted: bool) {
        match (accepted, self.asked) {
            (true, _) => (self.asked, self.due) = (0, self.last + self.interval),
            (false, 1) => self.due = now,
            (false, _) => {}
        }
    }
}

fn interval(timeout: Duration) -> Duration {
    (timeout / 2).max(INTERVAL_MIN)
}

/// Whatever timeout a camera tells, it is not asked more often.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(40);

    /// What is asked when, in seconds, by a camera that answers so: `None` is no answer.
    fn asked(
        get_parameter_first: bool,
        seconds: u64,
        answer: impl Fn(Method) -> Option<bool>,
    ) -> Vec<(u64, Method)> {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(start, TIMEOUT, get_parameter_first);
        let mut asked = Vec::new();
        while keepalive.due() <= start + Duration::from_secs(seconds) {
            let now = keepalive.due();
            let method = keepalive.poll(now).unwrap();
            asked.push(((now - start).as_secs(), method));
            if let Some(accepted) = answer(method) {
                keepalive.handle_answer(now, accepted);
            }
        }
        asked
    }

    #[test]
    fn asks_at_half_the_timeout_by_the_likelier_method() {
        use Method::{GetParameter, Options};
        assert_eq!(
            asked(true, 60, |_| Some(true)),
            [(20, GetParameter), (40, GetParameter), (60, GetParameter)]
        );
        assert_eq!(asked(false, 40, |_| Some(true)), [(20, Options), (40, Options)]);
    }

    #[test]
    fn a_refused_method_is_followed_by_the_other_at_once_and_from_then_on() {
        use Method::{GetParameter, Options};
        let likes_options = |method| Some(method == Options);
        assert_eq!(
            asked(true, 60, likes_options),
            [(20, GetParameter), (20, Options), (40, Options), (60, Options)]
        );
    }

    #[test]
    fn a_method_without_an_answer_is_followed_by_the_other_before_the_session_expires() {
        use Method::{GetParameter, Options};
        let answers_options = |method| (method == Options).then_some(true);
        assert_eq!(
            asked(true, 70, answers_options),
            [(20, GetParameter), (30, Options), (50, Options), (70, Options)]
        );
    }

    #[test]
    fn a_camera_that_refuses_both_hears_both_once_an_interval() {
        let rounds = asked(true, 60, |_| Some(false));
        assert_eq!(rounds.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [20, 20, 40, 40, 60, 60]);
        let rounds = asked(true, 60, |_| None);
        assert_eq!(rounds.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [20, 30, 40, 50, 60]);
    }

    #[test]
    fn a_timeout_that_is_told_later_counts_from_then_and_none_is_below_a_second() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(start, TIMEOUT, true);
        keepalive.set_timeout(start, Duration::from_millis(10));
        assert_eq!(keepalive.due(), start + INTERVAL_MIN);
    }
}

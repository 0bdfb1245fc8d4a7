//! How much was lost, a quarter of a second and some dozens of packets at a time.

/// Packets that feedback reported since the last window.
#[derive(Debug)]
pub(super) struct LossWindow {
    since_us: Option<u64>,
    expected: u32,
    lost: u32,
    /// The least in the window; `None`: nothing came.
    queueing_us: Option<u64>,
}

/// What a time of feedback says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// When it began.
    pub since_us: u64,
    /// When it ended.
    pub until_us: u64,
    /// Share of packets lost, 0–1.
    pub loss: f64,
    /// Packets lost, where that is known.
    pub lost: u32,
    /// The least time that a packet waited.
    pub queueing_us: u64,
}

impl LossWindow {
    pub fn new() -> Self {
        Self { since_us: None, expected: 0, lost: 0, queueing_us: None }
    }

    /// A packet did not come.
    pub fn handle_lost(&mut self) {
        self.expected = self.expected.saturating_add(1);
        self.lost = self.lost.saturating_add(1);
    }

    /// A packet came, after it had waited so long.
    pub fn handle_arrival(&mut self, queueing_us: u64) {
        self.expected = self.expected.saturating_add(1);
        self.queueing_us = Some(self.queueing_us.map_or(queueing_us, |least| least.min(queueing_us)));
    }

    /// The window, when there is enough in it; then another begins.
    pub fn poll(&mut self, now_us: u64) -> Option<Window> {
        if self.expected == 0 {
            return None;
        }
        // Its first feedback tells of the time before it.
        let since_us = *self.since_us.get_or_insert(now_us.saturating_sub(FEEDBACK_US));
        let elapsed_us = now_us - since_us;
        let enough = self.expected >= PACKETS_MIN || elapsed_us >= WINDOW_US_MAX;
        if elapsed_us < WINDOW_US || !enough {
            return None;
        }
        let loss = f64::from(self.lost) / f64::from(self.expected);
        let queueing_us = self.queueing_us.unwrap_or(0);
        let window = Window { since_us, until_us: now_us, loss, lost: self.lost, queueing_us };
        *self = Self { since_us: Some(now_us), ..Self::new() };
        Some(window)
    }
}

const WINDOW_US: u64 = 250_000;
/// Of 40 packets with 5 % of random loss, more than a fifth is lost once in four thousand times, and twice in a row never.
const PACKETS_MIN: u32 = 40;
/// A stream of so few packets is judged by what there is.
const WINDOW_US_MAX: u64 = 1_000_000;
/// Between two feedback packets, about.
const FEEDBACK_US: u64 = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_quarter_of_a_second_and_enough_packets() {
        let mut window = LossWindow::new();
        let mut windows = vec![];
        for feedback in 1..=20u64 {
            (0..9).for_each(|_| window.handle_arrival(feedback));
            window.handle_lost();
            windows.extend(window.poll(feedback * 50_000));
        }
        let expected = [0u64, 250_000, 500_000, 750_000].map(|since_us| Window {
            since_us,
            until_us: since_us + 250_000,
            loss: 0.1,
            lost: 5,
            queueing_us: since_us / 50_000 + 1,
        });
        assert_eq!(windows, expected);
    }

    #[test]
    fn a_few_packets_are_judged_after_a_second() {
        let mut window = LossWindow::new();
        window.handle_lost();
        assert_eq!(window.poll(1_000_000), None);
        assert_eq!(window.poll(1_900_000), None);
        assert_eq!(window.poll(1_950_000).map(|window| (window.loss, window.queueing_us)), Some((1.0, 0)));
        assert_eq!(window.poll(9_000_000), None);
    }
}

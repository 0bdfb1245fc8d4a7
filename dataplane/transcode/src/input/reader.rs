//! What an input's thread does: open, tell what it is, and give picture after picture at the pace of the receiver and, where
//! nobody else does, of real time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::demuxer::{Demuxer, End, Picture};
use super::origin::Origin;
use super::pacer::Pacer;
use super::timeline::Timeline;
use super::watch::Watch;
use super::{InputConfig, InputEvent, InputUnit, Unready};

/// Reads the input to its end, then says why it ended, unless it was stopped.
pub(super) fn read(
    config: &InputConfig,
    watch: &Arc<Watch>,
    mut deliver: impl FnMut(InputEvent) -> Result<(), Unready>,
) {
    let mut receiver = Receiver { watch, deliver: &mut deliver, skips: false, bytes_skipped: 0 };
    let ended =
        catch_unwind(AssertUnwindSafe(|| read_to_end(config, watch, &mut receiver))).unwrap_or_else(|_| {
            End::Fault("a fault of this server ended the input; its log says more".to_owned())
        });
    if let End::Fault(sentence) = ended {
        // A receiver that panics has heard enough.
        let _ = catch_unwind(AssertUnwindSafe(|| receiver.offer(InputEvent::Ended(sentence), None)));
    }
}

fn read_to_end(config: &InputConfig, watch: &Arc<Watch>, receiver: &mut Receiver<'_>) -> End {
    let origin = match Origin::new(&config.url) {
        Ok(origin) => origin,
        Err(sentence) => return End::Fault(sentence),
    };
    let mut reader = Reader {
        config,
        watch,
        pacer: origin.lead.map(Pacer::new),
        timeline: Timeline::default(),
        pictures: 0,
    };
    match reader.read(&origin, receiver) {
        Err(End::Late) if reader.pictures == 0 => {
            End::Fault(format!("{} gave no picture within {:?}", origin.what, config.open_timeout))
        }
        Err(End::Late) => End::Fault(format!("{} was silent for {:?}", origin.what, config.silence_timeout)),
        Ok(()) | Err(End::Over) => End::Fault(format!("{} is over", origin.what)),
        Err(end) => end,
    }
}

struct Reader<'a> {
    config: &'a InputConfig,
    watch: &'a Arc<Watch>,
    pacer: Option<Pacer>,
    timeline: Timeline,
    /// Delivered or skipped.
    pictures: u64,
}

impl Reader<'_> {
    /// Once, or a file again and again.
    fn read(&mut self, origin: &Origin, receiver: &mut Receiver<'_>) -> Result<(), End> {
        let mut demuxer = Demuxer::open(origin, self.watch)?;
        let configuration = demuxer.configuration().clone();
        let parameter_sets = Box::new(configuration.parameter_sets.clone());
        receiver.offer(InputEvent::Playing { codec: demuxer.codec(), parameter_sets }, None)?;
        loop {
            let random_access = self.read_pass(&mut demuxer, receiver)?;
            if !origin.loops {
                return Ok(());
            }
            if !random_access {
                return Err(End::Fault(format!(
                    "{} has no picture that a decoder can start at",
                    origin.what
                )));
            }
            self.watch.allow(self.config.open_timeout);
            demuxer = Demuxer::open(origin, self.watch)?;
            if *demuxer.configuration() != configuration {
                return Err(End::Fault(format!("{} was replaced by another", origin.what)));
            }
        }
    }

    /// To the container's end; true if a decoder can start somewhere.
    fn read_pass(&mut self, demuxer: &mut Demuxer, receiver: &mut Receiver<'_>) -> Result<bool, End> {
        self.timeline.begin_anew();
        let mut random_access = false;
        loop {
            match demuxer.next() {
                Ok(picture) => {
                    random_access |= picture.random_access;
                    self.handle_picture(picture, receiver)?;
                }
                Err(End::Over) => return Ok(random_access),
                Err(end) => return Err(end),
            }
        }
    }

    fn handle_picture(&mut self, picture: Picture, receiver: &mut Receiver<'_>) -> Result<(), End> {
        let times = self.timeline.place(picture.dts_90k, picture.pts_90k, picture.duration_90k);
        if let Some(pacer) = &mut self.pacer
            && !self.watch.sleep_until(pacer.due(times.dts_90k, Instant::now()))
        {
            return Err(End::Stopped);
        }
        let timestamp_90k = wrapped(times.pts_90k);
        let unit = InputUnit { timestamp_90k, nals: picture.nals, bytes: picture.bytes };
        receiver.offer_unit(unit, picture.random_access)?;
        self.pictures += 1;
        self.watch.allow(self.config.silence_timeout);
        Ok(())
    }
}

/// To 32 bits, as RTP has it.
fn wrapped(ticks: i64) -> u32 {
    u32::try_from(ticks.rem_euclid(1 << 32)).unwrap_or(0)
}

/// Who takes the events, and what became of those that it had no room for.
struct Receiver<'a> {
    watch: &'a Watch,
    deliver: &'a mut dyn FnMut(InputEvent) -> Result<(), Unready>,
    /// It had no room for long: up to the next random access point nothing is offered.
    skips: bool,
    /// Read, but of pictures that were left out.
    bytes_skipped: u64,
}

impl Receiver<'_> {
    /// Gives a picture, or leaves it out: rather whole groups of pictures than a growing delay.
    fn offer_unit(&mut self, mut unit: InputUnit, random_access: bool) -> Result<(), End> {
        unit.bytes += std::mem::take(&mut self.bytes_skipped);
        if self.skips && !random_access {
            self.bytes_skipped = unit.bytes;
            return Ok(());
        }
        let patience = if self.skips { Duration::ZERO } else { PATIENCE };
        let refused = self.offer(InputEvent::Unit(unit), Some(patience))?;
        self.skips = refused.is_some();
        if let Some(InputEvent::Unit(unit)) = refused {
            self.bytes_skipped = unit.bytes;
        }
        Ok(())
    }

    /// Offers it until it is taken, the patience is over (then it comes back) or the input is stopped.
    fn offer(
        &mut self,
        mut event: InputEvent,
        patience: Option<Duration>,
    ) -> Result<Option<InputEvent>, End> {
        let since = Instant::now();
        loop {
            if self.watch.is_stopped() {
                return Err(End::Stopped);
            }
            let Err(Unready(refused)) = (self.deliver)(event) else { return Ok(None) };
            if patience.is_some_and(|patience| since.elapsed() >= patience) {
                return Ok(Some(refused));
            }
            event = refused;
            self.watch.sleep_until(Instant::now() + OFFER_AGAIN);
        }
    }
}

/// Before an event is offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(5);

/// How long a picture is offered; a receiver that has no room for longer is missing pictures anyway.
const PATIENCE: Duration = Duration::from_secs(2);

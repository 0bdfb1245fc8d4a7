use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use lanecast_protocol::codec::{Codec, ParameterSets};

use super::*;
use crate::slate::SlateCaption;

type Made = Result<Arc<SlateClip>, SlateError>;

fn plain(width: u32) -> SlateRequest {
    SlateRequest { codec: Codec::H264, width, height: 64, caption: None }
}

fn captioned(stream: &str) -> SlateRequest {
    SlateRequest { caption: Some(SlateCaption { stream: stream.to_owned(), since_unix_ms: 0 }), ..plain(64) }
}

fn clip() -> SlateClip {
    let codec = Codec::H264;
    SlateClip {
        codec,
        parameter_sets: ParameterSets::new(codec),
        units: Vec::new(),
        interval: Duration::from_millis(200),
    }
}

/// A worker whose slates are finished by the test, one by one.
struct Bench {
    worker: Worker,
    begun: Receiver<SlateRequest>,
    finish: Sender<Result<SlateClip, SlateError>>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let (begun_tx, begun) = unbounded();
        let (finish, finish_rx) = unbounded();
        let worker = Worker::start(limits, move |request| {
            begun_tx.send(request.clone()).expect("the test listens");
            finish_rx.recv().unwrap_or(Err(SlateError::NotBuilt))
        });
        Self { worker, begun, finish }
    }

    fn ask(&self, request: SlateRequest) -> Result<Receiver<Made>, SlateError> {
        let (reply_tx, reply) = bounded(1);
        // A test may have seen enough.
        let at_hand = reply_tx.clone();
        let send = move |made| drop(reply_tx.send(made));
        if let Some(clip) = self.worker.request(request, Box::new(send))? {
            at_hand.send(Ok(clip)).expect("there is room");
        }
        Ok(reply)
    }
}

#[test]
fn who_asks_for_the_same_gets_the_same() {
    let bench = Bench::new(Limits::default());
    let first = bench.ask(plain(64)).expect("accepted");
    assert_eq!(bench.begun.recv(), Ok(plain(64)));
    let second = bench.ask(plain(64)).expect("accepted while it is being made");
    bench.finish.send(Ok(clip())).expect("it waits");
    let first = first.recv().expect("called").expect("made");
    let second = second.recv().expect("called").expect("made");
    let third = bench.ask(plain(64)).expect("accepted").try_recv().expect("called at once").expect("at hand");
    assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &third));
    assert!(bench.begun.is_empty(), "made once");
}

#[test]
fn a_full_queue_is_busy_and_calls_nobody() {
    let limits = Limits { captioned_queue_max: 2, plain_queue_max: 1, replies_max: 2, ..Limits::default() };
    let bench = Bench::new(limits);
    let _made = bench.ask(captioned("a")).expect("begun");
    bench.begun.recv().expect("the queue is empty again");
    let _waiting = [bench.ask(captioned("b")).expect("first"), bench.ask(captioned("c")).expect("second")];
    assert_eq!(bench.ask(captioned("d")).err(), Some(SlateError::Busy));
    let _plain = bench.ask(plain(64)).expect("captions take no room from plain slates");
    assert_eq!(bench.ask(plain(66)).err(), Some(SlateError::Busy));
    let _also = bench.ask(captioned("c")).expect("the same again needs no room");
    assert_eq!(bench.ask(captioned("c")).err(), Some(SlateError::Busy), "but ends somewhere");
}

#[test]
fn plain_slates_are_made_first() {
    let bench = Bench::new(Limits::default());
    let mut replies = Vec::new();
    for request in [captioned("a"), captioned("b"), captioned("c"), plain(64)] {
        replies.push(bench.ask(request.clone()).expect("accepted"));
        if replies.len() == 1 {
            assert_eq!(bench.begun.recv(), Ok(request));
        }
    }
    for _ in 0..4 {
        bench.finish.send(Ok(clip())).expect("it waits");
    }
    let order: Vec<SlateRequest> = bench.begun.iter().take(3).collect();
    assert_eq!(order, [plain(64), captioned("b"), captioned("c")]);
    assert!(replies.iter().all(|reply| reply.recv().expect("called").is_ok()));
}

#[test]
fn a_failure_is_told_to_all_and_not_kept() {
    let bench = Bench::new(Limits::default());
    let first = bench.ask(plain(64)).expect("accepted");
    bench.begun.recv().expect("begun");
    let second = bench.ask(plain(64)).expect("accepted");
    let failure = SlateError::Failed("no disk".to_owned());
    bench.finish.send(Err(failure.clone())).expect("it waits");
    assert_eq!(first.recv(), Ok(Err(failure.clone())));
    assert_eq!(second.recv(), Ok(Err(failure)));
    let again = bench.ask(plain(64)).expect("accepted");
    bench.finish.send(Ok(clip())).expect("it waits");
    assert!(again.recv().expect("called").is_ok());
}

#[test]
fn what_hangs_is_given_up_and_after_a_few_nothing_is_tried() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (release, released) = bounded::<()>(0);
    let worker =
        Worker::start(Limits { timeout: Duration::from_millis(1), stuck_max: 2, ..Limits::default() }, {
            let calls = calls.clone();
            move |_| {
                calls.fetch_add(1, Ordering::SeqCst);
                // Until the test lets go.
                let _ = released.recv();
                Err(SlateError::NotBuilt)
            }
        });
    let ask = |width| {
        let (reply_tx, reply) = bounded(1);
        worker
            .request(plain(width), Box::new(move |made| reply_tx.send(made).expect("heard")))
            .expect("accepted");
        reply.recv().expect("called").expect_err("it hangs").to_string()
    };
    assert!(ask(64).contains("given up"));
    assert!(ask(66).contains("given up"));
    assert!(ask(68).contains("2 earlier attempts hang"));
    assert!(calls.load(Ordering::SeqCst) <= 2);
    drop(release);
}

#[test]
fn a_panic_is_a_failure_and_the_next_is_made() {
    let worker = Worker::start(Limits::default(), |request| match request.width {
        64 => panic!("a bug"),
        _ => Ok(clip()),
    });
    let ask = |width| {
        let (reply_tx, reply) = bounded(1);
        worker
            .request(plain(width), Box::new(move |made| reply_tx.send(made).expect("heard")))
            .expect("accepted");
        reply.recv().expect("called")
    };
    assert!(matches!(ask(64), Err(SlateError::Failed(_))));
    assert!(ask(66).is_ok());
}

#[test]
fn a_reply_that_panics_takes_no_slate_from_others() {
    let worker = Worker::start(Limits::default(), |_| Ok(clip()));
    worker.request(plain(64), Box::new(|_| panic!("a bug"))).expect("accepted");
    let (reply_tx, reply) = bounded(1);
    worker.request(plain(66), Box::new(move |made| drop(reply_tx.send(made)))).expect("accepted");
    assert!(reply.recv().expect("called").is_ok());
}

#[test]
fn the_thread_ends_with_the_worker() {
    let bench = Bench::new(Limits::default());
    let begun = bench.ask(plain(64)).expect("accepted");
    bench.begun.recv().expect("begun");
    let waiting = bench.ask(plain(66)).expect("accepted");
    drop(bench.worker);
    bench.finish.send(Ok(clip())).expect("it waits");
    assert!(begun.recv().expect("what was begun is answered").is_ok());
    assert!(waiting.recv().is_err(), "what was not is forgotten");
    assert!(bench.begun.recv().is_err(), "nothing can make a slate any more");
}

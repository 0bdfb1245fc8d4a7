use crossbeam_channel::{Receiver, bounded};

use super::*;

fn ask(worker: &SlateWorker, width: u32, height: u32) -> Receiver<Result<Arc<SlateClip>, SlateError>> {
    let (reply_tx, reply) = bounded(1);
    let request = SlateRequest { codec: Codec::H264, width, height, caption: None };
    let at_hand = reply_tx.clone();
    let send = move |made| reply_tx.send(made).expect("the test listens");
    if let Some(clip) = worker.request(request, send).expect("accepted") {
        at_hand.send(Ok(clip)).expect("there is room");
    }
    reply
}

#[test]
fn a_slate_is_made_once_and_then_at_hand() {
    let worker = SlateWorker::start();
    let clip = ask(&worker, 320, 180).recv().expect("called").expect("made");
    let again = ask(&worker.clone(), 320, 180).try_recv().expect("called at once").expect("at hand");
    assert!(Arc::ptr_eq(&clip, &again));
}

#[test]
fn odd_sides_become_the_next_even_ones() {
    let worker = SlateWorker::start();
    let clip = ask(&worker, 321, 179).recv().expect("called").expect("made");
    let shape = clip.parameter_sets.shape().expect("an SPS");
    assert_eq!((shape.width, shape.height), (322, 180));
    let even = ask(&worker, 322, 180).try_recv().expect("called at once").expect("at hand");
    assert!(Arc::ptr_eq(&clip, &even), "one clip for both");
}

#[test]
fn impossible_sizes_are_refused_at_once() {
    let worker = SlateWorker::start();
    for (width, height) in [(0, 0), (15, 64), (64, 8193), (8192, 8192), (u32::MAX, u32::MAX)] {
        let request = SlateRequest { codec: Codec::H265, width, height, caption: None };
        let refused = worker.request(request, |_| panic!("nobody is called"));
        assert!(matches!(refused, Err(SlateError::Failed(_))), "{width}x{height}");
    }
}

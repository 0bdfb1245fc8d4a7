//! Slates that were made, by request: two shelves, so that words of single outages never push out a plain slate.

use std::collections::HashMap;
use std::sync::Arc;

use super::{SlateClip, SlateRequest};

/// The slates at hand.
#[derive(Debug)]
pub(super) struct Cache {
    plain: Shelf,
    captioned: Shelf,
}

impl Cache {
    /// Empty, with room for so many of either kind.
    pub(super) fn new(plain_max: usize, captioned_max: usize) -> Self {
        Self { plain: Shelf::new(plain_max), captioned: Shelf::new(captioned_max) }
    }

    /// The slate of a request, if it is at hand.
    pub(super) fn find(&mut self, request: &SlateRequest) -> Option<Arc<SlateClip>> {
        self.shelf(request).find(request)
    }

    /// Keeps a slate; the one of its kind that was not asked for the longest makes room.
    pub(super) fn insert(&mut self, request: SlateRequest, clip: Arc<SlateClip>) {
        self.shelf(&request).insert(request, clip);
    }

    fn shelf(&mut self, request: &SlateRequest) -> &mut Shelf {
        if request.caption.is_none() { &mut self.plain } else { &mut self.captioned }
    }
}

#[derive(Debug)]
struct Shelf {
    max: usize,
    /// Counts uses, to tell which slate was used last.
    uses: u64,
    clips: HashMap<SlateRequest, (u64, Arc<SlateClip>)>,
}

impl Shelf {
    fn new(max: usize) -> Self {
        Self { max, uses: 0, clips: HashMap::new() }
    }

    fn find(&mut self, request: &SlateRequest) -> Option<Arc<SlateClip>> {
        self.uses += 1;
        let (used, clip) = self.clips.get_mut(request)?;
        *used = self.uses;
        Some(clip.clone())
    }

    fn insert(&mut self, request: SlateRequest, clip: Arc<SlateClip>) {
        self.uses += 1;
        self.clips.insert(request, (self.uses, clip));
        if self.clips.len() > self.max {
            let oldest =
                self.clips.iter().min_by_key(|(_, (used, _))| *used).map(|(request, _)| request.clone());
            oldest.map(|request| self.clips.remove(&request));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lanecast_protocol::codec::{Codec, ParameterSets};

    use super::*;
    use crate::slate::SlateCaption;

    fn plain(width: u32) -> SlateRequest {
        SlateRequest { codec: Codec::H264, width, height: 64, caption: None }
    }

    fn captioned(since_unix_ms: i64) -> SlateRequest {
        SlateRequest { caption: Some(SlateCaption { stream: "a".to_owned(), since_unix_ms }), ..plain(64) }
    }

    fn clip() -> Arc<SlateClip> {
        let codec = Codec::H264;
        let parameter_sets = ParameterSets::new(codec);
        Arc::new(SlateClip { codec, parameter_sets, units: Vec::new(), interval: Duration::from_millis(200) })
    }

    #[test]
    fn gives_the_very_clip_that_was_kept() {
        let mut cache = Cache::new(1, 1);
        let kept = clip();
        cache.insert(plain(64), kept.clone());
        assert!(Arc::ptr_eq(&kept, &cache.find(&plain(64)).expect("kept")));
        assert_eq!(cache.find(&plain(66)), None);
    }

    #[test]
    fn the_one_not_asked_for_the_longest_makes_room() {
        let mut cache = Cache::new(2, 0);
        cache.insert(plain(2), clip());
        cache.insert(plain(4), clip());
        cache.find(&plain(2));
        cache.insert(plain(6), clip());
        assert!(cache.find(&plain(2)).is_some());
        assert!(cache.find(&plain(4)).is_none());
        assert!(cache.find(&plain(6)).is_some());
    }

    #[test]
    fn captions_never_push_out_a_plain_slate() {
        let mut cache = Cache::new(1, 3);
        cache.insert(plain(64), clip());
        for since in 0..100 {
            cache.insert(captioned(since), clip());
        }
        assert!(cache.find(&plain(64)).is_some());
        assert_eq!(cache.captioned.clips.len(), 3);
    }
}

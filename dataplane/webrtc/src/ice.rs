//! The ICE-lite side of a viewer (RFC 8445 sections 2.5, 7.3 and 8.2; consent: RFC 7675).
//!
//! It only answers. The viewer is always controlling; its media goes where it nominated. A browser nominates one pair
//! at a time; others (libnice, aiortc) nominate every pair that answers, and then the pair of the highest priority
//! counts, as long as it is alive. How STUN looks is [`crate::stun`]'s.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::stun::BindingRequest;

/// A viewer without an authenticated check for this long is gone (RFC 7675 section 5.1).
pub const CONSENT: Duration = Duration::from_secs(30);
/// A path without checks for this long gives way to any other that the viewer nominated: agents check the path in use
/// every 2.5 s or so (RFC 7675 section 5.1 asks for 5 s).
pub const SILENCE: Duration = Duration::from_secs(5);
/// Nominated paths that are remembered; further ones take the place of the one that was silent for longest.
const PATHS_MAX: usize = 4;

/// A username fragment and its password (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4–256 characters.
    pub ufrag: String,
    /// 22–256 characters.
    pub password: String,
}

impl std::fmt::Debug for IceCredentials {
    /// The password stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// Where a viewer's packets come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Datagrams of the shard's socket.
    Udp(SocketAddr),
    /// A connection of ICE-TCP, by the driver's number.
    Tcp {
        /// The driver's number of the connection.
        connection: u64,
        /// Its remote address.
        from: SocketAddr,
    },
}

impl Path {
    /// The remote address.
    pub fn remote(&self) -> SocketAddr {
        match *self {
            Self::Udp(from) | Self::Tcp { from, .. } => from,
        }
    }
}

/// A viewer's ICE.
#[derive(Debug)]
pub struct IceLite {
    /// Under these the media path was nominated, or will be first.
    current: Session,
    /// A restart: these take over with their first nomination.
    next: Option<Session>,
    /// Of the last authenticated check, under whichever credentials and on whichever path.
    checked_at: Option<Instant>,
}

/// What a check came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// The answer; goes back the way the check came.
    pub response: Bytes,
    /// Media goes here from now on, if that is new.
    pub moved: Option<Path>,
}

/// Why a check was refused: counted; answered only where [`CheckError::response`] says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The username is not of this session.
    #[error("unknown username")]
    Username,
    /// MESSAGE-INTEGRITY is missing or wrong.
    #[error("wrong password")]
    Integrity,
    /// The peer wants to be controlled: 487 (RFC 8445 section 7.3.1.1).
    #[error("role conflict")]
    RoleConflict(Bytes),
    /// It asks for what we do not know: 420 (RFC 8489 section 6.3.1).
    #[error("unknown attribute")]
    UnknownAttribute(Bytes),
}

impl CheckError {
    /// The answer, where there is one. Who shows no password gets none.
    pub fn response(&self) -> Option<&Bytes> {
        match self {
            Self::Username | Self::Integrity => None,
            Self::RoleConflict(response) | Self::UnknownAttribute(response) => Some(response),
        }
    }
}

impl IceLite {
    /// Waits for checks. The remote password is kept only for checks of our own (none: lite).
    pub fn new(_now: Instant, local: IceCredentials, remote: IceCredentials) -> Self {
        Self { current: Session::new(local, remote), next: None, checked_at: None }
    }

    /// Other credentials (ICE restart, RFC 8445 section 9): the old path stays until a check under the new ones
    /// nominates another, or the same again.
    pub fn restart(&mut self, _now: Instant, local: IceCredentials, remote: IceCredentials) {
        let session = Session::new(local, remote);
        match self.current.path {
            Some(_) => self.next = Some(session),
            None => self.current = session,
        }
    }

    /// Credentials that checks must use.
    pub fn local(&self) -> &IceCredentials {
        &self.next.as_ref().unwrap_or(&self.current).local
    }

    /// A check came from `from`.
    ///
    /// # Errors
    /// When it is not authentic.
    pub fn handle_request(
        &mut self,
        now: Instant,
        from: Path,
        request: &BindingRequest<'_>,
    ) -> Result<Checked, CheckError> {
        let before = self.current.path;
        let is_next = self.next.as_ref().is_some_and(|session| session.is_named(request.username));
        let session = if is_next { self.next.as_mut() } else { Some(&mut self.current) };
        let session =
            session.filter(|session| session.is_named(request.username)).ok_or(CheckError::Username)?;
        let password = &session.local.password;
        if !request.is_authentic(password) {
            return Err(CheckError::Integrity);
        }
        if let Some(kind) = request.unknown {
            return Err(CheckError::UnknownAttribute(request.unknown_attribute(kind, password)));
        }
        // The peer becomes controlling by this answer: a lite agent never is (RFC 8445 section 6.1.1).
        if request.controlled {
            return Err(CheckError::RoleConflict(request.error(487, "Role Conflict", password)));
        }
        let response = request.success(from.remote(), password);
        session.handle_check(now, from, request);
        // Consent is for the path in use (RFC 7675 section 5.1), but a peer that nominated several may think that
        // another of them is: what it checks there says as well that it is alive and wants the media.
        self.checked_at = Some(now);
        if let Some(next) = self.next.take_if(|next| next.path.is_some()) {
            self.current = next;
        }
        Ok(Checked { response, moved: self.current.path.filter(|path| before != Some(*path)) })
    }

    /// Where media goes.
    pub fn path(&self) -> Option<Path> {
        self.current.path
    }

    /// When consent ends unless a check comes before. Only once a check came; before that the caller's limit counts.
    pub fn consent_until(&self) -> Option<Instant> {
        self.checked_at.map(|at| at + CONSENT)
    }
}

/// What holds from one restart to the next.
#[derive(Debug)]
struct Session {
    local: IceCredentials,
    remote_ufrag: String,
    nominated: SmallVec<[Nominated; 1]>,
    /// One of `nominated`.
    path: Option<Path>,
}

/// A path that the viewer nominated at some time.
#[derive(Clone, Copy, Debug)]
struct Nominated {
    path: Path,
    /// PRIORITY of the nominating check.
    priority: u32,
    nominated_at: Instant,
    checked_at: Instant,
}

impl Session {
    fn new(local: IceCredentials, remote: IceCredentials) -> Self {
        Self { local, remote_ufrag: remote.ufrag, nominated: SmallVec::new(), path: None }
    }

    fn is_named(&self, username: &str) -> bool {
        username
            .strip_prefix(self.local.ufrag.as_str())
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|remote| remote == self.remote_ufrag)
    }

    fn handle_check(&mut self, now: Instant, from: Path, request: &BindingRequest<'_>) {
        if request.use_candidate {
            self.remember(Nominated {
                path: from,
                priority: request.priority,
                nominated_at: now,
                checked_at: now,
            });
        }
        let Some(checked) = self.nominated.iter_mut().find(|nominated| nominated.path == from) else {
            return;
        };
        checked.checked_at = now;
        let (checked, in_use) = (*checked, self.nominated.iter().find(|other| self.path == Some(other.path)));
        if in_use.is_none_or(|in_use| in_use.gives_way_to(&checked, now, request.use_candidate)) {
            self.path = Some(from);
        }
    }

    fn remember(&mut self, nominated: Nominated) {
        if let Some(known) = self.nominated.iter_mut().find(|known| known.path == nominated.path) {
            *known = nominated;
            return;
        }
        if self.nominated.len() == PATHS_MAX {
            let others = self.nominated.iter().enumerate().filter(|(_, known)| self.path != Some(known.path));
            let silent = others.min_by_key(|(_, known)| known.checked_at).map(|(index, _)| index);
            if let Some(index) = silent {
                self.nominated.swap_remove(index);
            }
        }
        self.nominated.push(nominated);
    }
}

impl Nominated {
    /// True if media must leave this path for another that was checked now.
    fn gives_way_to(&self, other: &Self, now: Instant, nominating: bool) -> bool {
        let is_silent = now.saturating_duration_since(self.checked_at) >= SILENCE;
        // Browsers go on checking a path that they left, now and then, but nominate it no more.
        let is_left = now.saturating_duration_since(self.nominated_at) >= SILENCE;
        is_silent || nominating && (is_left || other.priority > self.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::check::Check;

    /// A session whose peer is `them`, and virtual time.
    struct Scene {
        ice: IceLite,
        now: Instant,
    }

    fn credentials(ufrag: &str) -> IceCredentials {
        IceCredentials { ufrag: ufrag.to_owned(), password: format!("a password of twenty-two for {ufrag}") }
    }

    fn path(port: u16) -> Path {
        Path::Udp(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            Self { ice: IceLite::new(now, credentials("ours"), credentials("them")), now }
        }

        fn later(&mut self, seconds: u64) -> &mut Self {
            self.now += Duration::from_secs(seconds);
            self
        }

        fn handle(&mut self, from: Path, check: Check<'_>) -> Result<Checked, CheckError> {
            let bytes = check.write();
            self.ice.handle_request(self.now, from, &BindingRequest::parse(&bytes).unwrap())
        }

        /// Where media moved to.
        fn check(&mut self, port: u16, priority: u32, use_candidate: bool) -> Option<Path> {
            let password = credentials("ours").password;
            let check = Check { use_candidate, ..Check::new("ours:them", &password, priority) };
            self.handle(path(port), check).unwrap().moved
        }

        fn check_under(
            &mut self,
            ours: &str,
            theirs: &str,
            port: u16,
            use_candidate: bool,
        ) -> Result<Checked, CheckError> {
            let (username, password) = (format!("{ours}:{theirs}"), credentials(ours).password);
            self.handle(path(port), Check { use_candidate, ..Check::new(&username, &password, 1) })
        }
    }

    #[test]
    fn media_waits_for_a_nomination() {
        let mut scene = Scene::new();
        assert_eq!((scene.ice.path(), scene.ice.consent_until()), (None, None));
        assert_eq!(scene.check(1, 9, false), None);
        assert_eq!(scene.ice.path(), None);
        assert_eq!(scene.check(1, 9, true), Some(path(1)));
        assert_eq!(scene.check(1, 9, true), None, "nothing new");
        assert_eq!(scene.ice.path(), Some(path(1)));
    }

    #[test]
    fn of_several_nominated_paths_the_highest_priority_wins() {
        let mut scene = Scene::new();
        assert_eq!(scene.check(1, 5, true), Some(path(1)));
        assert_eq!(scene.check(2, 9, true), Some(path(2)));
        assert_eq!(scene.check(3, 7, true), None);
        assert_eq!(scene.check(1, 5, true), None);
        assert_eq!(scene.check(4, 9, true), None, "no flapping between equals");
        assert_eq!(scene.check(5, u32::MAX, false), None, "not nominated");
        assert_eq!(scene.ice.path(), Some(path(2)));
    }

    #[test]
    fn a_silent_path_gives_way_to_one_of_lower_priority() {
        let mut scene = Scene::new();
        scene.check(1, 9, true);
        scene.check(2, 5, true);
        scene.later(4);
        assert_eq!(scene.check(2, 5, false), None);
        scene.later(1);
        assert_eq!(scene.check(3, 99, false), None, "never nominated");
        assert_eq!(scene.check(2, 5, false), Some(path(2)), "what was nominated once needs no second time");
    }

    #[test]
    fn a_path_that_is_checked_but_nominated_no_more_gives_way_to_a_nomination() {
        let mut scene = Scene::new();
        scene.check(1, 9, true);
        scene.later(4).check(1, 9, false);
        assert_eq!(scene.check(2, 5, true), None, "too early to tell it from an aggressive nomination");
        scene.later(2).check(1, 9, false);
        assert_eq!(scene.check(2, 5, true), Some(path(2)));
        scene.later(1);
        assert_eq!(scene.check(1, 9, false), None);
    }

    #[test]
    fn a_path_that_stays_nominated_stays() {
        let mut scene = Scene::new();
        scene.check(1, 9, true);
        for _ in 0..20 {
            scene.later(2).check(1, 9, true);
            assert_eq!(scene.check(2, 5, true), None);
        }
    }

    #[test]
    fn consent_lives_by_checks_on_any_path() {
        let mut scene = Scene::new();
        scene.check(1, 9, true);
        assert_eq!(scene.ice.consent_until(), Some(scene.now + CONSENT));
        scene.later(20).check(2, 5, false);
        assert_eq!(scene.ice.consent_until(), Some(scene.now + CONSENT));
    }

    #[test]
    fn a_forger_moves_nothing_and_gets_no_answer() {
        let mut scene = Scene::new();
        scene.check(1, 9, true);
        let (until, right) = (scene.ice.consent_until(), credentials("ours").password);
        scene.later(10);
        let wrong = [
            "ours:somebody",
            "ours",
            "ours:",
            "other:them",
            ":them",
            "ours:them:",
            "oursx:them",
            "our:s:them",
        ];
        for username in wrong {
            let check = Check { use_candidate: true, ..Check::new(username, &right, u32::MAX) };
            let error = scene.handle(path(2), check).unwrap_err();
            assert_eq!((&error, error.response()), (&CheckError::Username, None), "{username}");
        }
        let check = Check { use_candidate: true, ..Check::new("ours:them", "guessed", u32::MAX) };
        assert_eq!(scene.handle(path(2), check), Err(CheckError::Integrity));
        assert_eq!((scene.ice.path(), scene.ice.consent_until()), (Some(path(1)), until));
    }

    #[test]
    fn a_controlled_peer_gets_487_and_moves_nothing() {
        let mut scene = Scene::new();
        let password = credentials("ours").password;
        let check = Check { use_candidate: true, controlled: true, ..Check::new("ours:them", &password, 1) };
        let error = scene.handle(path(1), check).unwrap_err();
        assert!(matches!(error, CheckError::RoleConflict(_)));
        assert_eq!(error.response().unwrap()[..2], [0x01, 0x11]);
        assert_eq!((scene.ice.path(), scene.ice.consent_until()), (None, None));
    }

    #[test]
    fn an_unknown_demand_gets_420_and_moves_nothing() {
        let mut scene = Scene::new();
        let password = credentials("ours").password;
        let check =
            Check { use_candidate: true, unknown: Some(0x7ffe), ..Check::new("ours:them", &password, 1) };
        let error = scene.handle(path(1), check).unwrap_err();
        assert!(matches!(&error, CheckError::UnknownAttribute(response) if response[..2] == [0x01, 0x11]));
        assert_eq!(scene.ice.path(), None);
    }

    #[test]
    fn a_restart_keeps_the_old_path_until_the_new_credentials_nominate() {
        let mut scene = Scene::new();
        scene.check(1, 9, true);
        scene.ice.restart(scene.now, credentials("new"), credentials("them2"));
        assert_eq!(scene.ice.local(), &credentials("new"));
        assert_eq!(scene.check(1, 9, true), None, "old credentials are still answered");
        assert_eq!(scene.check_under("new", "them2", 2, false).unwrap().moved, None);
        assert_eq!(
            scene.check_under("new", "them", 2, true),
            Err(CheckError::Username),
            "half old, half new"
        );
        assert_eq!(scene.ice.path(), Some(path(1)));
        assert_eq!(
            scene.check_under("new", "them2", 2, true).unwrap().moved,
            Some(path(2)),
            "whatever its priority"
        );
        assert_eq!(scene.check_under("ours", "them", 1, true), Err(CheckError::Username), "forgotten");
        assert_eq!((scene.ice.path(), scene.ice.local()), (Some(path(2)), &credentials("new")));
    }

    #[test]
    fn a_restart_on_the_same_path_moves_nothing() {
        let mut scene = Scene::new();
        scene.check(1, 9, true);
        scene.ice.restart(scene.now, credentials("new"), credentials("them2"));
        assert_eq!(scene.check_under("new", "them2", 1, true).unwrap().moved, None);
        assert_eq!(scene.check_under("ours", "them", 1, true), Err(CheckError::Username));
    }

    #[test]
    fn of_two_restarts_the_last_counts() {
        let mut scene = Scene::new();
        scene.ice.restart(scene.now, credentials("second"), credentials("them"));
        assert_eq!(scene.check_under("ours", "them", 1, true), Err(CheckError::Username), "no path to keep");
        scene.check_under("second", "them", 1, true).unwrap();
        scene.ice.restart(scene.now, credentials("third"), credentials("them"));
        scene.ice.restart(scene.now, credentials("fourth"), credentials("them"));
        assert_eq!(scene.check_under("third", "them", 2, true), Err(CheckError::Username));
        assert_eq!(scene.check_under("second", "them", 1, true).unwrap().moved, None);
        assert_eq!(scene.check_under("fourth", "them", 2, true).unwrap().moved, Some(path(2)));
    }

    #[test]
    fn a_flood_of_nominations_is_bounded_and_never_forgets_the_path_in_use() {
        let mut scene = Scene::new();
        scene.check(1, 9, true);
        for port in 2..1000 {
            assert_eq!(scene.check(port, 5, true), None);
        }
        assert_eq!(scene.ice.path(), Some(path(1)));
        assert!(scene.ice.current.nominated.len() <= PATHS_MAX);
        assert!(scene.ice.current.nominated.iter().any(|known| known.path == path(1)));
    }

    #[test]
    fn a_connection_is_a_path_of_its_own() {
        let mut scene = Scene::new();
        let password = credentials("ours").password;
        let from = SocketAddr::from(([192, 0, 2, 1], 1));
        let tcp = Path::Tcp { connection: 7, from };
        let check = Check { use_candidate: true, ..Check::new("ours:them", &password, 9) };
        assert_eq!(scene.handle(tcp, check).unwrap().moved, Some(tcp));
        assert_eq!(scene.check(1, 5, true), None);
        assert_eq!(scene.check(1, 10, true), Some(Path::Udp(from)));
    }
}

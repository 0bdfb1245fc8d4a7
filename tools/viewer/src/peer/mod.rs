//! A WebRTC viewer, in two kinds that share only how they meet a server.
//!
//! - [`checker`] is a full peer of the `webrtc` package, for one viewer that looks at every byte; [`watch`] runs it.
//!   [`tap`] shows what it received, [`lossy`] loses some of it, [`reorder`] puts it in order.
//! - [`light`] is as little of a peer as servers accept, without a socket or a clock, for thousands in one thread;
//!   [`crowd`] is one thread's, [`load`] runs them. [`stun`] and [`ice`], [`dtls`], [`srtp`], [`gaps`] and [`feedback`] are
//!   its parts.
//! - [`description`] writes and reads SDP. [`whep`] carries it to and from a server; any other [`Exchange`] will do.
//! - [`report`] is what the summary says of them.

pub mod checker;
pub mod crowd;
pub mod description;
pub mod dtls;
pub mod feedback;
pub mod gaps;
pub mod ice;
pub mod light;
pub mod load;
pub mod lossy;
pub mod reorder;
pub mod report;
pub mod srtp;
pub mod stun;
pub mod tap;
pub mod watch;
pub mod whep;

/// How descriptions get to a server and back. It may block: it runs in a thread for such things.
pub trait Exchange: Send + Sync {
    /// Brings up session `number`, by an offer of the viewer's ([`Descriptions::offer`], then
    /// [`Descriptions::accept_answer`]) or of the server's ([`Descriptions::answer`]).
    /// Gives what [`Exchange::end`] needs, if the session has to be ended.
    ///
    /// # Errors
    /// Why there is no session, as the summary is to say it.
    fn begin(&self, number: u32, viewer: &mut dyn Descriptions) -> Result<Option<String>, String>;

    /// Ends a session.
    ///
    /// # Errors
    /// Why that could not be said to the server.
    fn end(&self, session: &str) -> Result<(), String>;
}

/// The descriptions of one viewer.
pub trait Descriptions {
    /// Its offer: to receive one video, with all its candidates.
    ///
    /// # Errors
    /// What the viewer's own side lacks.
    fn offer(&mut self) -> Result<String, String>;

    /// Takes the answer to that offer.
    ///
    /// # Errors
    /// What is wrong with it.
    fn accept_answer(&mut self, answer: &str) -> Result<(), String>;

    /// Takes an offer instead, and gives the answer to it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn answer(&mut self, offer: &str) -> Result<String, String>;
}

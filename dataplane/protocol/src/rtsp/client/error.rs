//! Why an attempt ended, in words for an operator.

use rtsp_types::StatusCode;
use url::Url;

/// Why an attempt ended. The text is for the operator and holds no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// 401 after credentials were given.
    #[error("the camera refuses the user name or password")]
    Unauthorized,
    /// 401, and no credentials were given.
    #[error("the camera asks for a user name and password")]
    CredentialsNeeded,
    /// Another refusal.
    #[error("the camera answered {status} {} to {method}", StatusCode::from(*status))]
    Refused {
        /// RTSP status code.
        status: u16,
        /// RTSP method.
        method: &'static str,
    },
    /// No answer in time.
    #[error("the camera did not answer {method} in time")]
    ReplyTimeout {
        /// RTSP method.
        method: &'static str,
    },
    /// No media in time.
    #[error("the camera sent no media for {seconds} s")]
    Silence {
        /// The bound.
        seconds: u64,
    },
    /// Media was to come over UDP and never did; TCP was not tried yet.
    #[error("the camera's UDP packets do not arrive")]
    UdpSilent,
    /// The framing or a message could not be read.
    #[error("the camera's RTSP cannot be read: {0}")]
    Protocol(String),
    /// No usable video.
    #[error(transparent)]
    Description(#[from] crate::sdp::SdpError),
    /// The camera wants us elsewhere: make a new attempt there.
    #[error("the camera redirects")]
    Redirect(Url),
    /// The camera ended it (EOF, RTCP BYE, TEARDOWN or ANNOUNCE).
    #[error("the camera ended the session")]
    EndedByCamera,
    /// The connection broke.
    #[error("the connection to the camera was lost: {0}")]
    Closed(String),
    /// We ended it, by [`Client::teardown`](super::Client::teardown).
    #[error("the session was ended")]
    TornDown,
    /// Something of ours: a socket could not be opened.
    #[error("{0}")]
    Local(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_number_and_name() {
        let error = ClientError::Refused { status: 404, method: "DESCRIBE" };
        assert_eq!(error.to_string(), "the camera answered 404 Not Found to DESCRIBE");
        let error = ClientError::Refused { status: 461, method: "SETUP" };
        assert_eq!(error.to_string(), "the camera answered 461 Unsupported Transport to SETUP");
    }

    #[test]
    fn a_redirect_does_not_tell_where_to() {
        let url = Url::parse("rtsp://h/?token=s3cret").unwrap();
        assert!(!ClientError::Redirect(url).to_string().contains("s3cret"));
    }
}

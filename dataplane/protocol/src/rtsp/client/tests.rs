//! Dialogues with a camera that follows a script, in virtual time.

use proptest::prelude::*;

use super::*;

/// A client, what it wants, and the time.
struct Attempt {
    client: Client,
    now: Instant,
    received: BytesMut,
    outputs: Vec<ClientOutput>,
}

const CAMERA: &str = "192.0.2.7:554";

fn config() -> ClientConfig {
    ClientConfig {
        url: Url::parse("rtsp://192.0.2.7/live").unwrap(),
        credentials: None,
        basic_allowed: true,
        transport: TransportPreference::Auto,
        reply_timeout: Duration::from_secs(10),
        silence_timeout: Duration::from_secs(15),
        seed: 1,
    }
}

fn with_credentials() -> ClientConfig {
    let credentials = Credentials { username: "admin".into(), password: "s3cret".into() };
    ClientConfig { credentials: Some(credentials), ..config() }
}

fn over(transport: TransportPreference) -> ClientConfig {
    ClientConfig { transport, ..config() }
}

impl Attempt {
    fn new(config: ClientConfig) -> Self {
        let now = Instant::now();
        let client = Client::new(now, config, "192.0.2.1:40000".parse().unwrap(), CAMERA.parse().unwrap());
        let mut attempt = Self { client, now, received: BytesMut::new(), outputs: Vec::new() };
        attempt.poll();
        attempt
    }

    fn poll(&mut self) {
        while let Some(output) = self.client.poll_output() {
            self.outputs.push(output);
        }
    }

    /// The request that was written last; everything before it is forgotten.
    fn request(&mut self) -> String {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.remove(0)
    }

    /// What was written, without what else was wanted.
    fn requests(&mut self) -> Vec<String> {
        let (writes, others) = std::mem::take(&mut self.outputs)
            .into_iter()
            .partition(|it| matches!(it, ClientOutput::Write(_)));
        self.outputs = others;
        let texts = |write| match write {
            ClientOutput::Write(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        Vec::into_iter(writes).map(texts).collect()
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        self.client.handle_received(self.now, &mut self.received);
        self.poll();
    }

    /// The camera answers the request in `request` with its CSeq.
    fn answer(&mut self, request: &str, status: &str, headers: &str, body: &str) {
        let cseq = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.receive(format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{headers}{length}\r\n{body}").as_bytes());
    }

    /// Expects a request of `method` and answers it.
    fn step(&mut self, method: &str, status: &str, headers: &str, body: &str) -> String {
        let request = self.request();
        assert!(request.starts_with(&format!("{method} ")), "{method} expected: {request}");
        self.answer(&request, status, headers, body);
        request
    }

    fn until_setup(&mut self) {
        self.step(
            "OPTIONS",
            "200 OK",
            "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n",
            "",
        );
        self.step("DESCRIBE", "200 OK", "Content-Base: rtsp://192.0.2.7/live/\r\n", SDP);
    }

    fn playing_over_tcp(config: ClientConfig) -> Self {
        let mut attempt = Self::new(config);
        attempt.until_setup();
        attempt.step("SETUP", "200 OK", TCP_REPLY, "");
        attempt.step("PLAY", "200 OK", "Session: 4711\r\n", "");
        assert!(matches!(attempt.outputs.remove(0), ClientOutput::Playing { .. }));
        attempt
    }

    fn playing_over_udp(config: ClientConfig, transport_reply: &str) -> Self {
        let mut attempt = Self::new(config);
        attempt.until_setup();
        if attempt.client.config.transport == TransportPreference::Auto {
            attempt.step("SETUP", "461 Unsupported Transport", "", "");
        }
        assert!(matches!(attempt.outputs.as_slice(), [ClientOutput::OpenUdp]), "{:?}", attempt.outputs);
        attempt.outputs.clear();
        attempt.client.handle_udp_opened(attempt.now, Ok(5000));
        attempt.poll();
        let setup = attempt.step("SETUP", "200 OK", transport_reply, "");
        assert!(setup.contains("Transport: RTP/AVP;unicast;client_port=5000-5001\r\n"), "{setup}");
        attempt
    }

    /// Time goes on by `duration`, and every timer fires at its time.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
            self.poll();
        }
        self.now = end;
    }

    fn media(&mut self, seq: u16) {
        self.receive(&frame(0, &rtp(seq, 7)));
    }

    fn packets(&mut self) -> Vec<u16> {
        let packet = |output| match output {
            ClientOutput::Packet(ordered) => Some(ordered.packet.seq),
            _ => None,
        };
        std::mem::take(&mut self.outputs).into_iter().filter_map(packet).collect()
    }

    fn ended(&mut self) -> ClientError {
        match self.outputs.pop() {
            Some(ClientOutput::Ended(error)) => {
                assert_eq!(self.client.poll_timeout(), None);
                error
            }
            other => panic!("not ended: {other:?}"),
        }
    }
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\na=control:*\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:track2\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n";
const TCP_REPLY: &str = "Session: 4711;timeout=30\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
const UDP_REPLY: &str =
    "Session: 4711;timeout=30\r\nTransport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001\r\n";

fn rtp(seq: u16, ssrc: u32) -> Vec<u8> {
    let header = crate::rtp::Header {
        marker: false,
        payload_type: 96,
        seq,
        rtp_timestamp: u32::from(seq) * 3000,
        ssrc,
    };
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(b"\x41payload");
    packet
}

fn frame(channel: u8, packet: &[u8]) -> Vec<u8> {
    interleaved(channel, packet).to_vec()
}

fn sender_report(ssrc: u32) -> Vec<u8> {
    let mut report = vec![0x80, 200, 0, 6];
    report.extend_from_slice(&ssrc.to_be_bytes());
    report.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2]);
    report.extend_from_slice(&[0; 12]);
    report
}

fn bye(ssrc: u32) -> Vec<u8> {
    let mut bye = vec![0x81, 203, 0, 1];
    bye.extend_from_slice(&ssrc.to_be_bytes());
    bye
}

#[test]
fn sets_up_the_one_video_track_over_tcp_and_plays() {
    let mut attempt = Attempt::new(config());
    let options =
        attempt.step("OPTIONS", "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER\r\n", "");
    assert!(options.starts_with("OPTIONS rtsp://192.0.2.7/live RTSP/1.0\r\nCSeq: 1\r\n"));
    let describe = attempt.step("DESCRIBE", "200 OK", "Content-Base: rtsp://192.0.2.7/live/\r\n", SDP);
    assert!(describe.contains("Accept: application/sdp\r\n"));
    let setup = attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    assert!(setup.starts_with("SETUP rtsp://192.0.2.7/live/track1 RTSP/1.0\r\n"), "{setup}");
    assert!(setup.contains("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"));
    assert!(!setup.contains("Session:"));
    let play = attempt.step("PLAY", "200 OK", "RTP-Info: url=;;seq=x\r\n", "");
    assert!(play.starts_with("PLAY rtsp://192.0.2.7/live/ RTSP/1.0\r\n"), "{play}");
    assert!(play.contains("Session: 4711\r\n") && play.contains("Range: npt=0.000-\r\n"));
    let [ClientOutput::Playing { codec, clock_rate_hz, .. }] = attempt.outputs.as_slice() else {
        panic!("{:?}", attempt.outputs)
    };
    assert_eq!((*codec, *clock_rate_hz), (Codec::H264, 90_000));
    attempt.media(1);
    attempt.media(2);
    attempt.receive(&frame(0, &rtp(4, 7)));
    attempt.receive(&frame(5, &rtp(9, 7)));
    assert_eq!(attempt.packets(), [1, 2, 4]);
    assert_eq!(attempt.client.statistics(), ClientStatistics { packets: 3, lost: 1, dropped: 1 });
}

#[test]
fn plays_whatever_way_the_bytes_are_split() {
    let sdp = format!("RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len());
    let setup = format!("RTSP/1.0 200 OK\r\nCSeq: 3\r\n{TCP_REPLY}\r\n");
    let mut bytes = format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n{sdp}{setup}").into_bytes();
    bytes.extend(frame(0, &rtp(1, 7)));
    bytes.extend_from_slice(b"RTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n");
    bytes.extend(frame(0, &rtp(2, 7)));
    for split in 0..bytes.len() {
        let mut attempt = Attempt::new(config());
        attempt.receive(&bytes[..split]);
        attempt.receive(&bytes[split..]);
        assert_eq!(attempt.requests().len(), 4, "split at {split}");
        assert!(matches!(attempt.outputs[0], ClientOutput::Playing { .. }), "split at {split}");
        assert_eq!(attempt.packets(), [1, 2], "split at {split}");
    }
}

#[test]
fn answers_a_digest_challenge_with_the_request_uri_and_the_strongest_algorithm() {
    const CHALLENGES: &str = "WWW-Authenticate: Basic realm=\"cam\"\r\n\
        WWW-Authenticate: Digest realm=\"cam\", nonce=\"n1\", qop=\"auth\", algorithm=MD5\r\n\
        WWW-Authenticate: Digest realm=\"cam\", nonce=\"n2\", qop=\"auth\", algorithm=SHA-256\r\n";
    let mut attempt = Attempt::new(with_credentials());
    let options = attempt.step("OPTIONS", "401 Unauthorized", CHALLENGES, "");
    assert!(!options.contains("Authorization"));
    let options = attempt.step("OPTIONS", "200 OK", "", "");
    assert!(options.contains("nonce=\"n2\", algorithm=SHA-256, nc=00000001"), "{options}");
    assert!(options.contains("uri=\"rtsp://192.0.2.7/live\""));
    attempt.step("DESCRIBE", "200 OK", "", SDP);
    let setup = attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    assert!(
        setup.contains("uri=\"rtsp://192.0.2.7/live/track1\"") && setup.contains("nc=00000003"),
        "{setup}"
    );
}

#[test]
fn a_digest_answer_is_the_one_of_rfc_7616() {
    // Computed apart from the crate: see section 3.4.1; HA1, HA2 and the response in SHA-256.
    let mut attempt = Attempt::new(with_credentials());
    let challenge = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"n2\", algorithm=SHA-256\r\n";
    attempt.step("OPTIONS", "401 Unauthorized", challenge, "");
    let options = attempt.request();
    let expected = "response=\"80cfdeab5ffde92e3b2967d6868733e3ceb0adfd76916fd96c6baf78330f4e0b\"";
    assert!(options.contains(expected), "{options}");
}

#[test]
fn a_camera_with_a_fresh_nonce_for_every_request_plays() {
    let mut attempt = Attempt::new(with_credentials());
    let mut number = 0;
    for (method, headers, body) in
        [("OPTIONS", "", ""), ("DESCRIBE", "", SDP), ("SETUP", TCP_REPLY, ""), ("PLAY", "", "")]
    {
        number += 1;
        let challenge = format!(
            "WWW-Authenticate: Digest realm=\"cam\", nonce=\"{number}\", stale=true, qop=\"auth\"\r\n"
        );
        attempt.step(method, "401 Unauthorized", &challenge, "");
        let request = attempt.step(method, "200 OK", headers, body);
        assert!(request.contains(&format!("nonce=\"{number}\"")));
    }
    assert!(matches!(attempt.outputs.as_slice(), [ClientOutput::Playing { .. }]));
}

#[test]
fn wrong_credentials_end_the_attempt_and_none_are_asked_for() {
    const CHALLENGE: &str = "WWW-Authenticate: Basic realm=\"cam\"\r\n";
    let mut attempt = Attempt::new(with_credentials());
    attempt.step("OPTIONS", "401 Unauthorized", CHALLENGE, "");
    let again = attempt.step("OPTIONS", "401 Unauthorized", CHALLENGE, "");
    assert!(again.contains("Authorization: Basic YWRtaW46czNjcmV0\r\n"));
    assert_eq!(attempt.ended(), ClientError::Unauthorized);

    let mut attempt = Attempt::new(config());
    attempt.step("OPTIONS", "401 Unauthorized", CHALLENGE, "");
    attempt.step("DESCRIBE", "401 Unauthorized", CHALLENGE, "");
    assert_eq!(attempt.ended(), ClientError::CredentialsNeeded);
}

#[test]
fn debug_shows_no_credentials() {
    let mut attempt = Attempt::new(with_credentials());
    attempt.step("OPTIONS", "401 Unauthorized", "WWW-Authenticate: Basic realm=\"cam\"\r\n", "");
    let text = format!("{:?} {:?}", attempt.client, attempt.outputs);
    assert!(!text.contains("s3cret") && !text.contains("YWRtaW46czNjcmV0"), "{text}");
}

#[test]
fn takes_answers_with_a_wrong_cseq_or_none() {
    let mut attempt = Attempt::new(config());
    attempt.receive(b"RTSP/1.0 200 OK\r\n\r\n");
    attempt.receive(
        format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len()).as_bytes(),
    );
    attempt.receive(format!("RTSP/1.0 200 OK\r\nCSeq: 99\r\n{TCP_REPLY}\r\n").as_bytes());
    attempt.receive(b"RTSP/1.0 200 OK\r\nCSeq: \r\n\r\n");
    assert!(matches!(attempt.outputs.last(), Some(ClientOutput::Playing { .. })));
}

#[test]
fn media_before_the_answer_to_play_counts_and_so_does_garbage_between_is_skipped() {
    let mut attempt = Attempt::new(config());
    attempt.until_setup();
    let setup = attempt.request();
    attempt.receive(&frame(0, &rtp(9, 7)));
    attempt.answer(&setup, "200 OK", TCP_REPLY, "");
    let play = attempt.request();
    attempt.media(10);
    attempt.receive(b"\0\0garbage\xff");
    attempt.media(11);
    attempt.answer(&play, "200 OK", "", "");
    attempt.media(12);
    assert!(matches!(attempt.outputs[0], ClientOutput::Playing { .. }));
    assert_eq!(attempt.packets(), [10, 11, 12]);
    assert_eq!(attempt.client.statistics().dropped, 1);
}

#[test]
fn a_camera_that_plays_without_answering_play_plays() {
    let mut attempt = Attempt::new(config());
    attempt.until_setup();
    attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    attempt.request();
    for seq in 0..30 {
        attempt.media(seq);
        attempt.pass(Duration::from_secs(1));
    }
    assert_eq!(attempt.packets().len(), 30);
}

#[test]
fn believes_the_channels_of_the_reply_and_tells_rtcp_by_its_looks() {
    for channels in ["1-0", "0-1", "4-5", "7"] {
        let mut attempt = Attempt::new(config());
        attempt.until_setup();
        let reply = format!("Session: 4711\r\nTransport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n");
        attempt.step("SETUP", "200 OK", &reply, "");
        attempt.step("PLAY", "200 OK", "", "");
        let first = channels.as_bytes()[0] - b'0';
        attempt.receive(&frame(first, &rtp(1, 7)));
        attempt.receive(&frame(first, &sender_report(7)));
        assert!(matches!(attempt.outputs.last(), Some(ClientOutput::SenderReport(_))));
        assert_eq!(attempt.packets(), [1], "{channels}");
    }
}

#[test]
fn falls_to_udp_when_tcp_is_refused() {
    let mut attempt = Attempt::playing_over_udp(config(), UDP_REPLY);
    let [
        ClientOutput::UdpPeer { rtp: media, rtcp },
        ClientOutput::SendRtp(opening),
        ClientOutput::SendRtcp(_),
        ClientOutput::Write(_),
    ] = attempt.outputs.as_slice()
    else {
        panic!("{:?}", attempt.outputs)
    };
    assert_eq!((media.to_string(), rtcp.to_string()), ("192.0.2.7:6000".into(), "192.0.2.7:6001".into()));
    assert_eq!(opening.len(), 12);
    attempt.outputs.drain(..3);
    attempt.step("PLAY", "200 OK", "", "");
    let [ClientOutput::SendRtp(_), ClientOutput::SendRtcp(_), ClientOutput::Playing { .. }] =
        attempt.outputs.as_slice()
    else {
        panic!("{:?}", attempt.outputs)
    };
    attempt.outputs.clear();
    let camera = "192.0.2.7:6000".parse().unwrap();
    for (from, seq) in
        [(camera, 1), (camera, 3), ("192.0.2.8:6000".parse().unwrap(), 4), (camera, 2), (camera, 5)]
    {
        attempt.client.handle_udp_rtp(attempt.now, from, Bytes::from(rtp(seq, 7)));
    }
    attempt.client.handle_udp_rtcp(attempt.now, camera, &sender_report(7));
    attempt.poll();
    assert!(attempt.outputs.iter().any(|output| matches!(output, ClientOutput::SenderReport(_))));
    // 4 was a stranger's: it is waited for, then given up.
    assert_eq!(attempt.packets(), [1, 2, 3]);
    attempt.pass(Duration::from_millis(150));
    assert_eq!(attempt.packets(), [5]);
    assert_eq!(attempt.client.statistics(), ClientStatistics { packets: 4, lost: 1, dropped: 1 });
}

#[test]
fn learns_the_udp_peer_from_the_first_datagram_where_the_reply_is_silent() {
    let reply = "Session: 4711\r\nTransport: RTP/AVP/UDP;unicast;server_port=\r\n";
    let mut attempt = Attempt::playing_over_udp(over(TransportPreference::Udp), reply);
    attempt.step("PLAY", "200 OK", "", "");
    assert!(matches!(attempt.outputs.as_slice(), [ClientOutput::Playing { .. }]), "{:?}", attempt.outputs);
    attempt.client.handle_udp_rtp(attempt.now, "192.0.2.7:7000".parse().unwrap(), Bytes::from(rtp(1, 7)));
    attempt.poll();
    let Some(ClientOutput::UdpPeer { rtp, rtcp }) = attempt.outputs.last() else {
        panic!("{:?}", attempt.outputs)
    };
    assert_eq!((rtp.port(), rtcp.port()), (7000, 7001));
    attempt.pass(Duration::from_secs(8));
    assert!(attempt.outputs.iter().any(|output| matches!(output, ClientOutput::SendRtcp(_))));
}

#[test]
fn falls_to_tcp_when_udp_is_refused_or_impossible() {
    let mut attempt = Attempt::new(over(TransportPreference::Udp));
    attempt.until_setup();
    attempt.client.handle_udp_opened(attempt.now, Err("no ports".into()));
    attempt.poll();
    attempt.outputs.remove(0);
    let setup = attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    assert!(setup.contains("RTP/AVP/TCP"));

    let mut attempt = Attempt::new(over(TransportPreference::Udp));
    attempt.until_setup();
    attempt.client.handle_udp_opened(attempt.now, Ok(5000));
    attempt.poll();
    attempt.step("SETUP", "461 Unsupported Transport", "", "");
    let setup = attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    assert!(setup.contains("RTP/AVP/TCP"));
}

#[test]
fn tcp_only_takes_a_refusal_for_an_answer_and_the_telling_status_is_told() {
    let mut attempt = Attempt::new(over(TransportPreference::Tcp));
    attempt.until_setup();
    attempt.step("SETUP", "461 Unsupported Transport", "", "");
    assert_eq!(attempt.ended(), ClientError::Refused { status: 461, method: "SETUP" });

    let mut attempt = Attempt::new(config());
    attempt.until_setup();
    attempt.step("SETUP", "453 Not Enough Bandwidth", "", "");
    attempt.client.handle_udp_opened(attempt.now, Ok(5000));
    attempt.poll();
    attempt.step("SETUP", "461 Unsupported Transport", "", "");
    assert_eq!(attempt.ended(), ClientError::Refused { status: 453, method: "SETUP" });
}

#[test]
fn udp_that_delivers_nothing_ends_after_three_seconds_where_tcp_is_left() {
    let mut attempt = Attempt::playing_over_udp(over(TransportPreference::Udp), UDP_REPLY);
    attempt.step("PLAY", "200 OK", "", "");
    attempt.pass(Duration::from_millis(2999));
    attempt.requests();
    attempt.pass(Duration::from_millis(1));
    assert_eq!(attempt.ended(), ClientError::UdpSilent);
    assert!(attempt.request().starts_with("TEARDOWN rtsp://192.0.2.7/live/ "));

    let mut attempt = Attempt::playing_over_udp(config(), UDP_REPLY);
    attempt.step("PLAY", "200 OK", "", "");
    attempt.pass(Duration::from_secs(15));
    assert_eq!(attempt.ended(), ClientError::Silence { seconds: 15 });
}

#[test]
fn keeps_the_session_alive_at_half_its_timeout_by_what_is_offered() {
    let mut attempt = Attempt::playing_over_tcp(config());
    let requests = attempt.keepalives(60, "200 OK");
    assert_eq!(requests.len(), 4, "{requests:#?}");
    for request in &requests {
        assert!(request.starts_with("GET_PARAMETER rtsp://192.0.2.7/live/ RTSP/1.0\r\n"), "{request}");
        assert!(request.contains("Session: 4711\r\n"));
    }
    // It is refused: by OPTIONS at once, and from then on.
    attempt.media(60);
    attempt.pass(Duration::from_secs(10));
    attempt.media(61);
    attempt.pass(Duration::from_secs(5));
    let refused = attempt.requests_between_reports();
    attempt.answer(&refused[0], "405 Method Not Allowed", "", "");
    let requests = attempt.keepalives(30, "200 OK");
    assert_eq!(requests.len(), 3, "{requests:#?}");
    assert!(requests.iter().all(|request| request.starts_with("OPTIONS rtsp://192.0.2.7/live/ ")));
}

#[test]
fn keeps_the_session_alive_by_get_parameter_where_options_was_refused() {
    let mut attempt = Attempt::new(config());
    attempt.step("OPTIONS", "404 Not Found", "", "");
    attempt.step("DESCRIBE", "200 OK", "", SDP);
    attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    attempt.step("PLAY", "200 OK", "", "");
    let requests = attempt.keepalives(30, "200 OK");
    assert!(requests.iter().all(|request| request.starts_with("GET_PARAMETER ")), "{requests:#?}");
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_timeout_in_the_answer_to_play_counts() {
    let mut attempt = Attempt::new(config());
    attempt.until_setup();
    attempt.step("SETUP", "200 OK", "Session: 4711\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n", "");
    attempt.step("PLAY", "200 OK", "Session: 4711;timeout=\"8\"\r\n", "");
    assert_eq!(attempt.keepalives(16, "200 OK").len(), 4);
}

#[test]
fn a_session_that_the_camera_does_not_know_is_over_once_media_stopped() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.pass(Duration::from_secs(14));
    attempt.media(1);
    attempt.pass(Duration::from_secs(1));
    let keepalive = attempt.requests_between_reports();
    attempt.answer(&keepalive[0], "454 Session Not Found", "", "");
    // Media came just before: the other way of asking may still be known.
    let keepalive = attempt.requests_between_reports();
    attempt.pass(Duration::from_secs(2));
    attempt.answer(&keepalive[0], "454 Session Not Found", "", "");
    attempt.outputs.retain(|output| matches!(output, ClientOutput::Ended(_)));
    assert_eq!(attempt.ended(), ClientError::EndedByCamera);
}

#[test]
fn takes_the_channel_that_the_video_comes_over_though_another_was_told() {
    let mut attempt = Attempt::playing_over_tcp(config());
    let mut audio = rtp(9, 3);
    audio[1] = 8;
    attempt.receive(&frame(4, &audio));
    attempt.receive(&frame(2, &rtp(1, 7)));
    attempt.receive(&frame(3, &sender_report(7)));
    attempt.receive(&frame(2, &rtp(2, 7)));
    attempt.receive(&frame(0, &rtp(3, 7)));
    assert!(attempt.outputs.iter().any(|output| matches!(output, ClientOutput::SenderReport(_))));
    assert_eq!(attempt.packets(), [1, 2]);
    assert_eq!(attempt.client.statistics().dropped, 2);
}

#[test]
fn sets_up_the_second_video_where_the_first_is_refused() {
    let second = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 H265/90000\r\na=control:track3\r\n";
    let mut attempt = Attempt::new(over(TransportPreference::Tcp));
    attempt.step("OPTIONS", "200 OK", "", "");
    attempt.step("DESCRIBE", "200 OK", "", &format!("{SDP}{second}"));
    attempt.step("SETUP", "500 Internal Server Error", "", "");
    let setup = attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    assert!(setup.starts_with("SETUP rtsp://192.0.2.7/live/track3 "), "{setup}");
    attempt.step("PLAY", "200 OK", "", "");
    assert!(matches!(attempt.outputs.as_slice(), [ClientOutput::Playing { codec: Codec::H265, .. }]));
    // A description that still has it changes nothing.
    let (sdp, length) = (format!("{SDP}{second}"), SDP.len() + second.len());
    attempt.receive(
        format!("ANNOUNCE * RTSP/1.0\r\nCSeq: 7\r\nContent-Length: {length}\r\n\r\n{sdp}").as_bytes(),
    );
    assert!(attempt.request().starts_with("RTSP/1.0 200 OK\r\nCSeq: 7\r\n"));
    assert!(!attempt.outputs.iter().any(|output| matches!(output, ClientOutput::Ended(_))));
}

impl Attempt {
    /// What is asked within so many seconds of media, each answered so.
    fn keepalives(&mut self, seconds: u16, answer: &str) -> Vec<String> {
        let mut asked = Vec::new();
        for second in 0..seconds {
            self.media(1000 + second);
            self.pass(Duration::from_secs(1));
            for request in self.requests_between_reports() {
                self.answer(&request, answer, "", "");
                asked.push(request);
            }
        }
        asked
    }

    /// What was written, without receiver reports.
    fn requests_between_reports(&mut self) -> Vec<String> {
        self.outputs.retain(|output| !matches!(output, ClientOutput::Write(bytes) if bytes[0] == b'$'));
        self.requests()
    }
}

#[test]
fn a_keepalive_without_answer_is_no_harm_while_media_comes() {
    let mut attempt = Attempt::playing_over_tcp(config());
    for seq in 0..200 {
        attempt.media(seq);
        attempt.pass(Duration::from_secs(1));
    }
    assert!(!attempt.outputs.iter().any(|output| matches!(output, ClientOutput::Ended(_))));
    let late = attempt.requests_between_reports();
    attempt.answer(&late[0], "454 Session Not Found", "", "");
    attempt.media(200);
    assert_eq!(attempt.packets().last(), Some(&200));
}

#[test]
fn sends_receiver_reports_on_the_rtcp_channel() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.media(1);
    attempt.outputs.clear();
    attempt.pass(Duration::from_secs(8));
    let Some(ClientOutput::Write(report)) = attempt.outputs.first() else { panic!("{:?}", attempt.outputs) };
    assert_eq!(report[..2], [b'$', 1]);
    assert_eq!(usize::from(u16::from_be_bytes([report[2], report[3]])), report.len() - 4);
    assert_eq!(report[5], 201);
}

#[test]
fn silence_ends_the_attempt_and_the_session() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.media(1);
    attempt.pass(Duration::from_secs(14));
    attempt.media(2);
    attempt.pass(Duration::from_millis(14_999));
    attempt.requests_between_reports();
    assert!(!attempt.outputs.iter().any(|output| matches!(output, ClientOutput::Ended(_))));
    attempt.pass(Duration::from_millis(1));
    assert_eq!(attempt.ended(), ClientError::Silence { seconds: 15 });
    assert!(attempt.requests_between_reports()[0].starts_with("TEARDOWN "));
}

#[test]
fn an_answer_that_does_not_come_ends_the_attempt() {
    let mut attempt = Attempt::new(config());
    attempt.step("OPTIONS", "200 OK", "", "");
    attempt.pass(Duration::from_millis(9999));
    attempt.request();
    attempt.pass(Duration::from_millis(1));
    assert_eq!(attempt.ended(), ClientError::ReplyTimeout { method: "DESCRIBE" });
}

#[test]
fn follows_no_redirect_itself_but_tells_where_it_leads() {
    for status in ["301 Moved Permanently", "302 Moved Temporarily"] {
        let mut attempt = Attempt::new(config());
        attempt.step("OPTIONS", "200 OK", "", "");
        attempt.step("DESCRIBE", status, "Location: rtsp://u:p@192.0.2.8:8554/other\r\n", "");
        assert_eq!(
            attempt.ended(),
            ClientError::Redirect(Url::parse("rtsp://192.0.2.8:8554/other").unwrap())
        );
    }
    let mut attempt = Attempt::new(config());
    attempt.step("OPTIONS", "302 Moved", "", "");
    assert_eq!(attempt.ended(), ClientError::Refused { status: 302, method: "OPTIONS" });
}

#[test]
fn refusals_and_useless_descriptions_are_told_as_they_are() {
    let mut attempt = Attempt::new(config());
    attempt.step("OPTIONS", "501 Not Implemented", "", "");
    attempt.step("DESCRIBE", "404 Not Found", "", "");
    assert_eq!(attempt.ended().to_string(), "the camera answered 404 Not Found to DESCRIBE");

    let mut attempt = Attempt::new(config());
    attempt.step("OPTIONS", "200 OK", "", "");
    attempt.step("DESCRIBE", "200 OK", "", "v=0\r\nm=video 0 RTP/AVP 26\r\n");
    assert_eq!(attempt.ended().to_string(), "the camera's video codec JPEG is not supported");

    let mut attempt = Attempt::new(config());
    attempt.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(attempt.ended().to_string(), "the camera's RTSP cannot be read: this port speaks HTTP");

    let url = Url::parse("rtspu://192.0.2.7/live").unwrap();
    let mut attempt = Attempt::new(ClientConfig { url, ..config() });
    assert_eq!(attempt.ended().to_string(), "rtspu URLs are not supported, only rtsp and rtsps");
}

#[test]
fn asks_for_play_in_another_way_when_the_first_is_refused() {
    let mut attempt = Attempt::new(config());
    attempt.until_setup();
    attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    attempt.step("PLAY", "457 Invalid Range", "", "");
    let play = attempt.step("PLAY", "459 Aggregate Operation Not Allowed", "", "");
    assert!(!play.contains("Range:"));
    let play = attempt.step("PLAY", "400 Bad Request", "", "");
    assert!(play.starts_with("PLAY rtsp://192.0.2.7/live/track1 "), "{play}");
    assert_eq!(attempt.ended(), ClientError::Refused { status: 400, method: "PLAY" });

    let mut attempt = Attempt::new(config());
    attempt.until_setup();
    attempt.step("SETUP", "200 OK", TCP_REPLY, "");
    attempt.step("PLAY", "405 Method Not Allowed", "", "");
    let play = attempt.step("PLAY", "200 OK", "", "");
    assert!(play.starts_with("PLAY rtsp://192.0.2.7/live RTSP/1.0"), "{play}");
    assert!(attempt.keepalives(20, "200 OK")[0].starts_with("GET_PARAMETER rtsp://192.0.2.7/live RTSP/1.0"));
}

#[test]
fn answers_the_cameras_requests() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.receive(b"OPTIONS rtsp://192.0.2.1/ RTSP/1.0\r\nCSeq: 5\r\n\r\n");
    assert!(attempt.request().starts_with("RTSP/1.0 200 OK\r\nCSeq: 5\r\nPublic: "));
    attempt.receive(b"SETUP rtsp://192.0.2.1/ RTSP/1.0\r\nCSeq: 6\r\n\r\n");
    assert!(attempt.request().starts_with("RTSP/1.0 501 "));
    let same = format!("ANNOUNCE * RTSP/1.0\r\nCSeq: 7\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len());
    attempt.receive(same.as_bytes());
    assert!(attempt.request().starts_with("RTSP/1.0 200 OK\r\nCSeq: 7\r\n"));
    attempt.receive(b"REDIRECT * RTSP/1.0\r\nCSeq: 8\r\nLocation: rtsp://192.0.2.9/x\r\n\r\n");
    assert_eq!(attempt.ended(), ClientError::Redirect(Url::parse("rtsp://192.0.2.9/x").unwrap()));

    for request in ["TEARDOWN * RTSP/1.0\r\nCSeq: 8\r\n\r\n", "ANNOUNCE * RTSP/1.0\r\nCSeq: 8\r\n\r\n"] {
        let mut attempt = Attempt::playing_over_tcp(config());
        attempt.receive(request.as_bytes());
        assert_eq!(attempt.ended(), ClientError::EndedByCamera);
    }
}

#[test]
fn a_camera_that_floods_requests_is_left() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.receive(&b"OPTIONS * RTSP/1.0\r\nCSeq: 5\r\n\r\n".repeat(51));
    assert_eq!(attempt.ended(), ClientError::Protocol("it sends one request after the other".to_owned()));
    assert_eq!(attempt.requests().len(), 51, "50 answers and a TEARDOWN");

    let mut attempt = Attempt::playing_over_tcp(config());
    for seq in 0..60 {
        attempt.receive(b"OPTIONS * RTSP/1.0\r\nCSeq: 5\r\n\r\n");
        attempt.media(seq);
        attempt.pass(Duration::from_secs(1));
    }
    assert!(!attempt.outputs.iter().any(|output| matches!(output, ClientOutput::Ended(_))));
}

#[test]
fn a_bye_of_the_video_source_ends_the_session() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.media(1);
    attempt.receive(&frame(1, &bye(8)));
    attempt.media(2);
    attempt.receive(&frame(1, &bye(7)));
    assert_eq!(attempt.ended(), ClientError::EndedByCamera);
    assert_eq!(attempt.packets(), [1, 2]);
}

#[test]
fn an_ssrc_that_changes_while_sequence_numbers_run_on_is_passed_on() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.media(1);
    attempt.receive(&frame(0, &rtp(2, 8)));
    attempt.receive(&frame(0, &rtp(3, 8)));
    assert_eq!(attempt.packets(), [1, 2, 3]);
    assert_eq!(attempt.client.statistics().lost, 0);
}

#[test]
fn teardown_waits_for_its_answer_or_a_second() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.client.teardown(attempt.now);
    attempt.poll();
    let teardown = attempt.request();
    attempt.media(3);
    assert!(attempt.outputs.is_empty());
    attempt.answer(&teardown, "200 OK", "", "");
    assert_eq!(attempt.ended(), ClientError::TornDown);

    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.client.teardown(attempt.now);
    attempt.pass(Duration::from_secs(1));
    assert_eq!(attempt.ended(), ClientError::TornDown);

    let mut attempt = Attempt::new(config());
    attempt.client.teardown(attempt.now);
    attempt.poll();
    assert_eq!(attempt.ended(), ClientError::TornDown);
}

#[test]
fn a_closed_connection_ends_the_attempt_once() {
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.client.handle_closed(attempt.now, "connection reset by peer");
    attempt.client.handle_closed(attempt.now, "again");
    attempt.poll();
    assert_eq!(
        attempt.ended().to_string(),
        "the connection to the camera was lost: connection reset by peer"
    );
    attempt.media(1);
    attempt.pass(Duration::from_secs(100));
    assert!(attempt.outputs.is_empty());

    let mut attempt = Attempt::new(config());
    attempt.request();
    attempt.client.handle_closed(attempt.now, "");
    attempt.poll();
    assert_eq!(
        attempt.ended().to_string(),
        "the connection to the camera was lost: closed by the camera before it played"
    );
    let mut attempt = Attempt::playing_over_tcp(config());
    attempt.client.handle_closed(attempt.now, "");
    attempt.poll();
    assert_eq!(attempt.ended(), ClientError::EndedByCamera);
}

proptest! {
    #[test]
    fn never_panics_on_what_a_camera_sends(
        seed in any::<u64>(),
        pieces in proptest::collection::vec((0_u8..12, proptest::collection::vec(any::<u8>(), 0..80)), 0..30),
    ) {
        let mut attempt = Attempt::new(ClientConfig { seed, ..with_credentials() });
        for (kind, bytes) in pieces {
            let text = String::from_utf8_lossy(&bytes).replace(['\r', '\n'], "");
            match kind {
                0 => attempt.receive(&bytes),
                1 => attempt.receive(&frame(bytes.first().copied().unwrap_or(0) & 1, &bytes)),
                2 => attempt.receive(format!("RTSP/1.0 200 OK\r\nSession: {text}\r\nTransport: {text}\r\n\r\n").as_bytes()),
                3 => attempt.receive(format!("RTSP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len()).as_bytes()),
                4 => attempt.receive(format!("RTSP/1.0 401 No\r\nWWW-Authenticate: Digest {text}\r\n\r\n").as_bytes()),
                5 => attempt.receive(b"RTSP/1.0 401 No\r\nWWW-Authenticate: Digest realm=\"a\", nonce=\"b\"\r\n\r\n"),
                6 => attempt.receive(format!("RTSP/1.0 302 X\r\nLocation: {text}\r\n\r\n").as_bytes()),
                7 => attempt.media(u16::from(bytes.first().copied().unwrap_or(0))),
                8 => attempt.pass(Duration::from_millis(bytes.len() as u64 * 100)),
                9 => attempt.client.handle_udp_opened(attempt.now, Ok(5000)),
                10 => attempt.client.handle_udp_rtp(attempt.now, CAMERA.parse().unwrap(), Bytes::from(bytes)),
                _ => attempt.client.handle_udp_rtcp(attempt.now, CAMERA.parse().unwrap(), &bytes),
            }
            attempt.poll();
        }
    }
}

//! What does not open, what must not be opened, and what is given up.

use super::*;

#[test]
fn a_server_that_says_nothing_is_given_up() {
    for scheme in ["rtmp", "rtmps", "http", "https", "rtsp", "rtsps"] {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("an address");
        let mut config = config(&format!("{scheme}://user:secret@{address}/live/x"));
        config.open_timeout = Duration::from_millis(500);
        let sentence = open_with(&Inputs::new(1), config).ended();
        assert!(sentence.ends_with("gave no picture within 500ms"), "{sentence}");
    }
}

#[test]
fn nobody_who_answers_is_said_so() {
    let sentence = open(&format!("rtmp://user:secret@127.0.0.1:{}/live/x", free_tcp_port())).ended();
    assert_eq!(sentence, "the RTMP input cannot be opened: Connection refused");
    let mut srt = config(&format!("srt://127.0.0.1:{}?passphrase=verysecret", free_udp_port()));
    srt.open_timeout = Duration::from_secs(10);
    let sentence = open_with(&Inputs::new(1), srt).ended();
    assert!(sentence.starts_with("the SRT input ") && !sentence.contains("secret"), "{sentence}");
}

#[test]
fn a_dropped_handle_ends_a_blocked_thread() {
    for scheme in ["rtmp", "http", "rtsp"] {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("an address");
        let inputs = Inputs::new(1);
        let mut config = config(&format!("{scheme}://{address}/live/x"));
        config.open_timeout = Duration::from_secs(3600);
        let mut opened = open_with(&inputs, config);
        let _connection = server.accept().expect("it comes");
        let began = Instant::now();
        opened.handle.take();
        wait_until_none_is_open(&inputs);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(opened.events.recv().is_err(), "not a word after that");
    }
}

#[test]
fn a_dropped_handle_ends_waiting_of_every_kind() {
    let media = Media::new().make(&format!("{SOURCE} {H264}"), "a.mp4");
    let inputs = Inputs::new(1);
    let mut playing = open_with(&inputs, config(&media.url("a.mp4")));
    playing.units_after_playing(2);
    playing.handle.take();
    wait_until_none_is_open(&inputs);
    assert!(playing.events.iter().all(|event| matches!(event, InputEvent::Unit(_))));

    let (sender, refused) = mpsc::channel();
    let deliver = move |event| {
        let _ = sender.send(());
        Err(Unready(event))
    };
    let handle = inputs.open(config(&media.url("a.mp4")), deliver).expect("opened");
    refused.recv_timeout(PATIENCE).expect("it is offered");
    drop(handle);
    wait_until_none_is_open(&inputs);
}

#[test]
fn no_more_than_the_bound_are_open() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("rtmp://{}/live/x", server.local_addr().expect("an address"));
    let inputs = Inputs::new(2);
    let mut open: Vec<Opened> = (0..2).map(|_| open_with(&inputs, config(&url))).collect();
    let refused = inputs.clone().open(config(&url), |_| Ok(())).map(drop);
    assert_eq!(refused, Err("2 inputs by FFmpeg are open, and source.ffmpeg_inputs_max allows 2".to_owned()));
    open.clear();
    wait_until_none_is_open(&inputs);
    assert!(inputs.open(config(&url), |_| Ok(())).is_ok());
}

#[test]
fn a_receiver_that_panics_ends_its_input_only() {
    let media = Media::new().make(&format!("{SOURCE} {H264}"), "a.mp4");
    let inputs = Inputs::new(1);
    let (sender, events) = mpsc::channel();
    let deliver = move |event| {
        assert!(!matches!(event, InputEvent::Playing { .. }), "a receiver with a fault");
        let _ = sender.send(event);
        Ok(())
    };
    let handle = inputs.open(config(&media.url("a.mp4")), deliver).expect("opened");
    let told = events.recv_timeout(PATIENCE).expect("an event");
    assert!(matches!(&told, InputEvent::Ended(sentence) if sentence.contains("fault")), "{told:?}");
    wait_until_none_is_open(&inputs);
    drop(handle);
}

#[test]
fn without_video_that_we_carry_it_says_what_there_is() {
    let media = Media::new().make(&format!("{SOUND} -c:a aac"), "sound.mp4");
    assert_eq!(open(&media.url("sound.mp4")).ended(), "no H.264 or H.265 video: it has aac");
    let media = Media::new().make(&format!("{SOURCE} {SOUND} -c:v mpeg4 -c:a aac"), "old.mp4");
    assert_eq!(open(&media.url("old.mp4")).ended(), "no H.264 or H.265 video: it has mpeg4, aac");
}

#[test]
fn what_is_no_media_file_is_refused() {
    let media = Media::new();
    media.write("a.mp4", "not at all");
    media.write("b.mp4", "");
    for name in ["a.mp4", "b.mp4"] {
        let sentence = open(&media.url(name)).ended();
        assert!(sentence.starts_with("the file cannot be opened: "), "{sentence}");
    }
    let sentence = open(&media.url("secret.mp4")).ended();
    assert!(sentence.ends_with("No such file or directory (os error 2)"), "{sentence}");
}

#[test]
fn a_cut_file_never_takes_the_server_with_it() {
    let media = Media::new().make(&format!("{SOURCE} {H264} -movflags faststart"), "a.mp4");
    let whole = std::fs::read(media.path("a.mp4")).expect("read");
    for part in 1..8 {
        std::fs::write(media.path("cut.mp4"), &whole[..whole.len() * part / 8]).expect("written");
        let opened = open(&media.url("cut.mp4"));
        // It plays what is there, or says why not.
        opened.event();
    }
}

#[test]
fn a_playlist_from_the_network_names_no_local_file() {
    let media = Media::new().make(&format!("{SOURCE} {H264}"), "clip.ts");
    let clip = media.url("clip.ts");
    let path = media.path("clip.ts");
    let path = path.display();
    let (_server, port) = serve(media.0.path());
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n";
    for segment in [
        clip.clone(),
        format!("file:{path}"),
        "file:///etc/passwd".to_owned(),
        format!("concat:{path}"),
        format!("crypto:{path}"),
        format!("crypto+file:{path}"),
        format!("subfile,,start,0,end,0,,:{path}"),
        format!("async:{path}"),
        format!("cache:{path}"),
    ] {
        media.write("list.m3u8", &format!("{head}#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n"));
        let sentence = ended_soon(&format!("http://127.0.0.1:{port}/list.m3u8"));
        assert!(!sentence.contains("passwd"), "{sentence}");
    }
    media.write(
        "list.m3u8",
        &format!("{head}#EXT-X-KEY:METHOD=AES-128,URI=\"{clip}\"\n#EXTINF:1,\nclip.ts\n#EXT-X-ENDLIST\n"),
    );
    ended_soon(&format!("http://127.0.0.1:{port}/list.m3u8"));
    media.write("list.m3u8", &format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{clip}\n"));
    ended_soon(&format!("http://127.0.0.1:{port}/list.m3u8"));
    media.write("list.ffconcat", &format!("ffconcat version 1.0\nfile '{clip}'\n"));
    ended_soon(&format!("http://127.0.0.1:{port}/list.ffconcat"));
    media.write("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n");
    ended_soon(&format!("http://127.0.0.1:{port}/a.sdp"));
}

#[test]
fn a_redirect_leads_to_no_local_file() {
    let media = Media::new().make(&format!("{SOURCE} {H264}"), "clip.ts");
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    let location = media.url("clip.ts");
    std::thread::spawn(move || {
        for mut connection in server.incoming().take(4).flatten() {
            let _ =
                write!(connection, "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let _ = BufReader::new(connection).read_line(&mut String::new());
        }
    });
    ended_soon(&format!("http://{address}/clip.ts"));
}

#[test]
fn a_file_names_nothing_else() {
    let media = Media::new().make(&format!("{SOURCE} {H264}"), "clip.ts");
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    media.write(
        "list.m3u8",
        &format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://{address}/a.ts\n"),
    );
    media.write("own.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.ts\n#EXT-X-ENDLIST\n");
    media.write("list.ffconcat", &format!("ffconcat version 1.0\nfile http://{address}/a.ts\n"));
    media.write("own.ffconcat", "ffconcat version 1.0\nfile clip.ts\n");
    for name in ["list.m3u8", "own.m3u8", "list.ffconcat", "own.ffconcat"] {
        ended_soon(&media.url(name));
    }
    server.set_nonblocking(true).expect("set");
    assert!(server.accept().is_err(), "nobody came");
}

#[test]
fn a_server_that_never_ends_its_header_is_given_up() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    std::thread::spawn(move || {
        for connection in server.incoming().take(4).flatten() {
            std::thread::spawn(move || {
                let mut connection = connection;
                let _ = connection.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n");
                // Sync bytes and nothing else that means anything.
                while connection.write_all(&[&[0x47, 0x1f, 0xff, 0x10][..], &[0; 184]].concat()).is_ok() {}
            });
        }
    });
    let mut config = config(&format!("http://{address}/a.ts"));
    config.open_timeout = Duration::from_secs(3);
    let sentence = open_with(&Inputs::new(1), config).ended();
    assert!(sentence.contains("gave no picture within") || sentence.contains("no tracks"), "{sentence}");
}

/// The sentence, of an input that must not play; it does not take its whole time.
fn ended_soon(url: &str) -> String {
    let mut config = config(url);
    config.open_timeout = Duration::from_secs(5);
    open_with(&Inputs::new(1), config).ended()
}

impl Opened {
    fn units_after_playing(&self, count: usize) -> Vec<InputUnit> {
        self.playing();
        self.units(count)
    }
}

//! Files on the ring, against the kernel.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use glommio::LocalExecutorBuilder;
use lanecast_net::{Completion, File, Ring, Sleeper, Waker, bind_udp};

/// Longer than anything here takes: only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn ring() -> Ring {
    Ring::new(Waker::new().unwrap(), bind_udp("[::]:0".parse().unwrap()).unwrap(), 0).unwrap()
}

/// A file that is gone with the test.
struct Scratch {
    path: PathBuf,
    file: std::fs::File,
}

impl Scratch {
    fn new(name: &str) -> Self {
        Self::at(std::env::temp_dir().join(format!("lanecast-net-{}-{name}", std::process::id())))
    }

    fn at(path: PathBuf) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        Self { path, file }
    }

    /// As the ring wants it.
    fn file(&self) -> File {
        File::from(self.file.try_clone().unwrap())
    }

    /// How often this process has it open.
    fn descriptors(&self) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path == self.path)).count()
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Turns until a file's operation is complete.
fn next(ring: &mut Ring) -> Completion {
    let start = Instant::now();
    loop {
        ring.submit().unwrap();
        if let Some(completion) = ring.reap() {
            return completion;
        }
        assert!(start.elapsed() < PATIENCE, "nothing came");
        std::thread::yield_now();
    }
}

fn written(ring: &mut Ring, wanted: u64) -> io::Result<usize> {
    match next(ring) {
        Completion::FileWritten { token, result } if token == wanted => result,
        other => panic!("{other:?}"),
    }
}

fn read(ring: &mut Ring, wanted: u64) -> (BytesMut, io::Result<usize>) {
    match next(ring) {
        Completion::FileRead { token, buffer, result } if token == wanted => (buffer, result),
        other => panic!("{other:?}"),
    }
}

fn synced(ring: &mut Ring, wanted: u64) -> io::Result<()> {
    match next(ring) {
        Completion::FileSynced { token, result } if token == wanted => result,
        other => panic!("{other:?}"),
    }
}

/// Bytes of which no two stretches are alike.
fn pattern(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| step()).collect()
}

#[test]
fn what_is_written_is_read_again() {
    let (mut ring, scratch) = (ring(), Scratch::new("round-trip"));
    let file = scratch.file();
    let bytes = pattern(700_000, 1);
    let chunks = vec![
        Bytes::copy_from_slice(&bytes[..1]),
        Bytes::new(),
        Bytes::copy_from_slice(&bytes[1..300_000]),
        Bytes::copy_from_slice(&bytes[300_000..]),
    ];
    ring.write_file(1, &file, 5000, chunks);
    assert_eq!(written(&mut ring, 1).unwrap(), 700_000);
    ring.sync_file(2, &file);
    synced(&mut ring, 2).unwrap();
    let content = scratch.content();
    assert!(content[..5000] == [0; 5000] && content[5000..] == bytes);
    ring.read_file(3, &file, 5100, 600_000, BytesMut::from(&b"before"[..]));
    let (buffer, result) = read(&mut ring, 3);
    assert_eq!(result.unwrap(), 600_000);
    assert!(buffer[..6] == *b"before" && buffer[6..] == bytes[100..600_100]);
}

/// A file's first read is done elsewhere than the next ones, the many of a turn elsewhere than the few.
#[test]
fn reads_are_whole_whoever_does_them() {
    let (mut ring, scratch) = (ring(), Scratch::new("reads"));
    let bytes = pattern(2_000_000, 6);
    scratch.file.write_all_at(&bytes, 0).unwrap();
    let file = scratch.file();
    for reads in [1, 2, 60] {
        for token in 0..reads {
            ring.read_file(token, &file, 11 * token, 1_000_000, BytesMut::new());
        }
        for _ in 0..reads {
            let Completion::FileRead { token, buffer, result } = next(&mut ring) else { panic!() };
            assert_eq!(result.unwrap(), 1_000_000);
            assert!(buffer == bytes[11 * token as usize..][..1_000_000]);
        }
    }
}

#[test]
fn more_chunks_than_the_kernel_takes_at_once_are_written_in_order() {
    let (mut ring, scratch) = (ring(), Scratch::new("chunks"));
    let bytes = pattern(5000 * 37, 2);
    ring.write_file(1, &scratch.file(), 0, bytes.chunks(37).map(Bytes::copy_from_slice).collect());
    assert_eq!(written(&mut ring, 1).unwrap(), bytes.len());
    assert!(scratch.content() == bytes);
}

#[test]
fn nothing_is_written_and_read_as_well() {
    let (mut ring, scratch) = (ring(), Scratch::new("nothing"));
    let file = scratch.file();
    ring.write_file(1, &file, 0, Vec::new());
    assert_eq!(written(&mut ring, 1).unwrap(), 0);
    ring.write_file(2, &file, 0, vec![Bytes::new()]);
    assert_eq!(written(&mut ring, 2).unwrap(), 0);
    ring.read_file(3, &file, 0, 0, BytesMut::new());
    assert_eq!(read(&mut ring, 3).1.unwrap(), 0);
}

#[test]
fn a_read_is_short_at_the_files_end_and_empty_behind_it() {
    let (mut ring, scratch) = (ring(), Scratch::new("end"));
    let file = scratch.file();
    let bytes = pattern(10_000, 3);
    scratch.file.write_all_at(&bytes, 0).unwrap();
    ring.read_file(1, &file, 9000, 4096, BytesMut::new());
    let (buffer, result) = read(&mut ring, 1);
    assert_eq!(result.unwrap(), 1000);
    assert!(buffer == bytes[9000..]);
    for offset in [10_000, 1 << 40] {
        ring.read_file(2, &file, offset, 4096, BytesMut::new());
        assert_eq!(read(&mut ring, 2).1.unwrap(), 0);
    }
    // Not the descriptor's own position, which -1 would be.
    ring.read_file(3, &file, u64::MAX, 4096, BytesMut::new());
    assert!(!matches!(read(&mut ring, 3).1, Ok(1..)));
}

#[test]
fn errors_are_told() {
    let (mut ring, scratch) = (ring(), Scratch::new("errors"));
    let code = |error: io::Error| error.raw_os_error();
    let read_only = File::from(std::fs::File::open(&scratch.path).unwrap());
    ring.write_file(1, &read_only, 0, vec![Bytes::from_static(b"x")]);
    assert_eq!(written(&mut ring, 1).map_err(code), Err(Some(libc::EBADF)));
    let write_only = File::from(OpenOptions::new().write(true).open(&scratch.path).unwrap());
    ring.read_file(2, &write_only, 0, 10, BytesMut::new());
    assert_eq!(read(&mut ring, 2).1.map_err(code), Err(Some(libc::EBADF)));
    let full = File::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    ring.write_file(3, &full, 0, vec![Bytes::from(vec![0; 1 << 20])]);
    assert_eq!(written(&mut ring, 3).unwrap_err().kind(), io::ErrorKind::StorageFull);
    let (pipe, _writer) = io::pipe().unwrap();
    ring.sync_file(4, &pipe_end(pipe));
    assert_eq!(synced(&mut ring, 4).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn hundreds_of_operations_on_many_files_are_under_way_at_once() {
    const FILES: usize = 40;
    const WRITES: usize = 16;
    const BYTES: usize = 50_000;
    let mut ring = ring();
    let all: Vec<_> = (0..FILES).map(|number| Scratch::new(&format!("many-{number}"))).collect();
    let contents: Vec<_> = (0..FILES).map(|number| pattern(WRITES * BYTES, number as u32 * 2)).collect();
    // 640 writes are more than the submission queue holds.
    for (number, scratch) in all.iter().enumerate() {
        let file = scratch.file();
        for write in 0..WRITES {
            let range = write * BYTES..(write + 1) * BYTES;
            let chunks = contents[number][range].chunks(7000).map(Bytes::copy_from_slice).collect();
            ring.write_file((number * WRITES + write) as u64, &file, (write * BYTES) as u64, chunks);
        }
    }
    let mut tokens = Vec::new();
    while tokens.len() < FILES * WRITES {
        let Completion::FileWritten { token, result } = next(&mut ring) else { panic!() };
        assert_eq!(result.unwrap(), BYTES);
        tokens.push(token);
    }
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..(FILES * WRITES) as u64), "each once");
    for (number, scratch) in all.iter().enumerate() {
        ring.sync_file(1000, &scratch.file());
        ring.read_file(number as u64, &scratch.file(), 0, WRITES * BYTES, BytesMut::new());
    }
    for _ in 0..2 * FILES {
        match next(&mut ring) {
            Completion::FileRead { token, buffer, result } => {
                assert_eq!(result.unwrap(), WRITES * BYTES);
                assert!(buffer == contents[token as usize]);
            }
            Completion::FileSynced { token: 1000, result } => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_write_that_waited_for_another_overwrites_it() {
    let (mut ring, scratch) = (ring(), Scratch::new("order"));
    let file = scratch.file();
    for round in 0..50u8 {
        for byte in [round, round + 100] {
            ring.write_file(1, &file, 0, vec![Bytes::from(vec![byte; 100_000])]);
            assert_eq!(written(&mut ring, 1).unwrap(), 100_000);
        }
        assert!(scratch.content() == [round + 100; 100_000]);
    }
}

/// The kernel takes a part only when the reader is slow.
#[test]
fn a_write_goes_on_after_a_short_one() {
    let mut ring = ring();
    let (mut reader, writer) = io::pipe().unwrap();
    let bytes = pattern(1_500_000, 4);
    let chunks = bytes.chunks(999).map(Bytes::copy_from_slice).collect();
    ring.write_file(1, &pipe_end(writer), 0, chunks);
    ring.submit().unwrap();
    let mut got = vec![0; bytes.len()];
    let thread = std::thread::spawn(move || {
        reader.read_exact(&mut got).unwrap();
        got
    });
    assert_eq!(written(&mut ring, 1).unwrap(), bytes.len());
    assert!(thread.join().unwrap() == bytes);
}

#[test]
fn a_read_goes_on_after_a_short_one() {
    let mut ring = ring();
    let (reader, mut writer) = io::pipe().unwrap();
    let bytes = pattern(900_000, 5);
    ring.read_file(1, &pipe_end(reader), 0, 1 << 20, BytesMut::new());
    ring.submit().unwrap();
    let sent = bytes.clone();
    let thread =
        std::thread::spawn(move || sent.chunks(777).for_each(|part| writer.write_all(part).unwrap()));
    let (buffer, result) = read(&mut ring, 1);
    assert_eq!(result.unwrap(), bytes.len());
    assert!(buffer == bytes);
    thread.join().unwrap();
}

#[test]
fn an_error_in_the_middle_of_a_write_is_told() {
    let (mut ring, small) = (ring(), memory_file_of(3 * 4096));
    let file = File::from(small.try_clone().unwrap());
    ring.write_file(1, &file, 0, vec![Bytes::from(vec![7; 2 * 4096]), Bytes::from(vec![8; 3 * 4096])]);
    assert_eq!(written(&mut ring, 1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    let mut content = [0; 3 * 4096];
    small.read_exact_at(&mut content, 0).unwrap();
    assert!(content[..2 * 4096] == [7; 2 * 4096] && content[2 * 4096..] == [8; 4096]);
}

/// A file that cannot grow.
fn memory_file_of(bytes: u64) -> std::fs::File {
    // SAFETY: the name is a C string that lives on; the result is checked before it is owned.
    let fd = unsafe { libc::memfd_create(c"small".as_ptr(), libc::MFD_ALLOW_SEALING) };
    assert!(fd >= 0);
    // SAFETY: `fd` is a fresh descriptor that nobody else owns.
    let file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.set_len(bytes).unwrap();
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_GROW) }, 0);
    file
}

fn pipe_end(end: impl Into<OwnedFd>) -> File {
    File::from(std::fs::File::from(end.into()))
}

/// The other end of a pipe tells when the last descriptor is closed.
#[test]
fn a_file_is_closed_when_the_caller_and_the_operations_have_done_with_it() {
    let mut ring = ring();
    let write = |ring: &mut Ring| {
        let (reader, writer) = io::pipe().unwrap();
        let file = pipe_end(writer);
        ring.write_file(1, &file, 0, vec![Bytes::from_static(b"last words")]);
        (reader, file)
    };
    let (reader, file) = write(&mut ring);
    drop(file);
    assert_eq!(written(&mut ring, 1).unwrap(), 10);
    assert!(!ring.prepare_sleep(), "the close is still to be submitted");
    ring.submit().unwrap();
    assert_eq!(io::read_to_string(reader).unwrap(), "last words");
    // With the ring's end, and after it.
    let (before, file) = write(&mut ring);
    drop(file);
    written(&mut ring, 1).unwrap();
    let (after, file) = write(&mut ring);
    written(&mut ring, 1).unwrap();
    drop(ring);
    assert_eq!(io::read_to_string(before).unwrap(), "last words");
    drop(file);
    assert_eq!(io::read_to_string(after).unwrap(), "last words");
    // Without any.
    let (reader, writer) = io::pipe().unwrap();
    drop(pipe_end(writer));
    assert_eq!(io::read_to_string(reader).unwrap(), "");
}

#[test]
fn completions_of_files_end_a_sleep() {
    let udp = bind_udp("[::]:0".parse().unwrap()).unwrap();
    let scratch = Scratch::new("sleep");
    let executor = LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(32).make().unwrap();
    executor.run(async move {
        let waker = Waker::new().unwrap();
        let mut ring = Ring::new(waker.clone(), udp, 0).unwrap();
        let sleeper = Sleeper::new(&waker).unwrap();
        let file = scratch.file();
        ring.write_file(0, &file, 0, vec![Bytes::from(vec![7; 4 << 20])]);
        let mut steps = 0;
        while steps < 3 {
            ring.submit().unwrap();
            while let Some(completion) = ring.reap() {
                match completion {
                    Completion::FileWritten { result, .. } => {
                        result.unwrap();
                        ring.sync_file(1, &file);
                    }
                    Completion::FileSynced { result, .. } => {
                        result.unwrap();
                        ring.read_file(2, &file, 0, 4 << 20, BytesMut::new());
                    }
                    Completion::FileRead { result, .. } => assert_eq!(result.unwrap(), 4 << 20),
                    other => panic!("{other:?}"),
                }
                steps += 1;
            }
            if steps < 3 && ring.prepare_sleep() {
                sleeper.sleep().await.unwrap();
                ring.awake();
            }
        }
    });
}

#[test]
fn a_ring_may_end_while_files_are_written_read_and_synced() {
    let scratches: Vec<_> = (0..8).map(|number| Scratch::new(&format!("drop-{number}"))).collect();
    // Submitted or not; a turn later or not.
    for turns in 0..3 {
        let mut ring = ring();
        for scratch in &scratches {
            let file = scratch.file();
            ring.write_file(1, &file, 0, (0..600).map(|_| Bytes::from(vec![1; 9000])).collect());
            ring.read_file(2, &file, 0, 5 << 20, BytesMut::new());
            ring.sync_file(3, &file);
        }
        for _ in 0..turns {
            ring.submit().unwrap();
        }
        drop(ring);
        for scratch in &scratches {
            assert_eq!(scratch.descriptors(), 1, "only ours");
        }
        // Whatever was read into is ours again or nobody's: allocations that follow stay as they are.
        let fresh: Vec<_> = (0..16).map(|byte| vec![byte; 5 << 20]).collect();
        assert!(fresh.iter().zip(0u8..).all(|(bytes, byte)| bytes.iter().all(|&there| there == byte)));
    }
}

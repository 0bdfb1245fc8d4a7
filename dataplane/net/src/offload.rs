//! UDP segmentation offload (`UDP_SEGMENT`, udp(7)): probe, use, and switch off after a refusal.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;

/// Whether one send may carry many packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segmentation {
    /// The kernel cuts a run into packets.
    Kernel,
    /// One send a packet: not supported, or refused by a device.
    Off,
}

/// Probes a UDP socket.
pub(crate) fn probe(socket: &impl AsRawFd) -> Segmentation {
    let mut size: libc::c_int = 0;
    let mut length = size_of_val(&size) as libc::socklen_t;
    // SAFETY: reads an int option into a live local with its true size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw mut size).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Segmentation::Kernel } else { Segmentation::Off }
}

/// True for errors by which a kernel or device refuses a segmented send.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP))
}

/// True for those of them that say that no destination of the device can be sent to that way.
pub(crate) fn is_refusal_of_all(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EOPNOTSUPP))
}

/// A control message that the kernel may read until the send completes: kept for good, one per segment size.
#[derive(Debug)]
pub(crate) struct ControlMessages {
    by_size: HashMap<u16, Box<ControlMessage>>,
    /// The last one asked for: a run goes to many viewers in a row.
    last: Option<(u16, *mut libc::c_void)>,
}

/// Room for `cmsghdr` and a `u16`, aligned as `cmsghdr`.
pub(crate) const CONTROL_LEN: usize = 24;

#[derive(Debug)]
#[repr(C, align(8))]
struct ControlMessage([u8; CONTROL_LEN]);

impl ControlMessages {
    pub(crate) fn new() -> Self {
        Self { by_size: HashMap::new(), last: None }
    }

    /// The control message for packets of `segment_bytes`. At most 65,535 exist; in practice, sizes up to the MTU.
    pub(crate) fn segment(&mut self, segment_bytes: u16) -> *mut libc::c_void {
        if let Some((size, message)) = self.last
            && size == segment_bytes
        {
            return message;
        }
        let message = self.by_size.entry(segment_bytes).or_insert_with(|| {
            let mut bytes = [0; CONTROL_LEN];
            // SAFETY: CMSG_LEN only computes.
            let length = unsafe { libc::CMSG_LEN(2) } as usize;
            bytes[..8].copy_from_slice(&length.to_ne_bytes());
            bytes[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
            bytes[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
            bytes[16..18].copy_from_slice(&segment_bytes.to_ne_bytes());
            Box::new(ControlMessage(bytes))
        });
        let message = message.0.as_mut_ptr().cast();
        self.last = Some((segment_bytes, message));
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_message_is_laid_out_as_the_c_library_would() {
        let mut messages = ControlMessages::new();
        let pointer = messages.segment(1200).cast::<libc::cmsghdr>();
        // SAFETY: the pointer is to a live, aligned control message.
        let header = unsafe { *pointer };
        assert_eq!((header.cmsg_level, header.cmsg_type), (libc::SOL_UDP, libc::UDP_SEGMENT));
        // SAFETY: CMSG_LEN only computes; CMSG_DATA points behind the header inside the 24 bytes.
        let (length, size) =
            unsafe { (libc::CMSG_LEN(2) as usize, libc::CMSG_DATA(pointer).cast::<u16>().read_unaligned()) };
        assert_eq!((header.cmsg_len, size), (length, 1200));
    }
}

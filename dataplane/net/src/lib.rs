//! The io_uring ring, sockets and segmented sends.

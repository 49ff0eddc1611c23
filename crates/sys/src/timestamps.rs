//! Socket reads with the kernel's receive timestamp (`SO_TIMESTAMPING`).
//!
//! What a kernel timestamp is: the arrival of the last segment merged in the socket's queue, on the realtime clock; exact when
//! one message was waiting, an upper bound otherwise. Enabling is asynchronous in the kernel (a static key), so whoever
//! uses them keeps one such socket open from before the first connection ([`TimestampKeeper`]).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::clocks::RealtimeNs;

/// Bytes read, and the kernel's timestamp if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Bytes in the buffer; 0: end of stream.
    pub len: usize,
    /// Arrival of the last segment.
    pub kernel: Option<RealtimeNs>,
}

/// Ask for software receive timestamps. False where the socket has none.
pub fn enable_timestamps(fd: RawFd) -> bool {
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    // SAFETY: `flags` lives for the call and its size is given.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            (&raw const flags).cast(),
            size_of::<libc::c_uint>() as libc::socklen_t,
        ) == 0
    }
}

/// Room for one `scm_timestamping` (three timespecs) and its header.
#[repr(align(8))]
struct Control([u8; 128]);

/// Read into `buf` without blocking.
#[inline]
pub fn read(fd: RawFd, buf: &mut [u8], with_timestamp: bool) -> io::Result<Read> {
    if !with_timestamp {
        // SAFETY: the buffer is valid for its length.
        let length = unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), 0) };
        return if length < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Read {
                len: length as usize,
                kernel: None,
            })
        };
    }
    let mut control = Control([0; 128]);
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: all pointers in `msg` point to live, writable memory of the stated sizes for the whole call; the control
    // messages are walked with the macros made for it, and the timespec is read unaligned.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = control.0.len();
        let length = libc::recvmsg(fd, &raw mut msg, 0);
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut kernel = None;
        let mut header = libc::CMSG_FIRSTHDR(&raw const msg);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_TIMESTAMPING {
                let t: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                if t.tv_sec != 0 {
                    kernel = Some(RealtimeNs(t.tv_sec * 1_000_000_000 + t.tv_nsec));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const msg, header);
        }
        Ok(Read {
            len: length as usize,
            kernel,
        })
    }
}

/// A socket that keeps the kernel's timestamping switched on while it lives.
#[derive(Debug)]
pub struct TimestampKeeper {
    _socket: socket2::Socket,
}

impl TimestampKeeper {
    /// None where the system has no timestamps.
    pub fn open() -> Option<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
        enable_timestamps(socket.as_raw_fd()).then_some(Self { _socket: socket })
    }
}

//! The network's round trip as the kernel knows it, and the choice of a local port.

use std::os::fd::RawFd;

/// Words of the kernel's `tcp_info` (`linux/tcp.h`) that hold the smallest and the smoothed round trip, µs. libc's struct ends before the first.
const TCP_INFO_MIN_RTT: usize = 37;
const TCP_INFO_RTT: usize = 17;

/// Round trip of a TCP connection, ns, as the kernel knows it (`TCP_INFO`): the smallest of the last minutes.
///
/// Not the smoothed one: a server that acknowledges a request only with its response, or after the delayed-ACK timer, adds up to
/// 40 ms to that, and they are no property of the network. Kernels before 4.6 have only the smoothed one.
pub fn tcp_rtt_ns(fd: RawFd) -> Option<i64> {
    let mut info = [0u32; 64];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is plain old data, writable, and its size is given.
    let ok = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        ) == 0
    };
    let has_min = len as usize >= (TCP_INFO_MIN_RTT + 1) * size_of::<u32>();
    let us = info[if has_min { TCP_INFO_MIN_RTT } else { TCP_INFO_RTT }];
    (ok && us > 0 && us < u32::MAX).then(|| i64::from(us) * 1000)
}

/// `IP_BIND_ADDRESS_NO_PORT` of `linux/in.h`.
const BIND_ADDRESS_NO_PORT: libc::c_int = 24;

/// Choose the local port of a socket that will be bound to an address only when it connects, so that a port can serve many
/// destinations. False on kernels before 4.2; then each connection takes a port for itself.
pub fn choose_port_late(fd: RawFd) -> bool {
    let on: libc::c_int = 1;
    // SAFETY: `on` lives for the call and its size is given.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_IP,
            BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        ) == 0
    }
}

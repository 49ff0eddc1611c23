//! What a write to each of many connections costs at all: in every round one small message to each, nothing computed.
//!
//! `bare_writer --connections 4000 --bytes 230 --gap-ms 25 --seconds 5 --server-core 0 --client-core 1` → µs of wall time and
//! per write within a round, and the rounds per second. The other ends are read by a thread on the client's core.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

fn main() -> Result<(), String> {
    let args = yardsticks::Args::from_env()?;
    let connections: usize = args.get("connections", 4000)?;
    let bytes: usize = args.get("bytes", 230)?;
    let gap = Duration::from_secs_f64(args.get("gap-ms", 25.0)? / 1e3);
    let seconds: f64 = args.get("seconds", 5.0)?;
    let (server_core, client_core): (usize, usize) = (args.get("server-core", 0)?, args.get("client-core", 1)?);

    // Both ends of each connection are this process's.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(|e| format!("cannot open more files: {e}"))?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    // Reads until the program ends.
    std::thread::spawn(move || read_all(address, connections, client_core));
    pin(server_core)?;
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (stream, _) = listener.accept().map_err(|e| format!("cannot accept: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        streams.push(stream);
    }

    let message = vec![b'x'; bytes];
    let begin = Instant::now();
    let (mut rounds, mut busy) = (0_u32, Duration::ZERO);
    while begin.elapsed().as_secs_f64() < seconds {
        let due = begin + gap * rounds;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let at = Instant::now();
        for stream in &mut streams {
            stream.write_all(&message).map_err(|e| format!("cannot write: {e}"))?;
        }
        busy += at.elapsed();
        rounds += 1;
    }
    let writes = f64::from(rounds) * connections as f64;
    yardsticks::answer(&[
        ("us_per_write", busy.as_secs_f64() * 1e6 / writes),
        ("rounds_per_s", f64::from(rounds) / begin.elapsed().as_secs_f64()),
    ])
}

fn pin(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|e| format!("cannot run on core {core}: {e}"))
}

fn read_all(address: SocketAddr, connections: usize, core: usize) -> Result<(), String> {
    pin(core)?;
    let mut poll = Poll::new().map_err(|e| e.to_string())?;
    let mut streams = Vec::with_capacity(connections);
    for number in 0..connections {
        let stream = std::net::TcpStream::connect(address).map_err(|e| format!("cannot connect: {e}"))?;
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(number), Interest::READABLE)
            .map_err(|e| e.to_string())?;
        streams.push(stream);
    }
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).map_err(|e| e.to_string())?;
        for event in &events {
            loop {
                match streams[event.token().0].read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
    }
}

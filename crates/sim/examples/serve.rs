//! Runs the simulated server until its standard input ends or `stop` is typed: `serve '{"ttft_ms": 50}'`.
//!
//! Prints one line of JSON with port and URL when it is ready; `stats` on standard input prints counters.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program's output

use aiperf_sim::{SimOptions, SimServer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::env::args().nth(1).unwrap_or_else(|| "{}".into());
    let options: SimOptions = serde_json::from_str(&text)?;
    let server = SimServer::start(options)?;
    println!(
        "{}",
        serde_json::json!({"port": server.port(), "url": server.url(), "pid": std::process::id()})
    );
    for line in std::io::stdin().lines() {
        match line?.trim() {
            "stop" => break,
            "flush" => {
                server.flush_ledger()?;
                println!("flushed");
            }
            _ => println!("{}", serde_json::to_string(&server.stats())?),
        }
    }
    println!("{}", serde_json::to_string(&server.stats())?);
    server.stop()?;
    Ok(())
}

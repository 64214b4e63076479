//! Clients of a server on this machine, until they are dropped.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Clients at the same time.
const CONNECTIONS: u32 = 16;
/// The HTTP load runs so long, and then again.
const ROUND: &str = "20";

/// What a server speaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    Http,
    Redis,
}

pub(super) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// `rate` requests a second in all; `generator` is the fixture that sends those of HTTP.
    pub(super) fn start(generator: &Path, protocol: Protocol, port: u16, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = match protocol {
            Protocol::Http => {
                let (stop, generator) = (Arc::clone(&stop), generator.to_owned());
                vec![std::thread::spawn(move || http(&stop, &generator, port, rate))]
            }
            Protocol::Redis => (0..CONNECTIONS)
                .map(|number| {
                    let stop = Arc::clone(&stop);
                    let pause = Duration::from_secs(1) * CONNECTIONS / rate.max(1);
                    // A client whose server has ended has nothing left to do.
                    std::thread::spawn(move || drop(redis(&stop, port, number, pause)))
                })
                .collect(),
        };
        Self { stop, clients }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _panicked = client.join();
        }
    }
}

fn http(stop: &AtomicBool, generator: &Path, port: u16, rate: u32) {
    let numbers = [port.to_string(), ROUND.to_owned(), CONNECTIONS.to_string(), rate.to_string()];
    while !stop.load(Ordering::Relaxed) {
        let mut command = Command::new(generator);
        let Ok(mut child) = command.args(&numbers).stdout(Stdio::null()).spawn() else { return };
        while !stop.load(Ordering::Relaxed) && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        // Where it has ended by itself, this does nothing.
        let _ended = child.kill();
        let _status = child.wait();
    }
}

/// Sets, gets and publishes; every fourth client has subscribed and waits for what is published.
fn redis(stop: &AtomicBool, port: u16, number: u32, pause: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut answer = [0; 4096];
    let name = format!("key{number}");
    let commands: &[&[&str]] = if number.is_multiple_of(4) {
        &[&["SUBSCRIBE", "news"]]
    } else {
        &[&["SET", &name, "value"], &["GET", &name], &["PUBLISH", "news", "value"], &["PING"]]
    };
    for command in commands.iter().cycle() {
        stream.write_all(spoken(command).as_bytes())?;
        while number.is_multiple_of(4) && !stop.load(Ordering::Relaxed) {
            let _nothing_yet = stream.read(&mut answer);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _late = stream.read(&mut answer);
        std::thread::sleep(pause);
    }
    Ok(())
}

/// A command as an array of bulk strings, the Redis protocol's form of it.
fn spoken(command: &[&str]) -> String {
    let words: Vec<String> = command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{}", command.len(), words.concat())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_command_is_an_array_of_strings() {
        assert_eq!(super::spoken(&["GET", "key"]), "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
    }
}

//! A line with delay, loss and a rate between two network devices (TAP): standard input is one, standard output the other.
//!
//! `wire delay_ms=50,rate=1000000000` passes Ethernet frames both ways until SIGTERM, then prints what it passed and lost
//! on standard error, as JSON. Whoever starts it makes the devices and hands them over (`scripts/benches/tap.py`), each with
//! a virtio header before its frames: so large packets that the sender has not yet cut pass whole, and one thread a
//! direction keeps up with a gigabit.
//!
//! **Invariant:** frames come out unchanged and in order; what is under way is bounded (`UNDER_WAY`, and by `Wire`'s queue).
//! **Not here:** which frame comes out when (`wire.rs`).

#![allow(clippy::print_stderr, reason = "a program for the terminal")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hubless_tests::{Wire, WireOptions};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// Frames on their way in one direction: 200 ms at a gigabit in packets of 1,500 bytes.
const UNDER_WAY: usize = 1 << 14;
/// The virtio header before each frame.
const HEADER: usize = 10;
/// The header, and the largest frame that a device hands over uncut.
const LARGEST: usize = HEADER + 14 + 65_535 + 64;
/// What the header calls a frame that need not be cut, and one of UDP that must.
const WHOLE: u8 = 0;
const UDP: u8 = 5;

type Frame = (Instant, Box<[u8]>);

fn main() -> Result<()> {
    let options: WireOptions = std::env::args().nth(1).unwrap_or_default().parse()?;
    let (near, far) = (device(std::io::stdin().as_fd())?, device(std::io::stdout().as_fd())?);
    let there = pass(near.try_clone()?, far.try_clone()?, Wire::new(options, 0));
    let back = pass(far, near, Wire::new(options, 1));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        signal(SignalKind::terminate())?.recv().await.context("no signal can come any more")
    })?;
    eprintln!("{}", json!({ "there": counted(&there), "back": counted(&back) }));
    Ok(())
}

fn device(descriptor: BorrowedFd<'_>) -> Result<File> {
    Ok(descriptor.try_clone_to_owned().context("standard input and output must be devices")?.into())
}

fn counted(wire: &Mutex<Wire>) -> Value {
    let count = wire.lock().unwrap_or_else(PoisonError::into_inner).count();
    json!({ "passed": count.passed, "bytes": count.bytes, "lost": count.lost, "dropped": count.dropped })
}

/// Starts one direction: a thread that takes frames in, and one that lets each out when it is due.
fn pass(from: File, to: File, wire: Wire) -> Arc<Mutex<Wire>> {
    let wire = Arc::new(Mutex::new(wire));
    let (queue, due) = sync_channel(UNDER_WAY);
    let taking = wire.clone();
    thread::spawn(move || take(from, &taking, &queue));
    thread::spawn(move || give(to, &due));
    wire
}

fn take(mut from: File, wire: &Mutex<Wire>, queue: &SyncSender<Frame>) {
    let began = Instant::now();
    let mut frame = vec![0; LARGEST];
    while let Ok(len @ 1..) = from.read(&mut frame) {
        let out =
            wire.lock().unwrap_or_else(PoisonError::into_inner).put(began.elapsed(), bytes(&frame[..len]));
        let Some(out) = out else { continue };
        // A full queue drops, as a router's does.
        if let Err(TrySendError::Disconnected(_)) = queue.try_send((began + out, frame[..len].into())) {
            break;
        }
    }
}

fn give(mut to: File, due: &Receiver<Frame>) {
    for (when, frame) in due {
        let early = when.saturating_duration_since(Instant::now());
        if early > Duration::ZERO {
            thread::sleep(early);
        }
        // A device that is down, or going, takes nothing.
        let _ = to.write_all(&frame);
    }
}

/// Bytes that a frame with its virtio header is on the line: an uncut one carries its headers once for each packet.
fn bytes(frame: &[u8]) -> usize {
    let Some((header, packet)) = frame.split_at_checked(HEADER) else { return frame.len() };
    let field = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    // Into how much payload it is to be cut, and where the header above IP begins.
    let (kind, size, transport) = (header[1], field(4), field(6));
    if kind == WHOLE || size == 0 {
        return packet.len();
    }
    let above = match (kind, packet.get(transport + 12)) {
        (UDP, _) => 8,
        (_, Some(offset)) => usize::from(offset >> 4) * 4,
        (_, None) => 20,
    };
    let headers = transport + above;
    let packets = packet.len().saturating_sub(headers).div_ceil(size).max(1);
    packet.len() + (packets - 1) * headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, size: u16, transport: u8, len: usize) -> Vec<u8> {
        let mut frame = vec![1, kind, 0, 0, size.to_le_bytes()[0], size.to_le_bytes()[1], transport, 0, 0, 0];
        frame.resize(HEADER + len, 0x80);
        frame
    }

    /// 3,000 bytes of payload in packets of 1,000 are three packets, each with 42 bytes of headers (TCP's: 66).
    #[test]
    fn an_uncut_frame_counts_its_headers_for_each_packet() {
        assert_eq!(bytes(&frame(UDP, 1000, 34, 3042)), 3 * 1042);
        assert_eq!(bytes(&frame(1, 1000, 34, 3066)), 3 * 1066);
    }

    /// One packet, one that is shorter than it says, and what is no frame at all.
    #[test]
    fn other_frames_are_as_long_as_they_are() {
        assert_eq!(bytes(&frame(WHOLE, 0, 0, 1514)), 1514);
        assert_eq!(bytes(&frame(1, 1000, 200, 60)), 60);
        assert_eq!(bytes(&[0; 4]), 4);
    }
}

//! One direction of a long line, worked out in numbers: when each packet that is put in comes out, or that it never does.
//!
//! **Invariant:** packets come out in the order in which they went in; the same seed loses the same packets; what is on its
//! way is bounded by the line's rate, its delay and its queue.
//! **Not here:** packets themselves, clocks and devices (`bin/wire.rs`).

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What both directions of a line are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WireOptions {
    /// From one end to the other; half a round trip.
    pub delay: Duration,
    /// Bits a second; 0 is no limit.
    pub rate: u64,
    /// The share of packets that is lost, 0 to 1.
    pub loss: f64,
    /// The longest that a packet waits for its turn; what would wait longer is dropped.
    pub queue: Duration,
    /// From which losses are drawn.
    pub seed: u64,
}

impl Default for WireOptions {
    fn default() -> Self {
        Self { delay: Duration::ZERO, rate: 0, loss: 0.0, queue: Duration::from_millis(50), seed: 1 }
    }
}

impl FromStr for WireOptions {
    type Err = anyhow::Error;

    /// From `delay_ms=50,rate=100000000,loss=0.01,queue_ms=50,seed=7`; what is left out is as in the default.
    fn from_str(text: &str) -> Result<Self> {
        let mut options = Self::default();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').with_context(|| format!("`{pair}` is not KEY=VALUE"))?;
            let wrong = || format!("`{value}` is no value for `{key}`");
            match key {
                "delay_ms" => options.delay = Duration::from_millis(value.parse().with_context(wrong)?),
                "queue_ms" => options.queue = Duration::from_millis(value.parse().with_context(wrong)?),
                "rate" => options.rate = value.parse().with_context(wrong)?,
                "seed" => options.seed = value.parse().with_context(wrong)?,
                "loss" => options.loss = value.parse().with_context(wrong)?,
                _ => bail!("`{key}` is none of delay_ms, rate, loss, queue_ms, seed"),
            }
        }
        ensure!((0.0..=1.0).contains(&options.loss), "`loss` is a share between 0 and 1");
        Ok(options)
    }
}

/// What became of the packets so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WireCount {
    /// Came through, or are on their way.
    pub passed: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
}

/// One direction of a line.
#[derive(Debug)]
pub struct Wire {
    options: WireOptions,
    chance: StdRng,
    /// When the last packet that was let in has left the sending end.
    free_at: Duration,
    count: WireCount,
}

impl Wire {
    /// An idle line. `direction` makes the two directions lose different packets.
    pub fn new(options: WireOptions, direction: u64) -> Self {
        let chance = StdRng::seed_from_u64(options.seed.wrapping_mul(2).wrapping_add(direction));
        Self { options, chance, free_at: Duration::ZERO, count: WireCount::default() }
    }

    /// Puts a packet of `bytes` in at `now` (since any fixed moment, never falling): when it comes out, if it does.
    pub fn put(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let starts = self.free_at.max(now);
        if starts - now > self.options.queue {
            self.count.dropped += 1;
            return None;
        }
        self.free_at = starts + self.time_to_send(bytes);
        // A lost packet took its time on the line like any other.
        if self.options.loss > 0.0 && self.chance.random_bool(self.options.loss) {
            self.count.lost += 1;
            return None;
        }
        self.count.passed += 1;
        self.count.bytes += bytes as u64;
        Some(self.free_at + self.options.delay)
    }

    /// What became of the packets so far.
    pub fn count(&self) -> WireCount {
        self.count
    }

    fn time_to_send(&self, bytes: usize) -> Duration {
        match self.options.rate {
            0 => Duration::ZERO,
            rate => Duration::from_nanos((bytes as u64).saturating_mul(8_000_000_000) / rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn put(wire: &mut Wire, count: u64, every: Duration) -> Vec<Option<Duration>> {
        (0..count).map(|n| wire.put(every * n as u32, 1500)).collect()
    }

    /// Nothing but the delay, however many come at once.
    #[test]
    fn a_line_without_a_rate_only_delays() {
        let mut wire = Wire::new(WireOptions { delay: 50 * MS, ..WireOptions::default() }, 0);
        assert_eq!(wire.put(7 * MS, 1500), Some(57 * MS));
        assert_eq!(wire.put(7 * MS, 65_000), Some(57 * MS));
    }

    /// At 12 Mbit/s a packet of 1,500 bytes takes a millisecond: the second waits for the first.
    #[test]
    fn packets_take_their_turn_at_the_rate() {
        let options = WireOptions { delay: 10 * MS, rate: 12_000_000, ..WireOptions::default() };
        let mut wire = Wire::new(options, 0);
        assert_eq!(wire.put(Duration::ZERO, 1500), Some(11 * MS));
        assert_eq!(wire.put(Duration::ZERO, 1500), Some(12 * MS));
        assert_eq!(wire.put(100 * MS, 1500), Some(111 * MS));
    }

    /// Twice what the line carries goes in for ten seconds: half comes out, in order, and never later than queue and delay.
    #[test]
    fn an_overfull_line_drops_and_stays_at_its_rate() {
        let options =
            WireOptions { delay: 10 * MS, rate: 12_000_000, queue: 50 * MS, ..WireOptions::default() };
        let mut wire = Wire::new(options, 0);
        let out = put(&mut wire, 20_000, MS / 2);
        let times: Vec<_> = out.iter().flatten().collect();
        assert!((10_000..=10_060).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted());
        let latest = out.iter().enumerate().filter_map(|(n, out)| Some((*out)? - MS / 2 * n as u32)).max();
        assert!(latest <= Some(61 * MS), "{latest:?}");
        assert_eq!(wire.count().dropped + wire.count().passed, 20_000);
    }

    /// One in a hundred is lost, the same ones for the same seed, others for another seed and for the way back.
    #[test]
    fn a_seed_says_which_packets_are_lost() {
        let options = WireOptions { loss: 0.01, ..WireOptions::default() };
        let of = |options, direction| put(&mut Wire::new(options, direction), 100_000, MS);
        let first = of(options, 0);
        let lost = first.iter().filter(|out| out.is_none()).count();
        assert!((800..=1200).contains(&lost), "{lost}");
        assert_eq!(first, of(options, 0));
        assert_ne!(first, of(options, 1));
        assert_ne!(first, of(WireOptions { seed: 2, ..options }, 0));
    }

    /// Options are read as they are written, and wrong ones are refused with their names.
    #[test]
    fn options_are_read_or_refused() -> Result<()> {
        let options: WireOptions = "delay_ms=50,rate=1000000000,loss=0.01,queue_ms=20,seed=7".parse()?;
        let expected =
            WireOptions { delay: 50 * MS, rate: 1_000_000_000, loss: 0.01, queue: 20 * MS, seed: 7 };
        assert_eq!(options, expected);
        assert_eq!("".parse::<WireOptions>()?, WireOptions::default());
        for wrong in ["loss=2", "loss=-1", "loss=NaN", "speed=1", "rate", "rate=fast", "delay_ms=-5"] {
            assert!(wrong.parse::<WireOptions>().is_err(), "{wrong}");
        }
        Ok(())
    }
}

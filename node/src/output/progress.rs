//! How far a piece of work is: a bar on a terminal, a line now and then in a log, the events as they are for
//! machines.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::Output;
use super::human::{bytes, count, number, sources, text};

/// Time between two lines where no terminal shows a bar.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// Shows one piece of work.
pub(crate) struct ProgressView {
    how: How,
    total: u64,
}

enum How {
    Machine(Output),
    Bar(ProgressBar),
    Plain { next: Instant },
}

impl ProgressView {
    pub(super) fn new(out: Output) -> Self {
        let how = if out.is_json() {
            How::Machine(out)
        } else if io::stderr().is_terminal() {
            How::Bar(ProgressBar::no_length())
        } else {
            How::Plain { next: Instant::now() + PLAIN_INTERVAL }
        };
        Self { how, total: 0 }
    }

    /// Shows one event of the node.
    pub(crate) fn show(&mut self, step: Value) {
        if let How::Machine(out) = self.how {
            // A reader that is gone is noticed when the result is written.
            let _ = out.line(&step.to_string());
            return;
        }
        match step["event"].as_str().unwrap_or_default() {
            "note" => self.note(&text(&step, "text")),
            "total" => self.length(&step),
            "bytes" => self.position(&step),
            _ => {}
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }

    fn note(&self, text: &str) {
        match &self.how {
            How::Bar(bar) => bar.println(text),
            _ => say(text),
        }
    }

    fn length(&mut self, step: &Value) {
        self.total = number(step, "bytes");
        match &self.how {
            How::Bar(bar) => {
                bar.set_style(style());
                bar.set_length(self.total);
            }
            _ => say(&format!("{}, {}", count(number(step, "files"), "file"), bytes(self.total))),
        }
    }

    fn position(&mut self, step: &Value) {
        let (done, rate, from) = (number(step, "done"), number(step, "rate"), sources(&step["from"]));
        match &mut self.how {
            How::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(format!("{}{}", speed(self.total.saturating_sub(done), rate), from));
            }
            How::Plain { next } if Instant::now() >= *next => {
                *next = Instant::now() + PLAIN_INTERVAL;
                let left = speed(self.total.saturating_sub(done), rate);
                say(&format!("{} of {}  {left}{from}", bytes(done), bytes(self.total)));
            }
            _ => {}
        }
    }
}

impl Drop for ProgressView {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `12.0 MiB/s, 8 s left  `.
fn speed(left: u64, rate: u64) -> String {
    match left.checked_div(rate) {
        Some(seconds) => format!("{}/s, {seconds} s left  ", bytes(rate)),
        None => String::new(),
    }
}

const TEMPLATE: &str = "{bar:24} {binary_bytes}/{binary_total_bytes}  {wide_msg}";

fn style() -> ProgressStyle {
    ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_the_rate() {
        assert_eq!(speed(4096, 1024), "1.0 KiB/s, 4 s left  ");
        assert_eq!(speed(4096, 0), "");
    }

    #[test]
    fn the_bars_template_is_well_formed() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}

//! What the program shows: results on standard output, progress and errors on standard error.
//!
//! **Invariant:** with `--json`, standard output holds one JSON object a line and nothing else.
//! **Not here:** the log (`logging`).

mod human;
pub(crate) mod limits;
pub(crate) mod names;
mod progress;
pub(crate) mod proof;
pub(crate) mod report;
pub(crate) mod trace;

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::admin::done_line;
use crate::error::NodeError;
use crate::exit::Exit;

pub(crate) use progress::ProgressView;

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether machines read.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// A view for the progress of one piece of work.
    pub(crate) fn progress(self) -> ProgressView {
        ProgressView::new(self)
    }

    /// The result of a piece of work: for machines the line that ends its progress.
    pub(crate) fn done(
        self,
        result: &Value,
        report: impl FnOnce(&Value) -> String,
    ) -> Result<Exit, NodeError> {
        if self.json { self.line(&done_line(result).to_string()) } else { self.line(&report(result)) }
    }

    /// One object.
    pub(crate) fn object(
        self,
        value: &Value,
        report: impl FnOnce(&Value) -> String,
    ) -> Result<Exit, NodeError> {
        if self.json { self.line(&value.to_string()) } else { self.line(&report(value)) }
    }

    /// Many objects, a line each for machines.
    pub(crate) fn rows(
        self,
        list: &Value,
        report: impl FnOnce(&[Value]) -> String,
    ) -> Result<Exit, NodeError> {
        let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
        if !self.json {
            return self.line(&report(rows));
        }
        rows.iter().try_for_each(|row| self.line(&row.to_string()).map(drop))?;
        Ok(Exit::Ok)
    }

    /// An error and its hint, for people; with `as_json` also for machines, if they read.
    pub(crate) fn error(self, error: &NodeError, as_json: bool) {
        let (text, hint) = (error.chain(), error.hint());
        let mut shown = format!("error: {text}\n");
        if let Some(hint) = &hint {
            shown.push_str(&format!("hint: {hint}\n"));
        }
        let _ = io::stderr().write_all(shown.as_bytes());
        if self.json && as_json {
            let line = json!({ "event": "error", "error": text, "hint": hint, "kind": error.kind() });
            let _ = self.line(&line.to_string());
        }
    }

    /// Bytes as they are.
    pub(crate) fn text(self, bytes: &[u8]) -> Result<Exit, NodeError> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // Whoever read has read enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
            Err(source) => Err(NodeError::Io { doing: "write to standard output".into(), source }),
            Ok(()) => Ok(Exit::Ok),
        }
    }

    /// One line (or several, for people), sent at once.
    pub(crate) fn line(self, line: &str) -> Result<Exit, NodeError> {
        if line.is_empty() {
            return Ok(Exit::Ok);
        }
        self.text(format!("{line}\n").as_bytes())
    }
}

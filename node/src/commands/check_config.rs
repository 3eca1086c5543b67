//! `hubless check-config`: test a config file without starting anything.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::Context;
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::exit::Exit;

/// Test a config file
///
/// Names file, line, key and value of what is wrong, and what it must be. Exit code 2 if anything is.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckConfigArgs {
    /// The config [default: `config.toml` in the data folder]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl CheckConfigArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let path = self.file.unwrap_or_else(|| context.data.join(CONFIG_FILE));
        Config::load(&path)?;
        let answer = json!({ "config": path.display().to_string(), "ok": true });
        context.out.object(&answer, |_| format!("{}: ok", path.display()))
    }
}

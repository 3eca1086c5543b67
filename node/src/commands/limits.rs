//! `hubless limits`: the caps, what is used of them, and others for a while.

use std::time::Duration;

use hubless_limits::{Each, Rate, Volume};
use hubless_mirror::LimitsRequest;

use super::reach::value;
use crate::admin::AdminClient;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::limits;

/// Show or change how much goes out and comes in
///
/// Without options, shows the rates that hold now, the hours in which others do, and the bytes of this month. What is set
/// here holds at once, above the config, until `--for` has passed, `--reset`, or the node's end. A rate is written
/// `20 MB/s` or `50 Mbit/s`, a size `500 GB`, either `unlimited`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("rates").args(["up", "down", "origin"]).multiple(true))]
pub(crate) struct LimitsArgs {
    /// Bytes a second to other nodes
    #[arg(long, value_name = "RATE")]
    up: Option<Rate>,
    /// Bytes a second from other nodes and origins together
    #[arg(long, value_name = "RATE")]
    down: Option<Rate>,
    /// Bytes a second from origins
    #[arg(long, value_name = "RATE")]
    origin: Option<Rate>,
    /// Bytes a calendar month to other nodes
    #[arg(long, value_name = "SIZE")]
    up_month: Option<Volume>,
    /// Bytes a calendar month from other nodes and origins together
    #[arg(long, value_name = "SIZE")]
    down_month: Option<Volume>,
    /// Bytes a calendar month from origins
    #[arg(long, value_name = "SIZE")]
    origin_month: Option<Volume>,
    /// How long the rates hold, like `2h` or `90m`
    #[arg(long = "for", value_name = "TIME", value_parser = span, requires = "rates")]
    span: Option<Duration>,
    /// Take back first what was set before
    #[arg(long)]
    reset: bool,
}

/// Longest time that rates may be set for: what is meant to stay stands in the config.
const LONGEST_SPAN: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a time of a second to a year.
fn span(text: &str) -> Result<Duration, String> {
    let time = humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time {
        _ if time < Duration::from_secs(1) => Err("at least 1s".into()),
        _ if time > LONGEST_SPAN => {
            Err("at most a year; what is meant to stay belongs into `[limits]`".into())
        }
        _ => Ok(time),
    }
}

impl LimitsArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let mut node = AdminClient::reach(&context.data).await?;
        let request = self.request();
        let report = if request == LimitsRequest::default() {
            node.get("/v1/limits").await?
        } else {
            node.post("/v1/limits", &value(&request)?, |_| {}).await?
        };
        context.out.object(&report, limits::limits)
    }

    fn request(self) -> LimitsRequest {
        LimitsRequest {
            reset: self.reset,
            rates: Each { up: self.up, down: self.down, origin: self.origin },
            months: Each { up: self.up_month, down: self.down_month, origin: self.origin_month },
            for_seconds: self.span.map(|time| time.as_secs()),
        }
    }
}

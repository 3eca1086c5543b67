//! `hubless run`: arguments over config over defaults, then serve until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use hubless_types::PeerAddr;

use crate::cli::Context;
use crate::config::{Config, ConfigError, OriginUrl};
use crate::error::NodeError;
use crate::exit::Exit;
use crate::run::{self, ConfigFile};

/// Run a node
///
/// Serves Hub clients and other nodes until SIGTERM or Ctrl-C. SIGHUP has it read its config again, as `hubless reload`. With `--json`, the first line on standard output
/// is printed when it serves: {"http":…,"node":…,"bootstrap":…,"socket":…}
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The config [default: `config.toml` in the data folder, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where Hub clients are served; port 0 takes a free one [default: 127.0.0.1:8090]
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<SocketAddr>,
    /// Where other nodes reach this one, TCP and UDP; port 0 takes a free one [default: 0.0.0.0:4001]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// A node to begin with, beside those of the config; may be repeated
    #[arg(long, value_name = "/ip4/…/tcp/…/p2p/…")]
    bootstrap: Vec<PeerAddr>,
    /// Do not look for nodes on the local network
    #[arg(long)]
    no_mdns: bool,
    /// Take what no node has from this hub, in place of the config's; may be repeated, and is asked in that order. A
    /// git host with LFS is written `git+https://…`
    #[arg(long, value_name = "URL", conflicts_with = "no_origin")]
    origin: Vec<OriginUrl>,
    /// Take nothing from any hub: the default where neither the config nor `--origin` names one
    #[arg(long)]
    no_origin: bool,
}

impl RunArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let written = Config::find_written(self.config.as_deref(), &context.data)?;
        if let Some(path) = &written.path {
            tracing::info!(config = %path.display(), "read the config");
        }
        let explicit = self.config.as_ref().map(std::path::absolute).transpose();
        let explicit =
            explicit.map_err(|source| NodeError::Io { doing: "find the config".into(), source })?;
        let config = self.over(written.config.clone())?;
        let file = ConfigFile { explicit, data: context.data.clone(), written };
        run::serve(&context.data, config, file, context.out)
    }

    fn over(self, mut config: Config) -> Result<Config, NodeError> {
        config.gateway.listen = self.http.unwrap_or(config.gateway.listen);
        config.discovery.listen = self.listen.unwrap_or(config.discovery.listen);
        config.discovery.mdns &= !self.no_mdns;
        config.origin.enabled &= !self.no_origin;
        if !self.origin.is_empty() {
            config.origin.enabled = true;
            config.origin.urls = self.origin;
        }
        for peer in self.bootstrap {
            if !config.discovery.bootstrap.contains(&peer) {
                config.discovery.bootstrap.push(peer);
            }
        }
        // The config alone was right, so what is wrong now came with an argument.
        config.validate().map_err(|unfit| ConfigError::of_arguments(&unfit))?;
        Ok(config)
    }
}

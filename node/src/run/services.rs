//! The parts of a serving node, wired together.
//!
//! Started from the inside out (store, transfer, discovery, mirror, doors) and stopped in the other direction,
//! so that nothing is asked of a part that is gone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hubless_discovery::{Dht, DhtConfig, Discovery};
use hubless_gateway::Reload as _;
use hubless_limits::Limits;
use hubless_mirror::{Mirror, MirrorParts};
use hubless_origin::Origin;
use hubless_proof::NodeKey;
use hubless_store::Store;
use hubless_transfer::{Transfer, TransferConfig};
use hubless_types::{Clock, PeerAddr, SystemClock};
use jiff::tz::TimeZone;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::reload::{ConfigFile, Reloader};
use super::stop::{GATEWAY_BUDGET, MIRROR_BUDGET, NETWORK_BUDGET, within};
use super::table::CatalogueTable;
use super::{Serving, known_peers, ports};
use crate::admin::ListeningSocket;
use crate::config::{Config, OriginUrl};
use crate::error::NodeError;
use crate::key;

/// How often another port is tried when somebody takes the one just found.
const PORT_TRIES: u32 = 8;

/// How long a node that was told of others waits for the first of them before it says that it serves: a tool
/// that asks at once would otherwise be told that nobody is there.
const JOIN_WAIT: Duration = Duration::from_secs(3);
/// How often it looks.
const JOIN_POLL: Duration = Duration::from_millis(25);

/// A node that serves.
pub(super) struct Services {
    bootstrap: PeerAddr,
    http: SocketAddr,
    socket: ListeningSocket,
    doors: JoinSet<()>,
    cancel: CancellationToken,
    mirror: Mirror,
    transfer: Transfer,
    discovery: Arc<Dht>,
    data: PathBuf,
    // Writes down who is known; ends when it is dropped.
    _remembering: JoinSet<()>,
    reloader: Arc<Reloader>,
    // Last: its lock is let go when everything else is gone.
    _store: Store,
}

impl Services {
    /// Opens the data folder and starts every part.
    ///
    /// # Errors
    /// Whatever keeps a part from starting: a folder in use, a port in use, a malformed key.
    pub(super) async fn start(data: &Path, config: Config, file: ConfigFile) -> Result<Self, NodeError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let key = key::load_or_create(data)?;
        let store = Store::open(data, key.id(), clock.clone())?;
        let door = ports::for_clients(config.gateway.listen).await?;
        let http = door
            .local_addr()
            .map_err(|source| NodeError::Io { doing: "read the port of Hub clients".into(), source })?;
        let limits = caps(&config, &store, &*clock);
        let network = Network::start(data, &config, &key, &store, &clock, &limits).await?;
        let bootstrap = PeerAddr::new(key.id(), ports::for_others(network.listen));
        let mirror = Mirror::start(MirrorParts {
            store: store.clone(),
            key,
            clock: clock.clone(),
            config: config.mirror(),
            discovery: network.discovery.clone(),
            peers: network.transfer.client(),
            origins: origins(&config, &limits)?,
            limits: limits.clone(),
        });
        let reloader = Arc::new(Reloader::new(file, limits, clock));
        let (socket, admin) = ListeningSocket::bind(data)?;
        let admin = tokio::net::UnixListener::from_std(admin)
            .map_err(|source| NodeError::Io { doing: "use the admin socket".into(), source })?;
        let (cancel, mut doors) = (CancellationToken::new(), JoinSet::new());
        let settings = hubless_gateway::GatewayConfig {
            hosts: config.gateway.hosts.clone(),
            cors_origins: config.gateway.cors_origins.clone(),
            ..hubless_gateway::GatewayConfig::default()
        };
        doors.spawn(hubless_gateway::serve_http(door, mirror.clone(), settings, cancel.clone()));
        doors.spawn(hubless_gateway::serve_admin(
            admin,
            mirror.clone(),
            Some(reloader.clone()),
            cancel.clone(),
        ));
        let Network { transfer, discovery, .. } = network;
        if !config.discovery.bootstrap.is_empty() {
            joined(&discovery).await;
        }
        let mut remembering = JoinSet::new();
        remembering.spawn(known_peers::keep(data.to_owned(), discovery.clone()));
        Ok(Self {
            bootstrap,
            http,
            socket,
            doors,
            cancel,
            mirror,
            transfer,
            discovery,
            data: data.to_owned(),
            _remembering: remembering,
            reloader,
            _store: store,
        })
    }

    /// What is told to whoever started this.
    pub(super) fn serving(&self) -> Serving {
        Serving {
            http: format!("http://{}", ports::for_this_machine(self.http)),
            node: self.bootstrap.node.to_string(),
            bootstrap: self.bootstrap.to_string(),
            socket: self.socket.path().display().to_string(),
        }
    }

    /// Where the admin socket is.
    pub(super) fn socket_path(&self) -> PathBuf {
        self.socket.path().to_owned()
    }

    /// Reads the config again, as the admin API does, and logs what came of it.
    pub(super) async fn reload(&self) {
        let reloader = Arc::clone(&self.reloader);
        let reloaded = tokio::task::spawn_blocking(move || reloader.reload()).await;
        if let Err(error) = reloaded {
            tracing::error!(%error, "the config was not read again");
        }
    }

    /// Waits until a part ends that should not.
    pub(super) async fn failure(&mut self) -> NodeError {
        let why = match self.doors.join_next().await {
            Some(Err(error)) => error.to_string(),
            Some(Ok(())) | None => "it ended".to_owned(),
        };
        NodeError::Admin(format!("the gateway failed: {why}"))
    }

    /// Stops every part within its budget; the names of those that did not stop in time.
    pub(super) async fn stop(mut self) -> Vec<&'static str> {
        let mut late = Vec::new();
        let mut note = |stopped: bool, what| {
            if !stopped {
                late.push(what);
            }
        };
        self.cancel.cancel();
        note(
            within(GATEWAY_BUDGET, async { while self.doors.join_next().await.is_some() {} }).await,
            "the gateway",
        );
        self.doors.abort_all();
        drop(self.socket);
        note(within(MIRROR_BUDGET, self.mirror.shutdown()).await, "the mirror");
        known_peers::save(&self.data, &self.discovery.known());
        let network = futures::future::join(self.transfer.shutdown(), self.discovery.shutdown());
        note(within(NETWORK_BUDGET, network.map(drop)).await, "the network");
        // What was sent while the others stopped counts too.
        if let Err(error) = self.mirror.keep_counts().await {
            tracing::warn!(%error, "the month's bytes cannot be written down");
        }
        late
    }
}

/// Returns when another node is connected, or it has taken too long.
async fn joined(discovery: &Dht) {
    let first = async {
        while discovery.peers().is_empty() {
            tokio::time::sleep(JOIN_POLL).await;
        }
    };
    if !within(JOIN_WAIT, first).await {
        tracing::warn!("no bootstrap node answers yet; they are tried again");
    }
}

/// The caps, as they are to hold from the first byte on: others are served before the mirror, which keeps them, begins.
fn caps(config: &Config, store: &Store, clock: &dyn Clock) -> Limits {
    let limits = Limits::new(config.limits.settings(), TimeZone::system());
    Mirror::resume_limits(&limits, store, clock);
    limits
}

/// Both ways to other nodes, on one port number.
struct Network {
    listen: SocketAddr,
    transfer: Transfer,
    discovery: Arc<Dht>,
}

impl Network {
    /// Starts both, again with another port if the free one that was found is taken meanwhile.
    async fn start(
        data: &Path,
        config: &Config,
        key: &NodeKey,
        store: &Store,
        clock: &Arc<dyn Clock>,
        limits: &Limits,
    ) -> Result<Self, NodeError> {
        let mut tries = 1;
        loop {
            let listen = ports::for_nodes(config.discovery.listen)?;
            match Self::start_at(listen, data, config, key, store, clock, limits).await {
                Err(error) if config.discovery.listen.port() == 0 && tries < PORT_TRIES => {
                    tracing::debug!(%error, %listen, "trying another port");
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn start_at(
        listen: SocketAddr,
        data: &Path,
        config: &Config,
        key: &NodeKey,
        store: &Store,
        clock: &Arc<dyn Clock>,
        limits: &Limits,
    ) -> Result<Self, NodeError> {
        let mut transfer = transfer_config(listen, config, key);
        transfer.limits = limits.clone();
        let transfer = Transfer::start(transfer, store.clone()).await?;
        let table = Arc::new(CatalogueTable::open(key.id(), store.catalogue().clone())?);
        let mut settings = dht_config(listen, config, key);
        settings.known = known_peers::load(data);
        match Dht::start(settings, table, clock.clone()).await {
            Ok(dht) => Ok(Self { listen, transfer, discovery: Arc::new(dht) }),
            Err(error) => {
                transfer.shutdown().await;
                Err(error.into())
            }
        }
    }
}

fn transfer_config(listen: SocketAddr, config: &Config, key: &NodeKey) -> TransferConfig {
    let mut transfer = TransferConfig::new(key.secret_bytes(), vec![listen]);
    transfer.allow = config.swarm.allow.clone();
    transfer.max_connections = config.limits.shares().bytes_each_way;
    transfer.upload_slots = config.transfer.upload_slots;
    transfer.bulk_port = config.transfer.bulk.then_some(config.transfer.bulk_port);
    transfer.lists_repos = config.discovery.announce;
    transfer
}

fn dht_config(listen: SocketAddr, config: &Config, key: &NodeKey) -> DhtConfig {
    let (swarm, discovery) = (&config.swarm, &config.discovery);
    let mut dht = DhtConfig::new(key.secret_bytes(), vec![listen]);
    dht.bootstrap = discovery.bootstrap.clone();
    // Its own address among the seeds is what a shared config holds; dialling oneself helps nobody.
    dht.bootstrap.retain(|peer| peer.node != key.id());
    dht.mdns = discovery.mdns;
    dht.lookup_timeout = discovery.lookup_timeout;
    dht.max_connections = config.limits.shares().dht;
    dht.allow = swarm.allow.clone();
    dht.external = discovery.external.clone();
    dht.network = swarm.network.clone();
    dht
}

fn origins(config: &Config, limits: &Limits) -> Result<Vec<Arc<dyn Origin>>, NodeError> {
    let build = |origin: &OriginUrl| Ok(hubless_origin::build_within(&origin.0, limits)?);
    config.origin.used().iter().map(build).collect()
}

#[cfg(test)]
mod tests {
    use hubless_limits::Use;
    use hubless_store::TrafficRecord;

    use super::*;

    /// A node whose month is used up refuses from its first moment, and its rates hold from then on.
    #[test]
    fn caps_hold_before_anything_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let (key, clock) = (key::load_or_create(dir.path()).unwrap(), Arc::new(SystemClock));
        let store = Store::open(dir.path(), key.id(), clock.clone()).unwrap();
        let text = "[limits]\nup = \"2 MB/s\"\nup_month = \"1 GB\"\n";
        let config = Config::parse(text, Path::new("x.toml")).unwrap();
        let first = caps(&config, &store, &*clock);
        assert!(first.up().spent(Use::Content).is_none());
        let month = first.month_bytes().unwrap().month;
        let (year, month) = (month.year, month.month);
        let spent = TrafficRecord { year, month, up: 1_000_000_000, down: 0, origin: 0 };
        store.catalogue().put_traffic(&spent).unwrap();

        let again = caps(&config, &store, &*clock);
        assert!(again.up().spent(Use::Content).is_some() && again.up().spent(Use::Words).is_some());
        assert_eq!(again.up().rate().bytes(), Some(2_000_000));
    }
}

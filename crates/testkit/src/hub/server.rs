//! The two ports: connections, and what each request is handed to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::address::{self, Ask};
use super::answer::{Handled, Refused, redirect, set, whole};
use super::body::{Body, spoil};
use super::faults::{HubFaults, Scope};
use super::file::Offset;
use super::record::{PortOf, Recorded, Who};
use super::{Shared, access, api, file, git, info};

/// Longest request body, in bytes: wants and haves, paths, LFS batches.
const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// Opens a port of the loopback interface; 0 takes a free one.
pub(crate) async fn listen(port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))
}

/// Both ports. Dropping them closes every connection.
pub(crate) struct Doors {
    tasks: JoinSet<()>,
}

impl Doors {
    pub(crate) fn open(shared: Arc<Shared>, hub: TcpListener, content: TcpListener) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(shared.clone(), hub, PortOf::Hub));
        tasks.spawn(serve(shared, content, PortOf::Content));
        Self { tasks }
    }

    /// Returns when both are closed.
    pub(crate) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, port: PortOf) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(talk(shared.clone(), stream, port));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn talk(shared: Arc<Shared>, stream: TcpStream, port: PortOf) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request, port).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that goes away is its own affair.
    let _ = connection.await;
}

fn recorded(request: &Request<Incoming>, port: PortOf, who: &Who) -> Recorded {
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Recorded {
        port,
        who: who.clone(),
        method: request.method().to_string(),
        target: request.uri().to_string(),
        headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        status: 0,
        sent: 0,
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>, port: PortOf) -> Response<Body> {
    let who = access::who(request.headers());
    let record = shared.records.add(recorded(&request, port, &who));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let asked = if port == PortOf::Hub { address::parse(&target) } else { None };
    let scope = match (port, &asked) {
        (PortOf::Content, _) => Scope::Network,
        (PortOf::Hub, Some(Ask::File(_) | Ask::Cache(_))) => Scope::Content,
        (PortOf::Hub, Some(Ask::Git(_))) => Scope::Git,
        (PortOf::Hub, _) => Scope::Api,
    };
    let faults = Some(shared.state.faults()).filter(|faults| faults.on.covers(scope)).unwrap_or_default();
    if let Some(delay) = faults.delay {
        tokio::time::sleep(delay).await;
    }
    let handled = match instead(shared, &faults, &target) {
        Some(response) => Ok(response),
        None if port == PortOf::Content => network(shared, request, &target, &who, &faults).await,
        None => hub(shared, request, asked, &target, &who, &faults).await,
    };
    let mut response = handled.unwrap_or_else(|refused| {
        let mut response = refused.response();
        if scope == Scope::Git && refused.status == 401 {
            git::challenge(&mut response);
        }
        response
    });
    if port == PortOf::Hub {
        meter(shared, scope, &mut response);
    }
    record.answered(response.status().as_u16());
    let offset = response.extensions_mut().remove::<Offset>();
    // A wrong byte is one of a file, or of whatever else the fault is about.
    let spoilt = HubFaults {
        wrong_byte_at: faults.wrong_byte_at.filter(|_| offset.is_some() || scope != Scope::Content),
        ..faults
    };
    spoil(response, offset.map_or(0, |offset| offset.0), &spoilt, record)
}

/// What a fault answers in place of everything.
fn instead(shared: &Shared, faults: &HubFaults, target: &str) -> Option<Response<Body>> {
    if let Some(refusal) = &faults.refuse {
        let mut response = whole(refusal.status, "text/html", refusal.body.clone());
        for (name, value) in &refusal.headers {
            let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, hyper::header::HeaderValue::from_str(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        return Some(response);
    }
    let to = faults.redirect_to.as_ref()?;
    Some(redirect(302, &to.replace("{url}", &format!("{}{target}", shared.url))))
}

/// Tells of the budget, and refuses when it is used up.
fn meter(shared: &Shared, scope: Scope, response: &mut Response<Body>) {
    let Some(before) = shared.state.spend() else { return };
    if before.left == 0 {
        *response = Refused::new(429, None, "We had to rate limit your IP").response();
    }
    let name = if scope == Scope::Content { "resolvers" } else { "api" };
    let left = before.left.saturating_sub(1);
    set(response, "ratelimit", &format!("\"{name}\";r={left};t={}", before.window));
    set(response, "ratelimit-policy", &format!("\"fixed window\";\"{name}\";q=3000;w=300"));
}

fn headers_for(request: &Request<Incoming>, faults: &HubFaults) -> HeaderMap {
    let mut headers = request.headers().clone();
    if faults.no_ranges {
        headers.remove(hyper::header::RANGE);
    }
    headers
}

async fn network(
    shared: &Shared,
    request: Request<Incoming>,
    target: &str,
    who: &Who,
    faults: &HubFaults,
) -> Handled {
    file::network(shared, target, who, &headers_for(&request, faults)).await
}

async fn hub(
    shared: &Shared,
    request: Request<Incoming>,
    asked: Option<Ask>,
    target: &str,
    who: &Who,
    faults: &HubFaults,
) -> Handled {
    let nothing = || Refused::new(404, None, "Sorry, we can't find the page you are looking for.");
    let headers = headers_for(&request, faults);
    let method = request.method().to_string();
    let body = read_body(request).await?;
    let query = target.split_once('?').map(|(_, query)| query);
    let pairs = address::pairs(query.unwrap_or_default());
    match asked.ok_or_else(nothing)? {
        Ask::Hub(path) => info::about_hub(shared, &path, who),
        Ask::List(kind) => info::list(shared, kind, who, &pairs).await,
        Ask::Api(about) => api::handle(shared, &about, who, &pairs, &headers, &body).await,
        Ask::Cache(about) => file::cached(shared, &about, who, &headers).await,
        Ask::File(about) => file::handle(shared, &about, who, &headers).await,
        Ask::Git(about) => {
            let asked = git::Asked { method: &method, query, headers: &headers, body };
            git::handle(shared, &about, who, asked).await
        }
    }
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes, Refused> {
    let limited = Limited::new(request.into_body(), MAX_REQUEST);
    let body = limited.collect().await.map_err(|error| Refused::bad_request(error.to_string()))?;
    Ok(body.to_bytes())
}

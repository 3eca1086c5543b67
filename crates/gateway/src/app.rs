//! The Hub-compatible endpoint as one service: address in, answer out.
//!
//! **Invariant:** an answer begins within `answer_timeout`, a fault of this program is a 500 with its code, and
//! an answer to HEAD has every header of the answer to GET and no body.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use futures::FutureExt;
use hubless_mirror::{Caller, Fork, GitServer, Mirror, MirrorError, Resolved};
use hubless_types::Revision;
use tokio::sync::Semaphore;

use crate::address::{self, Address, Call, Door};
use crate::answer::{Fault, header_text};
use crate::lingering::Lingering;
use crate::query::Query;
use crate::{GatewayConfig, auth, cors, head, host, paging, routes};

/// Methods of most addresses.
const READ: &str = "GET, HEAD, OPTIONS";

/// What every route needs.
pub(crate) struct App {
    pub(crate) mirror: Mirror,
    pub(crate) config: GatewayConfig,
    pub(crate) git: GitServer,
    /// Who may send a git request's body, which may be large.
    pub(crate) git_bodies: Semaphore,
    pub(crate) models: routes::ollama::Remembered,
    local: Option<SocketAddr>,
}

/// A request without its body.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    /// This host, as the client reached it.
    pub(crate) base: String,
    /// What the name that was asked for means, once that is known.
    resolved: OnceLock<(Revision, Resolved)>,
    /// A fork of it that was seen only when its commit came.
    fork: OnceLock<Fork>,
    /// Whether what the answer shows is everybody's.
    shown: cors::Shown,
    /// Whether it came by a name of this host that somebody else may own.
    foreign: bool,
}

impl Ask {
    /// Whether only the headers are wanted.
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the client showed a token, of whatever form.
    pub(crate) fn has_token(&self) -> bool {
        self.headers.contains_key(header::AUTHORIZATION)
    }

    /// Notes that something is to be shown which is everybody's, or not.
    ///
    /// # Errors
    /// A 403 for what is not, if the request came by a stranger's name: before it is read or fetched.
    pub(crate) fn show(&self, everyone: bool) -> Result<(), Fault> {
        self.shown.note(everyone);
        self.check_host()
    }

    fn check_host(&self) -> Result<(), Fault> {
        match self.foreign && self.shown.is_for_everyone() == Some(false) {
            true => Err(Fault::foreign_host(self.header(header::HOST).unwrap_or_default())),
            false => Ok(()),
        }
    }

    /// Has the answer's headers tell on whose word the name means what it does.
    pub(crate) fn note_resolved(&self, revision: Revision, resolved: Resolved) {
        // One request names one revision.
        let _ = self.resolved.set((revision, resolved));
    }

    /// The name's commit has just come: what it descends from is known only now.
    pub(crate) fn judge_again(&self, mirror: &Mirror) -> Result<(), MirrorError> {
        if let Some((revision, resolved)) = self.resolved.get()
            && resolved.fork.is_none()
            && let Some(fork) = mirror.fork_of(&resolved.repo, revision, resolved.commit)?
        {
            let _ = self.fork.set(fork);
        }
        Ok(())
    }

    /// On whose behalf the request is. What is no token counts as none; an origin is shown it for this request
    /// alone, and this node itself has no users.
    pub(crate) fn caller(&self) -> Caller {
        let token = self.header(header::AUTHORIZATION).and_then(auth::token);
        Caller { token, ..Caller::anyone() }
    }
}

/// The Hub-compatible endpoint. `local` is the listener's address, for links where a request names no host.
pub fn router(mirror: Mirror, config: &GatewayConfig, local: Option<SocketAddr>) -> Router {
    let git = GitServer::new(mirror.clone());
    let app = Arc::new(App {
        mirror,
        config: config.clone(),
        git,
        git_bodies: Semaphore::new(routes::git::BODIES_AT_ONCE),
        models: routes::ollama::Remembered::default(),
        local,
    });
    Router::new().fallback(answer_any).with_state((app, Arc::new(Lingering::default())))
}

type Shared = (Arc<App>, Arc<Lingering>);

async fn answer_any(State((app, lingering)): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let fits = head::check(&parts);
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let foreign = host::is_foreign(host, app.local, &app.config.hosts);
    let ask = Arc::new(Ask {
        base: paging::base_url(&parts.headers, app.local),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        method: parts.method,
        headers: parts.headers,
        resolved: OnceLock::new(),
        fork: OnceLock::new(),
        shown: cors::Shown::default(),
        foreign,
    });
    let limit = match parts.uri.path().ends_with(routes::git::UPLOAD_PACK) {
        true => routes::git::ANSWER_TIMEOUT,
        false => app.config.answer_timeout,
    };
    let (asked, uri, door) = (Arc::clone(&ask), parts.uri, Arc::clone(&app));
    let work = async move {
        fits?;
        dispatch(&app, &asked, &uri, body).await
    };
    let mut work = AssertUnwindSafe(work).catch_unwind().boxed();
    let mut answer = match tokio::time::timeout(limit, work.as_mut()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => Err(Fault::internal()),
        Err(_elapsed) => {
            lingering.keep(work.map(drop).boxed());
            Err(Fault::not_yet("this takes longer than a client waits; ask again"))
        }
    };
    // Some doors refuse in a form of their own.
    if let Err(fault) = ask.check_host() {
        answer = Err(fault);
    }
    finish(&door.config, &ask, answer.unwrap_or_else(|fault| fault.into_response(ask.has_token())))
}

async fn dispatch(app: &App, ask: &Ask, uri: &Uri, body: Body) -> Result<Response, Fault> {
    let address = address::parse(uri.path());
    let takes_post = match &address {
        Address::Repo(_, call) => matches!(call, Call::PathsInfo(_)),
        Address::Door(_, door) => door.takes_post(),
        _ => false,
    };
    match ask.method {
        Method::OPTIONS => {
            ask.shown.note(true);
            return Ok(cors::preflight(if takes_post { "POST, OPTIONS" } else { READ }));
        }
        Method::GET | Method::HEAD if !takes_post => {}
        Method::POST if takes_post => {}
        _ => return Err(Fault::method(if takes_post { "POST, OPTIONS" } else { READ })),
    }
    let answer = route(app, ask, uri, &address, body).await;
    let answer = answer.or_else(|fault| sent_on(uri, &address, fault));
    // Where no commit was shown (a redirect, refs, a refusal), all that the repository has must be everybody's.
    if let (None, Some(repo)) = (ask.shown.is_for_everyone(), address.repo()) {
        let canonical = app.mirror.canonical(repo)?;
        ask.show(app.mirror.is_all_for_everyone(canonical.as_ref().unwrap_or(repo))?)?;
    }
    answer
}

/// Sends on who asked by a former name that was not known for one until it was asked for.
fn sent_on(uri: &Uri, address: &Address, fault: Fault) -> Result<Response, Fault> {
    let both = address.repo().zip(fault.moved_to());
    both.and_then(|(from, to)| routes::moved::moved(uri, from, to)).ok_or(fault)
}

async fn route(app: &App, ask: &Ask, uri: &Uri, address: &Address, body: Body) -> Result<Response, Fault> {
    // Whoever may not know of a repository is not told how its name is written.
    if let Some(repo) = address.repo()
        && let Some(to) = app.mirror.canonical(repo)?
        && app.mirror.may_know(&ask.caller(), &to).await.is_err()
    {
        return Err(MirrorError::RepoNotFound { repo: repo.clone() }.into());
    }
    // A clone remembers its address, so git is sent on too; the other doors' clients just get what they ask for.
    if let Address::Repo(repo, _) | Address::Door(repo, Door::GitRefs) = address
        && let Some(to) = app.mirror.canonical(repo)?
        && let Some(answer) = routes::moved::moved(uri, repo, &to)
    {
        return Ok(answer);
    }
    match address {
        Address::Root => Ok(routes::health::root()),
        Address::Health => Ok(routes::health::health(app)),
        Address::WhoAmI => routes::account::whoami(app, ask).await,
        Address::Harnesses => Ok(routes::account::harnesses()),
        Address::Registry => Ok(routes::ollama::registry()),
        Address::Door(repo, door) => {
            let repo = app.mirror.canonical(repo)?.unwrap_or_else(|| repo.clone());
            routes::door(app, ask, &repo, door.clone(), body).await
        }
        Address::List(kind) => {
            // A list names all that is here.
            ask.show(false)?;
            routes::list::list(app, ask, *kind).await
        }
        Address::NoRepo(name) => Err(Fault::no_repo(name)),
        Address::Unknown => {
            Err(Fault::new(StatusCode::NOT_FOUND, "NotFound", "nothing is served at this address"))
        }
        Address::Repo(repo, call) => match call {
            Call::Info => routes::info::info(app, ask, repo, "main").await,
            Call::Revision(tail) => routes::info::info(app, ask, repo, &tail.join("/")).await,
            Call::Tree(tail) => routes::tree::tree(app, ask, repo, tail).await,
            Call::PathsInfo(tail) => {
                routes::paths_info::paths_info(app, ask, repo, &tail.join("/"), body).await
            }
            Call::Refs => routes::refs::refs(app, ask, repo).await,
            Call::Commits(tail) => routes::commits::commits(app, ask, repo, &tail.join("/")).await,
            Call::AuthCheck => routes::account::auth_check(app, ask, repo).await,
            Call::Resolve(tail) => routes::file::resolve(app, ask, repo, tail).await,
            Call::Raw(tail) => routes::file::raw(app, ask, repo, tail).await,
        },
    }
}

/// What every answer has in common.
fn finish(config: &GatewayConfig, ask: &Ask, mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    let for_everyone = ask.shown.is_for_everyone() == Some(true);
    cors::allow(headers, &config.cors_origins, ask.headers.get(header::ORIGIN), for_everyone);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some((_, resolved)) = ask.resolved.get() {
        headers.insert("x-hubless-resolved-by", header_text(&resolved.by_text()));
        if let Some(fork) = resolved.fork.as_ref().or(ask.fork.get()) {
            headers.insert("x-hubless-fork", header_text(&fork.to_string()));
        }
    }
    if ask.is_head() {
        *answer.body_mut() = Body::empty();
    }
    answer
}

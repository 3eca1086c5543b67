//! One origin over HTTP: requests within its budget, redirects by hand, refusals by their meaning.
//!
//! **Invariants:** a token goes to the origin's own scheme, host and port and is dropped for good at the first
//! redirect that leaves them; every answer is bounded in bytes and in time; errors name no query, header or token.
//! **Not here:** what is asked (`hub`, `git`), how often (`pace`).

mod answer;
mod body;
mod guard;
mod hop;
mod refusal;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hubless_limits::{Limits, Use};
use hubless_types::Token;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Response, StatusCode};
use url::Url;

pub(crate) use answer::{Answer, Limited};
pub(crate) use refusal::words;

use self::guard::{Guard, GuardedResolver, Shut};
use self::refusal::Refusal;
use crate::pace::{Gauge, Host, Lane, LaneKind, Payers, Permit, pause, roll};
use crate::xet::XetId;
use crate::{OriginConfig, OriginError, OriginErrorKind, OriginStatus};

/// Longest wait that a request sits out by itself; longer ones are the caller's to decide.
const LONGEST_SAT_OUT: Duration = Duration::from_secs(3);
/// Connections that are kept for later, a host.
const IDLE_CONNECTIONS: usize = 16;
/// How long one is kept.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// Most of a refusal's body that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 8 * 1024;
/// How long a refusal's body is waited for.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// Codes by which another node says that one file is not to be had yet, or now.
const OF_ONE_FILE: [&str; 2] = ["NotYet", "Unavailable"];
/// How long such a file is left alone where the node does not say.
const ONE_FILE_PAUSE: Duration = Duration::from_secs(5);
/// How long at most, whatever it says.
const ONE_FILE_LONGEST: Duration = Duration::from_secs(60);

/// How a token is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Auth<'a> {
    /// `Bearer`.
    Bearer(Option<&'a Token>),
    /// As the password of git's Basic scheme.
    Basic(Option<&'a Token>),
}

impl<'a> Auth<'a> {
    /// The token itself.
    pub(crate) const fn token(self) -> Option<&'a Token> {
        match self {
            Self::Bearer(token) | Self::Basic(token) => token,
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) url: Url,
    pub(crate) auth: Auth<'a>,
    pub(crate) kind: LaneKind,
    /// What a bare 404 means.
    pub(crate) missing: OriginErrorKind,
    /// These go wherever the request goes.
    pub(crate) headers: HeaderMap,
    /// These go no further than the scheme, host and port of `url`.
    pub(crate) secrets: HeaderMap,
    /// A body and its type make it a POST.
    pub(crate) body: Option<(Bytes, &'static str)>,
}

impl<'a> Ask<'a> {
    /// A GET.
    pub(crate) fn get(url: Url, auth: Auth<'a>, kind: LaneKind, missing: OriginErrorKind) -> Self {
        Self { url, auth, kind, missing, headers: HeaderMap::new(), secrets: HeaderMap::new(), body: None }
    }

    /// A POST of `body`.
    pub(crate) fn post(self, body: impl Into<Bytes>, content_type: &'static str) -> Self {
        Self { body: Some((body.into(), content_type)), ..self }
    }

    /// With one more header, which goes wherever the request goes.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With `Accept`.
    pub(crate) fn accept(self, value: &'static str) -> Self {
        self.header(ACCEPT, HeaderValue::from_static(value))
    }
}

/// What a request may show where it is.
#[derive(Debug, Clone, Copy)]
struct Trust {
    /// It has not left the origin's own host.
    own: bool,
    /// It has not left the host where it began.
    first: bool,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: OriginError,
    /// How Xet calls the file, where the plain way to it is refused and the origin told of this other one.
    pub(crate) by_xet: Option<XetId>,
}

impl From<OriginError> for Failure {
    fn from(error: OriginError) -> Self {
        Self { error, by_xet: None }
    }
}

/// The answer at the end of the redirects.
struct Arrival<'a> {
    response: Response,
    /// Of the host that gave it.
    permit: Permit<'a>,
    trust: Trust,
    /// What the origin itself said on the way.
    xet: Option<XetId>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Http {
    base: Url,
    client: Client,
    guard: Arc<Guard>,
    gauge: Arc<Gauge>,
    payers: Payers,
    /// An answer of it was one of a hub, in this run.
    codes: AtomicBool,
    config: OriginConfig,
}

impl Http {
    /// For the origin of `config`.
    ///
    /// # Errors
    /// [`OriginError::Unusable`].
    pub(crate) fn new(config: &OriginConfig, limits: &Limits) -> Result<Self, OriginError> {
        // An error says that one is installed already, which serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let guard = Arc::new(Guard::new(&config.url));
        let client = Client::builder()
            .user_agent(&config.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            // Ranges of one file are to have windows of their own, not to share one connection's.
            .http1_only()
            .connect_timeout(config.patience.connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIME)
            .tcp_nodelay(true)
            .dns_resolver(GuardedResolver(Arc::clone(&guard)))
            .build()
            .map_err(|error| OriginError::Unusable { origin: config.name(), why: root_cause(&error) })?;
        let gauge = Arc::new(Gauge::new(config.name(), limits.clone()));
        let (base, payers, codes) = (config.url.clone(), Payers::default(), AtomicBool::new(false));
        Ok(Self { base, client, guard, gauge, payers, codes, config: config.clone() })
    }

    /// The origin's name.
    pub(crate) fn name(&self) -> &str {
        self.gauge.name()
    }

    /// How it names this node to it.
    pub(crate) fn agent(&self) -> &str {
        &self.config.user_agent
    }

    /// How it is doing.
    pub(crate) fn status(&self) -> OriginStatus {
        self.gauge.status()
    }

    /// The address that `segments` have below the origin's; each is one segment, whatever it holds.
    pub(crate) fn url<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Whether a token may go to `url`.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        hop::same_host(&self.base, url)
    }

    /// That the origin cannot do something.
    pub(crate) fn cannot(&self, what: &'static str) -> OriginError {
        OriginError::Unsupported { origin: self.name().to_owned(), what }
    }

    /// That it sent what makes no sense.
    pub(crate) fn malformed(&self, what: &'static str, why: impl Into<String>) -> OriginError {
        OriginError::Malformed { origin: self.name().to_owned(), what, why: why.into() }
    }

    /// Notes what was wrong with an answer's content.
    pub(crate) fn noted(&self, error: OriginError) -> OriginError {
        self.gauge.note(&Host::Own, &error);
        error
    }

    /// Sends `ask`, again where the failure may pass, and gives the answer if it is a success.
    pub(crate) async fn send(&self, ask: &Ask<'_>) -> Result<Answer, OriginError> {
        self.send_or_tell(ask).await.map_err(|failure| failure.error)
    }

    /// As [`Http::send`]; a refusal says whether there is the other way.
    pub(crate) async fn send_or_tell(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        for attempt in 1.. {
            let failure = match self.once(ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let pause = match &failure.error {
                OriginError::Limited { wait, .. } => wait.saturating_add(pause(1, roll())),
                OriginError::Unreachable { .. } => pause(attempt, roll()),
                OriginError::Refused { status: 500.. | 408, .. } => pause(attempt, roll()),
                _ => return Err(failure),
            };
            if attempt >= self.config.attempts || pause > LONGEST_SAT_OUT {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
        Err(self.cannot("be asked no times").into())
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let what = match ask.kind {
            LaneKind::Api => Use::Words,
            LaneKind::Files | LaneKind::Elsewhere => Use::Content,
        };
        self.gauge.within_month(what)?;
        let Arrival { response, permit, trust, xet } = self.follow(ask).await?;
        if response.status().is_success() {
            let by = (Arc::clone(&self.gauge), permit.answered());
            return Ok(Answer::new(response, by, self.config.patience, what));
        }
        let error = self.refused(ask, response, permit.host(), trust).await;
        permit.failed(&error);
        let by_xet = xet.filter(|_| refuses_the_way(&error));
        Err(Failure { error, by_xet })
    }

    /// Sends the request along its redirects, each hop as its host allows, and says how far from home the answer was
    /// given.
    async fn follow(&self, ask: &Ask<'_>) -> Result<Arrival<'_>, OriginError> {
        let astray = |why| self.noted(OriginError::Redirect { origin: self.name().to_owned(), why });
        let mut url = ask.url.clone();
        hop::check(&self.base, &url, &self.guard).map_err(astray)?;
        let (mut trust, mut xet) = (Trust { own: true, first: true }, None);
        for _ in 0..=self.config.max_redirects {
            // Dropped for good: what left the origin's host may lead back with somebody else's words.
            trust.own &= self.is_own(&url);
            trust.first &= hop::same_host(&ask.url, &url);
            let permit = self.gauge.admit(self.host(&url), self.lane(ask, trust))?;
            let response = match self.execute(self.request(ask, &url, trust)?).await {
                Ok(response) => response,
                Err(error) => {
                    permit.failed(&error);
                    return Err(error);
                }
            };
            if trust.own {
                xet = XetId::told(response.headers()).or(xet);
                if refusal::is_hubs(response.headers()) {
                    self.codes.store(true, Ordering::Relaxed);
                }
                if let Some(header) = text(response.headers(), "ratelimit") {
                    self.gauge.learn(self.lane(ask, trust), header);
                }
            }
            if !is_redirect(response.status(), ask.body.is_some()) {
                return Ok(Arrival { response, permit, trust, xet });
            }
            permit.answered();
            let next = hop::next(&url, response.headers(), &self.guard).map_err(astray)?;
            if ask.body.is_some() && !hop::same_host(&url, &next) {
                return Err(astray(format!("a POST to {}", hop::shown(&next))));
            }
            url = next;
        }
        Err(astray(format!("more than {} times", self.config.max_redirects)))
    }

    fn request(&self, ask: &Ask<'_>, url: &Url, trust: Trust) -> Result<Request, OriginError> {
        let method = if ask.body.is_some() { Method::POST } else { Method::GET };
        let mut request = self.client.request(method, url.clone()).headers(ask.headers.clone());
        request = request.header(ACCEPT_ENCODING, "identity");
        if let Some((body, content_type)) = &ask.body {
            request = request.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        if trust.first {
            request = request.headers(ask.secrets.clone());
        }
        if trust.own {
            request = match ask.auth {
                Auth::Bearer(Some(token)) => request.bearer_auth(token.reveal()),
                Auth::Basic(Some(token)) => request.basic_auth("hubless", Some(token.reveal())),
                _ => request,
            };
        }
        request.build().map_err(|error| self.unreachable(&error))
    }

    async fn execute(&self, request: Request) -> Result<Response, OriginError> {
        self.gauge.count_request();
        let after = self.config.patience.head;
        match tokio::time::timeout(after, self.client.execute(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(OriginError::Stalled { origin: self.name().to_owned(), after }),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> OriginError {
        unreachable(self.name(), error)
    }

    async fn refused(&self, ask: &Ask<'_>, response: Response, host: &Host, trust: Trust) -> OriginError {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let retry_after = text(&headers, "retry-after");
        let code = text(&headers, "x-error-code");
        // Another node speaks of one file, which comes or which nobody has now; not of how much it is asked.
        if trust.own && code.is_some_and(|code| OF_ONE_FILE.contains(&code)) {
            let asked = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            let wait = asked.unwrap_or(ONE_FILE_PAUSE).min(ONE_FILE_LONGEST);
            return OriginError::Limited { origin: self.name().to_owned(), status, wait };
        }
        if status == 429 || (status == 503 && retry_after.is_some()) {
            let rate_limit = text(&headers, "ratelimit");
            return self.gauge.refused(host, self.lane(ask, trust), status, rate_limit, retry_after);
        }
        let said = match text(&headers, "x-error-message") {
            Some(said) => words(said),
            None => refusal::said(&answer::front(response, MAX_REFUSAL_BYTES, REFUSAL_TIME).await),
        };
        let token = ask.auth.token().is_some();
        // Git has no codes, at a hub either: its 401 asks for a password.
        let codes = matches!(ask.auth, Auth::Bearer(_)) && self.codes.load(Ordering::Relaxed);
        let refusal = Refusal { status, code, said: &said, token, own: trust.own, codes };
        let origin = self.name().to_owned();
        OriginError::Refused { kind: refusal.kind(ask.missing), origin, status, said }
    }

    /// What `ask` is counted as, and who pays for it: whoever's token is shown where it is.
    fn lane(&self, ask: &Ask<'_>, trust: Trust) -> Lane {
        Lane { kind: ask.kind, payer: self.payers.of(ask.auth.token().filter(|_| trust.own)) }
    }

    /// Whose pace a request to `url` keeps.
    fn host(&self, url: &Url) -> Host {
        if self.is_own(url) { Host::Own } else { Host::Other(hop::shown(url)) }
    }

    #[cfg(test)]
    pub(crate) fn pretend_public(&self) {
        self.guard.pretend_public();
    }
}

/// Whether a refusal is one of the way to a file, rather than of whoever asks or of the file: the Hub's plain bridge
/// answers 400 for what is too large for it. The address was made a moment ago, so a 403 does not mean its age.
const fn refuses_the_way(error: &OriginError) -> bool {
    use OriginErrorKind::{Unavailable, Wrong};
    matches!(error, OriginError::Refused { status: 400 | 403 | 413 | 416, kind: Unavailable | Wrong, .. })
}

/// A redirect that is followed; a POST keeps its method and body or is not followed.
const fn is_redirect(status: StatusCode, post: bool) -> bool {
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => !post,
        _ => false,
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a failed request means; a name that leads into a private network is one that was led to.
fn unreachable(origin: &str, error: &reqwest::Error) -> OriginError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(source) = cause {
        if let Some(shut) = source.downcast_ref::<Shut>() {
            return OriginError::Redirect { origin: origin.to_owned(), why: shut.to_string() };
        }
        cause = source.source();
    }
    OriginError::Unreachable { origin: origin.to_owned(), why: root_cause(error) }
}

/// The innermost reason, which names no address.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if cause.is::<reqwest::Error>() { "the request failed".to_owned() } else { words(&cause.to_string()) }
}

#[cfg(test)]
mod tests;

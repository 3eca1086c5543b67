//! Stories of `whoami-v2`: this node has no users, so the first origin that has any is asked, as whoever asks.

mod common;

use anyhow::Result;
use common::{Answer, TestResult, ask, endpoint};
use hubless_testkit::{Hub, HubFaults, Refusal, Swarm, git_origin, hub_origin};

const TOKEN: &str = "hf_ada";
const WHOAMI: &str = "/api/whoami-v2";

async fn whoami(app: &axum::Router, token: Option<&str>) -> Result<Answer> {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    ask(app, "GET", WHOAMI, &headers, "").await
}

/// Whom a hub was asked about, by the tokens that it was shown.
fn asked(hub: &Hub) -> Vec<String> {
    let requests = hub.requests().into_iter();
    requests.filter_map(|request| request.header("authorization").map(str::to_owned)).collect()
}

/// Whose token it is, in the hub's own words; a token that is none, and none at all, are refused in those that clients know.
#[tokio::test]
async fn the_origin_says_whose_token_it_is() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, Hub::start().await?);
    hub.user(TOKEN);
    let app = endpoint(&swarm.node_below(vec![hub_origin(&hub.url(), |_| {})?], |_| {})?);
    let said = whoami(&app, Some(TOKEN)).await?;
    let user = said.json()?;
    assert_eq!((said.status.as_u16(), &user["name"], &user["type"]), (200, &"ada".into(), &"user".into()));
    assert_eq!(user["auth"]["accessToken"]["role"], "read");
    assert!(user["orgs"].is_array() && said.header("content-type").starts_with("application/json"));
    let forged = whoami(&app, Some("hf_forged")).await?;
    assert_eq!(forged.refusal(), (401, "Unauthorized", true));
    assert_eq!(forged.header("x-error-message"), "Invalid credentials in Authorization header");

    let before = hub.requests().len();
    let nobody = whoami(&app, None).await?;
    assert_eq!(nobody.refusal(), (401, "Unauthorized", true));
    assert_eq!(hub.requests().len(), before, "nobody is not asked about");

    hub.set_faults(HubFaults { refuse: Some(Refusal::page(503)), ..HubFaults::default() });
    let down = whoami(&app, Some(TOKEN)).await?;
    assert_eq!(down.refusal(), (503, "Unavailable", true), "a hub that is down calls no token bad");
    assert!(down.header("x-error-message").contains("answered 503"), "{down:?}");
    Ok(())
}

/// Of several origins the first that has accounts is asked, and no other is shown the token: not a git host before it, nor
/// a hub after it that would know it.
#[tokio::test]
async fn of_several_origins_the_first_with_accounts_is_asked() -> TestResult {
    let (swarm, git, first, second) =
        (Swarm::new()?, Hub::start().await?, Hub::start().await?, Hub::start().await?);
    git.user(TOKEN);
    second.user(TOKEN);
    let hub = |hub: &Hub| hub_origin(&hub.url(), |_| {});
    let origins = vec![git_origin(&git.url())?, hub(&first)?, hub(&second)?];
    let app = endpoint(&swarm.node_below(origins, |_| {})?);
    assert_eq!(
        whoami(&app, Some(TOKEN)).await?.refusal(),
        (401, "Unauthorized", true),
        "it knows no such token"
    );
    first.user(TOKEN);
    assert_eq!(whoami(&app, Some(TOKEN)).await?.json()?["name"], "ada");
    assert_eq!(asked(&first), vec![format!("Bearer {TOKEN}"); 2]);
    assert!(asked(&git).is_empty() && asked(&second).is_empty(), "a token is for one origin alone");
    Ok(())
}

/// A git host has no accounts: where there is no other origin, nobody is known.
#[tokio::test]
async fn a_git_host_alone_knows_nobody() -> TestResult {
    let (swarm, git) = (Swarm::new()?, Hub::start().await?);
    git.user(TOKEN);
    let app = endpoint(&swarm.node_below(vec![git_origin(&git.url())?], |_| {})?);
    assert_eq!(whoami(&app, Some(TOKEN)).await?.refusal(), (401, "Unauthorized", true));
    assert!(git.requests().is_empty());
    Ok(())
}

//! The LFS batch API: where large files are.

use hubless_types::RepoId;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Handled, Refused, whole};

/// Answers a batch; downloads only.
pub(crate) async fn batch(shared: &Shared, _repo: &RepoId, body: &[u8]) -> Handled {
    let asked: Value =
        serde_json::from_slice(body).map_err(|error| Refused::bad_request(error.to_string()))?;
    if asked["operation"] != "download" {
        return Err(Refused::new(403, None, "this hub takes no uploads"));
    }
    let objects = asked["objects"].as_array().cloned().unwrap_or_default();
    let answered: Vec<Value> = objects.iter().map(|object| answer(shared, object)).collect();
    let body = json!({"transfer": "basic", "objects": answered, "hash_algo": "sha256"});
    Ok(whole(200, "application/vnd.git-lfs+json", body.to_string()))
}

fn answer(shared: &Shared, object: &Value) -> Value {
    let (oid, size) = (object["oid"].as_str().unwrap_or_default(), &object["size"]);
    let known =
        oid.len() == 64 && oid.bytes().all(|b| b.is_ascii_hexdigit()) && shared.git.lfs_path(oid).exists();
    if !known {
        return json!({"oid": oid, "size": size, "error": {"code": 404, "message": "no such object"}});
    }
    let mut download = json!({"href": shared.signed(oid), "expires_in": 3600});
    let demanded = shared.state.demanded_headers();
    if !demanded.is_empty() {
        download["header"] = demanded.into_iter().collect();
    }
    json!({"oid": oid, "size": size, "authenticated": true, "actions": {"download": download}})
}

//! Stories of the registry that ollama pulls from: every layer that a manifest names is there, whole and as named.

mod common;

use anyhow::{Context, Result};
use common::{TestResult, ask, endpoint};
use hubless_testkit::Swarm;
use serde_json::Value;
use sha2::Digest;

/// The beginning of a GGUF file that says its architecture and chat template, and weights after it.
fn gguf(template: &str, weights: usize) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend(1_u64.to_le_bytes());
    out.extend(2_u64.to_le_bytes());
    for (key, value) in [("general.architecture", "llama"), ("tokenizer.chat_template", template)] {
        text(&mut out, key);
        out.extend(8_u32.to_le_bytes());
        text(&mut out, value);
    }
    out.extend((0..weights).map(|i| (i % 253) as u8));
    out
}

fn sha256(bytes: &[u8]) -> String {
    let hash: [u8; 32] = sha2::Sha256::digest(bytes).into();
    format!("sha256:{}", hubless_types::Sha256::from_bytes(hash))
}

fn media(layer: &Value) -> &str {
    layer["mediaType"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default()
}

#[tokio::test]
async fn a_model_is_pulled_layer_by_layer() -> TestResult {
    let swarm = Swarm::new()?;
    let node = swarm.lone_node()?;
    let chatml = "{{ '<|im_start|>' + role }}{{ '<|im_end|>' }}";
    let (large, small) = (gguf(chatml, 9_000_000), gguf("[INST]", 5_000));
    let files: &[(&str, &[u8])] = &[
        ("T-Q4_K_M.gguf", &large),
        ("T-Q8_0.gguf", &small),
        ("system", b"be kind"),
        ("params", b"{\"top_k\":4}"),
    ];
    node.publish(&"acme/T-GGUF".parse()?, swarm.folder("t", files)?).await?;
    let app = endpoint(&node);
    for (tag, weights, stop) in [("latest", &large, "<|im_start|>"), ("q8_0", &small, "[INST]")] {
        let path = format!("/v2/acme/T-GGUF/manifests/{tag}");
        let answer = ask(&app, "GET", &path, &[], "").await?;
        assert_eq!(answer.header("content-type"), "application/vnd.docker.distribution.manifest.v2+json");
        assert_eq!(answer.header("docker-content-digest"), sha256(&answer.body));
        let manifest = answer.json()?;
        let layers = manifest["layers"].as_array().context("layers")?;
        assert_eq!(layers.iter().map(media).collect::<Vec<_>>(), ["model", "template", "system", "params"]);
        // A node that was started anew does not remember what it told.
        let anew = endpoint(&node);
        let mut contents = Vec::new();
        for layer in layers.iter().chain([&manifest["config"]]) {
            let digest = layer["digest"].as_str().context("a digest")?;
            let path = format!("/v2/acme/T-GGUF/blobs/{digest}");
            let head = ask(&anew, "HEAD", &path, &[], "").await?;
            assert_eq!(
                (head.status.as_u16(), head.header("content-length")),
                (200, &*layer["size"].to_string())
            );
            let blob = ask(&anew, "GET", &path, &[], "").await?;
            assert_eq!(
                (blob.body.len() as u64, sha256(&blob.body)),
                (layer["size"].as_u64().unwrap_or(0), digest.to_owned())
            );
            contents.push(blob.body);
        }
        assert!(contents[0] == *weights && contents[2] == "be kind" && contents[3] == "{\"top_k\":4}");
        assert!(String::from_utf8_lossy(&contents[1]).contains(stop), "{tag}");
        let config: Value = serde_json::from_slice(&contents[4])?;
        assert_eq!(
            (config["model_family"].as_str(), config["model_format"].as_str()),
            (Some("llama"), Some("gguf"))
        );
        let model = layers[0]["digest"].as_str().context("a digest")?;
        let part =
            ask(&app, "GET", &format!("/v2/acme/T-GGUF/blobs/{model}"), &[("range", "bytes=100-199")], "")
                .await?;
        assert!(part.status == 206 && part.body == weights[100..200]);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_model_is_refused_as_registries_do() -> Result<()> {
    let story = common::Story::begin().await?;
    let registry = story.get("/v2/").await?;
    assert_eq!(registry.status, 200);
    let none = "ab".repeat(32);
    for (path, status) in [
        ("/v2/acme/tiny/manifests/latest".to_owned(), 400),
        ("/v2/no/body/manifests/latest".to_owned(), 401),
        (format!("/v2/acme/tiny/blobs/sha256:{none}"), 404),
        ("/v2/acme/tiny/blobs/md5:00".to_owned(), 404),
        ("/v2/acme/tiny/blobs/".to_owned(), 404),
    ] {
        let answer = story.get(&path).await?;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(answer.json()?["errors"][0]["message"].is_string(), "{path}");
        assert!(!answer.header("x-error-code").is_empty(), "{path}");
    }
    Ok(())
}

//! The real clients: hf, huggingface_hub, transformers and datasets, with nothing changed but HF_ENDPOINT.

use anyhow::ensure;
use hubless_tests::{Home, Python, RunOptions, StoryResult, Tree, same_files};

/// A publisher, and a reader that trusts it and has pulled nothing.
async fn pair(home_a: &Home, home_b: &Home) -> anyhow::Result<(hubless_tests::Node, hubless_tests::Node)> {
    let a = home_a.start().await?;
    let trusting = format!("[names]\ntrusted = [\"{}\"]\n", a.id);
    let b =
        home_b.start_with(RunOptions::knowing(&[&a]).config(&home_b.beside("c.toml"), &trusting)?).await?;
    Ok((a, b))
}

/// `hf download` from a node that has nothing yet: the bytes come through it.
#[tokio::test]
async fn hf_downloads_through_a_node() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let (a, b) = pair(&home_a, &home_b).await?;
    let tree = Tree::model(4)?;
    home_a.add(tree.path(), "acme/tiny").await?;
    let python = Python::of(&b)?;
    let arrived = home_b.beside("arrived");
    python.hf(&["download", "acme/tiny", "--local-dir", &arrived.display().to_string()]).await?.ok()?;
    same_files(tree.path(), &arrived)?;
    // The client's own check: sha256 of large files, git's sha1 of small ones.
    python.hf(&["download", "acme/tiny"]).await?.ok()?;
    let checked = python.hf(&["cache", "verify", "acme/tiny"]).await?.ok()?;
    ensure!(!checked.out.to_lowercase().contains("mismatch"), "{checked:?}");
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// `snapshot_download` with patterns, `file_exists`, `list_repo_tree` and single files at a commit.
#[tokio::test]
async fn huggingface_hub_finds_its_way() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let (a, b) = pair(&home_a, &home_b).await?;
    let tree = Tree::model(1)?;
    let commit = home_a.add(tree.path(), "acme/tiny").await?;
    let program = r#"
import sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
commit = sys.argv[1]
api = HfApi()
assert api.model_info("acme/tiny").sha == commit
assert api.file_exists("acme/tiny", "config.json") and not api.file_exists("acme/tiny", "absent.json")
files = {f.path: f.size for f in api.list_repo_tree("acme/tiny", recursive=True) if hasattr(f, "size")}
assert set(files) == {"config.json", "docs/README of it.md", "model.safetensors", "tokenizer.json", "empty"}, files
folder = snapshot_download("acme/tiny", allow_patterns=["*.json", "docs/*"])
assert folder.endswith(commit), folder
again = hf_hub_download("acme/tiny", "docs/README of it.md", revision=commit)
assert open(again).read().strip() == '# A model'
assert [b.name for b in api.list_repo_refs("acme/tiny").branches] == ["main"]
print("ok")
"#;
    let said = Python::of(&b)?.run(program, &[&commit]).await?.ok()?;
    ensure!(said.out.ends_with("ok\n"), "{said:?}");
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// A tokenizer and a config, made by the library itself, come back through a node.
#[tokio::test]
async fn transformers_reads_from_a_node() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let (a, b) = pair(&home_a, &home_b).await?;
    let tree = Tree::new()?;
    let make = r#"
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, PreTrainedTokenizerFast
words = Tokenizer(models.WordLevel({"[UNK]": 0, "no": 1, "hub": 2}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(sys.argv[1])
BertConfig(hidden_size=48, num_attention_heads=4, num_hidden_layers=2).save_pretrained(sys.argv[1])
"#;
    let folder = tree.path().display().to_string();
    Python::of(&a)?.run(make, &[&folder]).await?.ok()?;
    home_a.add(tree.path(), "acme/words").await?;
    let read = r#"
from transformers import AutoConfig, AutoTokenizer
assert AutoConfig.from_pretrained("acme/words").hidden_size == 48
assert AutoTokenizer.from_pretrained("acme/words")("no hub at")["input_ids"] == [1, 2, 0]
print("ok")
"#;
    let said = Python::of(&b)?.run(read, &[]).await?.ok()?;
    ensure!(said.out.ends_with("ok\n"), "{said:?}");
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// `load_dataset` of JSON lines and of Parquet.
#[tokio::test]
async fn datasets_loads_from_a_node() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let (a, b) = pair(&home_a, &home_b).await?;
    let rows: String = (0..500).map(|n| format!("{{\"n\": {n}, \"text\": \"row {n}\"}}\n")).collect();
    let lines = Tree::new()?;
    lines.write("train.jsonl", rows.as_bytes())?;
    home_a.done(&["add", &lines.path().display().to_string(), "acme/lines", "--dataset"]).await?;
    let parquet = Tree::new()?;
    let make = "import sys, pyarrow as a, pyarrow.parquet as p\n\
                p.write_table(a.table({'n': list(range(500))}), sys.argv[1])";
    std::fs::create_dir_all(parquet.path().join("data"))?;
    let file = parquet.path().join("data/train-00000-of-00001.parquet").display().to_string();
    Python::of(&a)?.run(make, &[&file]).await?.ok()?;
    home_a.done(&["add", &parquet.path().display().to_string(), "datasets/acme/columns"]).await?;

    let read = r#"
from datasets import load_dataset
lines = load_dataset("acme/lines", split="train")
assert len(lines) == 500 and lines[7] == {"n": 7, "text": "row 7"}, lines
columns = load_dataset("acme/columns", split="train")
assert sum(columns["n"]) == 499 * 250, columns
first = next(iter(load_dataset("acme/lines", split="train", streaming=True)))
assert first["n"] == 0, first
print("ok")
"#;
    let said = Python::of(&b)?.run(read, &[]).await?.ok()?;
    ensure!(said.out.ends_with("ok\n"), "{said:?}");
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// A cache that `hf` filled is taken over by reference and served on, under the commit it always had.
#[tokio::test]
async fn a_cache_is_adopted() -> StoryResult {
    let [home_a, home_b, home_c] = [Home::new()?, Home::new()?, Home::new()?];
    let (a, b) = pair(&home_a, &home_b).await?;
    let tree = Tree::model(2)?;
    let commit = home_a.add(tree.path(), "acme/tiny").await?;
    let python = Python::of(&b)?;
    python.hf(&["download", "acme/tiny"]).await?.ok()?;
    a.stop().await?;
    b.stop().await?;

    let report = home_c.done(&["adopt", &python.hf_home().display().to_string()]).await?;
    ensure!(report["repos"][0]["repo"] == "acme/tiny", "{report}");
    ensure!(report["repos"][0]["snapshots"][0][0] == commit.as_str(), "{report}");
    let c = home_c.start().await?;
    let arrived = home_c.beside("arrived");
    let reader = Python::of(&c)?;
    reader.hf(&["download", "acme/tiny", "--local-dir", &arrived.display().to_string()]).await?.ok()?;
    same_files(tree.path(), &arrived)?;
    c.stop().await?;
    Ok(())
}

/// A pull into a Hugging Face cache is found there by the library, offline.
#[tokio::test]
async fn a_pull_fills_a_cache() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let (a, b) = pair(&home_a, &home_b).await?;
    let tree = Tree::model(1)?;
    home_a.add(tree.path(), "acme/tiny").await?;
    let python = Python::of(&b)?;
    home_b
        .done(&["pull", "acme/tiny", "--to-hf-cache", &python.hf_home().join("hub").display().to_string()])
        .await?;
    a.stop().await?;
    b.stop().await?; // from here there is only the cache
    let program = r#"
from huggingface_hub import snapshot_download
print(snapshot_download("acme/tiny", local_files_only=True))
"#;
    let said = python.run(program, &[]).await?.ok()?;
    same_files(tree.path(), std::path::Path::new(said.out.trim()))
}

//! A disk that fills up in the middle of a fetch.

use std::fs::File;
use std::process::Stdio;

use anyhow::ensure;
use hubless_tests::{Home, StoryResult, Tree, hubless_binary, same_files};
use tokio::process::Command;

const REPO: &str = "acme/large";

/// Starts a node on a disk of 160 MiB that only it sees; pulls what does not fit, then what would, and somebody else fills
/// the disk in the middle of it, and makes room again; prints what came of each. `$1` hubless, `$2` folder for the disk,
/// `$3` the publisher's address, `$4` its id, `$5` where to write.
const STORY: &str = r#"
mount -t tmpfs -o size=160m none "$2" || exit 97
"$1" --data "$2/data" run --http 127.0.0.1:0 --listen 127.0.0.1:0 --no-mdns --json --bootstrap "$3" >"$5/first" &
node=$!
for try in $(seq 200); do [ -s "$5/first" ] && break; sleep 0.1; done
"$1" --data "$2/data" pull acme/large --accept-from "$4" 2>"$5/refusal"
echo "large $?"
"$1" --data "$2/data" status --json >"$5/status"
echo "status $?"
"$1" --data "$2/data" limits --down 10MB/s >/dev/null
"$1" --data "$2/data" pull acme/middle --accept-from "$4" >/dev/null 2>"$5/cut" &
pull=$!
for try in $(seq 200); do [ "$(du -sm "$2/data/blobs" | cut -f1)" -ge 10 ] && break; sleep 0.1; done
echo "in the middle $(($(du -sm "$2/data/blobs" | cut -f1) < 60))"
cat /dev/zero >"$2/others" 2>/dev/null
wait $pull
echo "middle $?"
"$1" --data "$2/data" list >"$5/list"
echo "list $?"
rm "$2/others"
"$1" --data "$2/data" limits --reset >/dev/null
"$1" --data "$2/data" pull acme/middle --accept-from "$4" --json >"$5/rest"
echo "again $?"
"$1" --data "$2/data" gc >/dev/null
echo "gc $?"
"$1" --data "$2/data" pull acme/small --accept-from "$4" --to "$5/arrived" >/dev/null
echo "small $?"
kill -TERM $node
wait $node
echo "node $?"
"#;

/// The pull says that the disk is full and what to do; the node lives on, and what fits is fetched.
///
/// Needs a mount of its own, as a user or as root; where the system forbids that (some containers), the story says
/// so and is not told.
#[tokio::test]
async fn a_full_disk_is_named_and_survived() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let (large, middle, small) = (Tree::model(1)?, Tree::model(60)?, Tree::model(1)?);
    // Zeros, and nothing on this disk: only the other one has no room for it.
    File::create(large.path().join("zeros.bin"))?.set_len(200 << 20)?;
    let a = home_a.start().await?;
    home_a.add(large.path(), REPO).await?;
    home_a.add(small.path(), "acme/small").await?;
    home_a.add(middle.path(), "acme/middle").await?;
    let (disk, out) = (home_b.beside("disk"), home_b.beside("out"));
    std::fs::create_dir_all(&disk)?;
    std::fs::create_dir_all(&out)?;
    let mut story = Command::new("unshare");
    story.args(["--map-root-user", "--mount", "bash", "-c", STORY, "story"]);
    story.arg(hubless_binary()?).arg(&disk).args([&a.bootstrap, &a.id]).arg(&out);
    let told = story.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&told.stdout);
    if said.is_empty() {
        ensure!(std::env::var_os("CI").is_none(), "a CI can mount: {told:?}");
        eprintln!("NOT TOLD: this system allows no mount: {}", String::from_utf8_lossy(&told.stderr));
        return Ok(());
    }
    ensure!(
        said == "large 7\nstatus 0\nin the middle 1\nmiddle 7\nlist 0\nagain 0\ngc 0\nsmall 0\nnode 0\n",
        "{said}{}",
        String::from_utf8_lossy(&told.stderr)
    );
    for refusal in ["refusal", "cut"] {
        let refusal = std::fs::read_to_string(out.join(refusal))?;
        ensure!(refusal.contains("full") && refusal.contains("hint: "), "{refusal}");
    }
    let rest = std::fs::read_to_string(out.join("rest"))?;
    let rest: serde_json::Value = serde_json::from_str(rest.lines().last().unwrap_or_default())?;
    let here = rest["result"]["from"].as_array().into_iter().flatten().find(|pair| pair[0] == "here");
    let here = here.and_then(|pair| pair[1].as_u64()).unwrap_or_default();
    ensure!(here > 5 << 20, "what came before the disk was full is kept: {rest}");
    same_files(small.path(), &out.join("arrived"))?;
    a.stop().await?;
    Ok(())
}

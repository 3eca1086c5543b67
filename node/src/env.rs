//! Everything the program reads from its environment.

use std::path::PathBuf;

/// Which events are logged, as `tracing` filters: `HUBLESS_LOG=debug`, `HUBLESS_LOG=hubless_mirror=trace`.
pub(crate) const LOG_VAR: &str = "HUBLESS_LOG";

/// The value of `HUBLESS_LOG`, if it is set and not empty.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn log_filter() -> Option<String> {
    std::env::var(LOG_VAR).ok().filter(|text| !text.is_empty())
}

/// Where a node keeps its data when `--data` is not given: `$XDG_DATA_HOME/hubless`, else
/// `~/.local/share/hubless`.
pub(crate) fn default_data() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_DATA_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("hubless"))
}

/// The cache that this user's Hub tools write: `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else `huggingface/hub` in
/// `$XDG_CACHE_HOME`, else in `~/.cache`.
pub(crate) fn hf_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

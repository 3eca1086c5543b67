//! Which files of a commit a pull asks for.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use hubless_types::RepoPath;

use crate::MirrorError;

/// Most globs of one request.
const MAX_GLOBS: usize = 1024;

/// Globs over whole paths, as `hf download` takes them: `*` matches `/` too.
pub(super) struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, MirrorError> {
        let chosen = if include.is_empty() { None } else { Some(set(include)?) };
        Ok(Self { include: chosen, exclude: set(exclude)? })
    }

    pub(super) fn passes(&self, path: &RepoPath) -> bool {
        let path = path.as_str();
        self.include.as_ref().is_none_or(|set| set.is_match(path)) && !self.exclude.is_match(path)
    }
}

fn set(globs: &[String]) -> Result<GlobSet, MirrorError> {
    if let Some(glob) = globs.get(MAX_GLOBS) {
        return Err(MirrorError::Glob { glob: glob.clone(), why: format!("at most {MAX_GLOBS} are taken") });
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        // A folder means everything beneath it.
        let text = if glob.ends_with('/') { format!("{glob}*") } else { glob.clone() };
        let built = GlobBuilder::new(&text).literal_separator(false).build();
        set.add(built.map_err(|e| MirrorError::Glob { glob: glob.clone(), why: e.kind().to_string() })?);
    }
    set.build().map_err(|e| MirrorError::Glob { glob: globs.join(" "), why: e.kind().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(include: &[&str], exclude: &[&str]) -> Vec<&'static str> {
        let own = |globs: &[&str]| globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(&own(include), &own(exclude)).unwrap();
        let paths = ["config.json", "model.safetensors", "onnx/config.json", "onnx/model.onnx"];
        paths.into_iter().filter(|p| filter.passes(&p.parse().unwrap())).collect()
    }

    #[test]
    fn globs_choose_as_the_hubs_own_client_does() {
        assert_eq!(passing(&[], &[]).len(), 4);
        assert_eq!(passing(&["*.json"], &[]), ["config.json", "onnx/config.json"]);
        assert_eq!(passing(&["onnx/"], &["*.json"]), ["onnx/model.onnx"]);
        assert_eq!(passing(&["onnx/*", "config.json"], &[]).len(), 3);
    }

    #[test]
    fn what_is_no_glob_is_named() {
        let error = Filter::new(&["a[".into()], &[]).err().unwrap().to_string();
        assert!(error.contains("`a[`"), "{error}");
    }
}

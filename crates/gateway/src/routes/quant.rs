//! Which GGUF file of a repository a tag means.

use hubless_types::FileEntry;

/// What is taken when no quantization is named, the first that is there.
const PREFERRED: [&str; 10] =
    ["Q4_K_M", "Q4_K_S", "Q4_0", "Q4_K_L", "IQ4_XS", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "Q3_K_M"];

/// The quantization that a file's name ends in, as it is written: `Q4_K_M` of `tiny-1B-Q4_K_M.gguf`.
pub(crate) fn of(name: &str) -> Option<&str> {
    let stem = stem(name)?;
    let word = stem.rsplit(['-', '.']).next().unwrap_or(stem);
    is_quant(word).then_some(word)
}

fn stem(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    extension.eq_ignore_ascii_case("gguf").then_some(stem)
}

fn is_quant(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let numbered = ["Q", "IQ", "TQ"].into_iter().filter_map(|start| word.strip_prefix(start));
    numbered.into_iter().any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        || ["F16", "FP16", "BF16", "F32", "FP32"].contains(&word.as_str())
        || word.starts_with("MXFP4")
}

/// Whether it is one of several pieces, which ollama cannot pull.
fn is_piece(stem: &str) -> bool {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let mut words = stem.rsplit('-');
    matches!((words.next(), words.next(), words.next()), (Some(all), Some("of"), Some(one)) if digits(all) && digits(one))
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The files that a model may be made of, by path.
pub(crate) fn all(entries: &[FileEntry]) -> impl Iterator<Item = &FileEntry> {
    entries.iter().filter(|entry| {
        let name = lower(entry.path.file_name());
        stem(&name).is_some_and(|stem| !is_piece(stem))
            && !name.contains("mmproj")
            && !name.contains("imatrix")
    })
}

/// What lets a model see, if the repository has it; the smaller of two.
pub(crate) fn projector(entries: &[FileEntry]) -> Option<&FileEntry> {
    let is_projector = |entry: &&FileEntry| {
        let name = lower(entry.path.file_name());
        stem(&name).is_some() && name.contains("mmproj")
    };
    entries.iter().filter(is_projector).min_by_key(|entry| entry.size)
}

/// The file that `tag` names: a quantization, a file's name, or `latest` for what most people take.
pub(crate) fn choose<'a>(entries: &'a [FileEntry], tag: &str) -> Option<&'a FileEntry> {
    let quantized = |wanted: &str| {
        all(entries).find(|e| of(e.path.file_name()).is_some_and(|q| q.eq_ignore_ascii_case(wanted)))
    };
    if tag.eq_ignore_ascii_case("latest") {
        return PREFERRED.into_iter().find_map(quantized).or_else(|| all(entries).next());
    }
    let named = |entry: &&FileEntry| {
        let name = entry.path.file_name();
        name.eq_ignore_ascii_case(tag) || stem(name).is_some_and(|stem| stem.eq_ignore_ascii_case(tag))
    };
    all(entries).find(named).or_else(|| quantized(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::{BlobId, FileMode};

    fn entries(names: &[&str]) -> Vec<FileEntry> {
        let entry = |name: &&str| FileEntry {
            path: name.parse().unwrap(),
            mode: FileMode::Regular,
            blob: BlobId::from_bytes([1; 20]),
            size: name.len() as u64,
            lfs: None,
        };
        names.iter().map(entry).collect()
    }

    #[test]
    fn a_tag_finds_its_file() {
        let files = entries(&[
            "README.md",
            "Tiny-1B-F16.gguf",
            "Tiny-1B-Q4_K_M.gguf",
            "Tiny-1B-Q8_0.GGUF",
            "big/Big-Q2_K-00001-of-00002.gguf",
            "mmproj-F16.gguf",
        ]);
        let chosen = |tag| choose(&files, tag).map(|entry| entry.path.as_str());
        assert_eq!(chosen("latest"), Some("Tiny-1B-Q4_K_M.gguf"));
        assert_eq!(chosen("q8_0"), Some("Tiny-1B-Q8_0.GGUF"));
        assert_eq!(chosen("F16"), Some("Tiny-1B-F16.gguf"));
        assert_eq!(chosen("tiny-1b-q4_k_m.gguf"), Some("Tiny-1B-Q4_K_M.gguf"));
        assert_eq!(chosen("Tiny-1B-Q4_K_M"), Some("Tiny-1B-Q4_K_M.gguf"));
        assert_eq!((chosen("Q2_K"), chosen("Q9_X"), chosen("")), (None, None, None));
        assert_eq!(projector(&files).unwrap().path.as_str(), "mmproj-F16.gguf");
        assert_eq!(choose(&entries(&["model.gguf"]), "latest").unwrap().path.as_str(), "model.gguf");
        assert_eq!(choose(&entries(&["model.bin"]), "latest"), None);
    }
}

//! Which client does which operation, by which program.

/// What a client does; the columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Info, listings, history, search.
    Look,
    /// Files one by one, odd names included.
    File,
    /// A whole repository.
    Whole,
    /// Parts of files, streams.
    Ranges,
    /// Killed half way and started again.
    Resume,
    /// What is not there is told apart.
    Refusals,
}

impl Operation {
    /// Every operation, as the columns stand.
    pub const ALL: [Self; 6] =
        [Self::Look, Self::File, Self::Whole, Self::Ranges, Self::Resume, Self::Refusals];

    /// The column's title.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Look => "info, listing, search",
            Self::File => "single files",
            Self::Whole => "whole repository",
            Self::Ranges => "ranges, streaming",
            Self::Resume => "killed and resumed",
            Self::Refusals => "refusals",
        }
    }
}

/// How a program is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// A script of `clients/python` in the environment of this name; the empty name is the main one.
    Python(&'static str, &'static str),
    /// A script of `clients/shell`; the main environment's commands are in its path.
    Shell(&'static str),
    /// An operation of `clients/js`.
    Js(&'static str),
    /// A version and an operation of `clients/hf-hub`.
    Crate(&'static str, &'static str),
}

/// One client doing one operation.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// The row.
    pub client: &'static str,
    /// The column.
    pub operation: Operation,
    /// What is run.
    pub program: Program,
}

use Operation::{File, Look, Ranges, Refusals, Resume, Whole};

/// The rows of the table, in order. Versions are those that `scripts/clients` and `tests/clients` pin.
const CLIENTS: &[(&str, &[(Operation, Program)])] = &[
    ("huggingface_hub 2.4.0 with hf_xet", &hub("")),
    ("huggingface_hub 2.4.0", &hub("hub-2.4")),
    ("huggingface_hub 1.5.0", &hub("hub-1.5")),
    ("huggingface_hub 0.36.2", &hub("hub-0.36")),
    (
        "hf CLI 2.4.0 (download, cache verify, models ls)",
        &[
            (Look, Program::Shell("hf_look")),
            (File, Program::Shell("hf_file")),
            (Whole, Program::Shell("hf_whole")),
            (Resume, Program::Shell("hf_resume")),
            (Refusals, Program::Shell("hf_refusals")),
        ],
    ),
    (
        "transformers 5.23.0",
        &[
            (File, Program::Python("", "transformers_file")),
            (Resume, Program::Python("", "transformers_resume")),
            (Refusals, Program::Python("", "transformers_refusals")),
        ],
    ),
    (
        "datasets 5.2.0 (load_dataset, streaming, Parquet predicates)",
        &[
            (Whole, Program::Python("", "datasets_whole")),
            (Ranges, Program::Python("", "datasets_ranges")),
            (Resume, Program::Python("", "datasets_resume")),
        ],
    ),
    (
        "@huggingface/hub 2.17.5",
        &[
            (Look, Program::Js("look")),
            (File, Program::Js("file")),
            (Whole, Program::Js("whole")),
            (Ranges, Program::Js("ranges")),
            (Resume, Program::Js("resume")),
            (Refusals, Program::Js("refusals")),
        ],
    ),
    (
        "hf-hub crate 1.0.0",
        &[
            (Look, Program::Crate("1.0", "look")),
            (File, Program::Crate("1.0", "file")),
            (Whole, Program::Crate("1.0", "whole")),
            (Ranges, Program::Crate("1.0", "ranges")),
            (Resume, Program::Crate("1.0", "resume")),
            (Refusals, Program::Crate("1.0", "refusals")),
        ],
    ),
    (
        "hf-hub crate 0.5.0",
        &[
            (Look, Program::Crate("0.5", "look")),
            (File, Program::Crate("0.5", "file")),
            (Resume, Program::Crate("0.5", "resume")),
            (Refusals, Program::Crate("0.5", "refusals")),
        ],
    ),
    (
        "git with git-lfs",
        &[
            (Look, Program::Shell("git_look")),
            (File, Program::Shell("git_file")),
            (Whole, Program::Shell("git_whole")),
            (Resume, Program::Shell("git_resume")),
            (Refusals, Program::Shell("git_refusals")),
        ],
    ),
    (
        "curl",
        &[
            (Look, Program::Shell("curl_look")),
            (File, Program::Shell("curl_file")),
            (Ranges, Program::Shell("curl_ranges")),
            (Resume, Program::Shell("curl_resume")),
            (Refusals, Program::Shell("curl_refusals")),
        ],
    ),
    ("aria2", &[(Ranges, Program::Shell("aria2_file")), (Resume, Program::Shell("aria2_resume"))]),
];

/// All that huggingface_hub does, whatever its version.
const fn hub(environment: &'static str) -> [(Operation, Program); 6] {
    [
        (Look, Program::Python(environment, "look")),
        (File, Program::Python(environment, "file")),
        (Whole, Program::Python(environment, "snapshot")),
        (Ranges, Program::Python(environment, "ranges")),
        (Resume, Program::Python(environment, "big")),
        (Refusals, Program::Python(environment, "refusals")),
    ]
}

/// Every cell, row by row.
pub fn all() -> Vec<Cell> {
    let row = |(client, does): &(&'static str, &[(Operation, Program)])| -> Vec<Cell> {
        does.iter()
            .map(|(operation, program)| Cell { client, operation: *operation, program: *program })
            .collect()
    };
    CLIENTS.iter().flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the rows are what is installed.
    #[test]
    fn the_table_names_the_versions_that_are_pinned() -> anyhow::Result<()> {
        let root = crate::crate_folder().join("..");
        for (client, file, pin) in [
            ("huggingface_hub 2.4.0 with hf_xet", "scripts/requirements.txt", "huggingface_hub==2.4.0\n"),
            ("huggingface_hub 2.4.0", "scripts/clients/hub-2.4.txt", "huggingface_hub==2.4.0\n"),
            ("huggingface_hub 1.5.0", "scripts/clients/hub-1.5.txt", "huggingface_hub==1.5.0\n"),
            ("huggingface_hub 0.36.2", "scripts/clients/hub-0.36.txt", "huggingface_hub==0.36.2\n"),
            ("transformers 5.23.0", "scripts/requirements.txt", "transformers==5.23.0\n"),
            ("datasets 5.2.0", "scripts/requirements.txt", "datasets==5.2.0\n"),
            ("@huggingface/hub 2.17.5", "tests/clients/js/package.json", "\"@huggingface/hub\": \"2.17.5\""),
            ("hf-hub crate 1.0.0", "tests/clients/hf-hub/Cargo.toml", "version = \"=1.0.0\""),
            ("hf-hub crate 0.5.0", "tests/clients/hf-hub/Cargo.toml", "version = \"=0.5.0\""),
        ] {
            assert!(CLIENTS.iter().any(|(name, _)| name.starts_with(client)), "no row is `{client}`");
            assert!(std::fs::read_to_string(root.join(file))?.contains(pin), "{file} does not pin {pin}");
        }
        let pins = std::fs::read_to_string(root.join("scripts/requirements.txt"))?;
        assert!(
            pins.contains("hf-xet==")
                && !std::fs::read_to_string(root.join("scripts/clients/hub-2.4.txt"))?.contains("hf-xet=")
        );
        Ok(())
    }
}

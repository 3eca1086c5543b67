//! What the process says by its exit code. Scripts may rely on these numbers.

use std::process::ExitCode;

/// Why the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// Something went wrong that should not be able to; please report it.
    Internal = 1,
    /// What was given cannot be used: an argument, a config, a folder.
    Usage = 2,
    /// No such repository, revision or file is known.
    NotFound = 3,
    /// The name is known only from nodes that are not trusted to say what it means.
    Untrusted = 4,
    /// Nobody who has it could be reached, or no node runs.
    Unavailable = 5,
    /// Bytes are not what their digest says.
    Integrity = 6,
    /// Reading or writing the disk failed.
    Disk = 7,
    /// Another process uses the folder or the port, or the node asks to try later.
    Busy = 8,
}

impl Exit {
    /// For `--help`.
    pub(crate) const HELP: &'static str = "Exit codes: 0 done, 1 internal error, 2 unusable input, 3 not found, \
        4 not trusted, or not let in, 5 no source or no running node, 6 bytes are not what they should be, 7 disk, \
        8 busy or locked.";

    /// The code for an error's `kind`, as the admin API spells it; unknown kinds are internal.
    pub(crate) fn of_kind(kind: &str) -> Self {
        match kind {
            "bad-input" => Self::Usage,
            kind if kind == "not-found" || kind.ends_with("-not-found") => Self::NotFound,
            "untrusted" | "gated" | "disabled" | "bad-token" => Self::Untrusted,
            "unavailable" => Self::Unavailable,
            "integrity" => Self::Integrity,
            "disk" | "disk-full" => Self::Disk,
            "busy" => Self::Busy,
            _ => Self::Internal,
        }
    }

    /// The kind that stands for this code in JSON.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Internal => "internal",
            Self::Usage => "bad-input",
            Self::NotFound => "not-found",
            Self::Untrusted => "untrusted",
            Self::Unavailable => "unavailable",
            Self::Integrity => "integrity",
            Self::Disk => "disk",
            Self::Busy => "busy",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code() {
        for exit in [
            Exit::Internal,
            Exit::Usage,
            Exit::NotFound,
            Exit::Untrusted,
            Exit::Unavailable,
            Exit::Integrity,
            Exit::Disk,
            Exit::Busy,
        ] {
            assert_eq!(Exit::of_kind(exit.kind()), exit);
        }
        assert_eq!(Exit::of_kind("revision-not-found"), Exit::NotFound);
    }
}

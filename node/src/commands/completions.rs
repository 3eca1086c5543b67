//! `hubless completions`: a completion script for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Context};
use crate::error::NodeError;
use crate::exit::Exit;

/// Print a completion script for a shell
///
/// For bash: `hubless completions bash > ~/.local/share/bash-completion/completions/hubless`
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "hubless", &mut script);
        context.out.text(&script)
    }
}

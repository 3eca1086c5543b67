//! The command line: which commands there are, what all of them share, and how they end.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{
    add, adopt, check_config, completions, forget, gc, limits, list, names, peers, pin, prove, pull, reload,
    run, status, trace, unpin, verify,
};
use crate::env;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::logging;
use crate::output::Output;

/// Where `--help` lists the options of every command.
const EVERY: &str = "For every command";

/// Keeps, fetches and serves models and datasets without depending on any one host.
///
/// `hubless run` starts a node. Your tools then use it as if it were the Hub:
/// HF_ENDPOINT=http://127.0.0.1:8090 hf download org/name
#[derive(Debug, Parser)]
#[command(name = "hubless", version, after_help = Exit::HELP, propagate_version = true)]
pub(crate) struct Cli {
    /// The node's data folder [default: $XDG_DATA_HOME/hubless or ~/.local/share/hubless]
    #[arg(long, global = true, value_name = "DIR", help_heading = EVERY)]
    data: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true, help_heading = EVERY)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

// Their help is their arguments' documentation.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Add(add::AddArgs),
    Adopt(adopt::AdoptArgs),
    Pull(pull::PullArgs),
    Pin(pin::PinArgs),
    Unpin(unpin::UnpinArgs),
    Forget(forget::ForgetArgs),
    List(list::ListArgs),
    Names(names::NamesArgs),
    Prove(prove::ProveArgs),
    Status(status::StatusArgs),
    Peers(peers::PeersArgs),
    Trace(trace::TraceArgs),
    Limits(limits::LimitsArgs),
    Reload(reload::ReloadArgs),
    Verify(verify::VerifyArgs),
    Gc(gc::GcArgs),
    CheckConfig(check_config::CheckConfigArgs),
    Completions(completions::CompletionsArgs),
}

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// The data folder, absolute.
    pub(crate) data: PathBuf,
    /// Where results go.
    pub(crate) out: Output,
}

/// Runs the command that the arguments name.
pub(crate) fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let out = Output::new(cli.json);
    let serving = matches!(cli.command, Command::Run(_));
    logging::start(serving);
    let ended = data_folder(cli.data).and_then(|data| dispatch(cli.command, &Context { data, out }));
    ended.unwrap_or_else(|error| {
        // The first line of a serving node on standard output means that it serves: nothing else comes there.
        out.error(&error, !serving);
        error.exit()
    })
}

/// Shows help where it was asked for, else what is wrong with the arguments.
fn misused(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // A reader that is gone has read enough.
        let _ = error.print();
        return Exit::Ok;
    }
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ").replace("\n\nFor more information, try '--help'.\n", "");
    let json = std::env::args_os().any(|arg| arg == "--json");
    let error = NodeError::Unusable { message: text, hint: Some("`--help` shows what is taken".into()) };
    Output::new(json).error(&error, !is_run(std::env::args().skip(1)));
    Exit::Usage
}

/// Whether `run` is the command of arguments that could not be read.
fn is_run(mut args: impl Iterator<Item = String>) -> bool {
    while let Some(arg) = args.next() {
        if arg == "--data" {
            args.next();
        } else if !arg.starts_with('-') {
            return arg == "run";
        }
    }
    false
}

fn data_folder(asked: Option<PathBuf>) -> Result<PathBuf, NodeError> {
    let dir = asked.or_else(env::default_data).ok_or_else(|| NodeError::Unusable {
        message: "there is no home folder to keep data in".into(),
        hint: Some("name a folder: hubless --data DIR …".into()),
    })?;
    std::path::absolute(&dir)
        .map_err(|source| NodeError::Io { doing: format!("find `{}`", dir.display()), source })
}

fn dispatch(command: Command, context: &Context) -> Result<Exit, NodeError> {
    match command {
        Command::Run(args) => args.run(context),
        Command::CheckConfig(args) => args.run(context),
        Command::Completions(args) => args.run(context),
        command => runtime()?.block_on(converse(command, context)),
    }
}

async fn converse(command: Command, context: &Context) -> Result<Exit, NodeError> {
    match command {
        Command::Add(args) => args.run(context).await,
        Command::Adopt(args) => args.run(context).await,
        Command::Pull(args) => args.run(context).await,
        Command::Pin(args) => args.run(context).await,
        Command::Unpin(args) => args.run(context).await,
        Command::Forget(args) => args.run(context).await,
        Command::List(args) => args.run(context).await,
        Command::Names(args) => args.run(context).await,
        Command::Prove(args) => args.run(context).await,
        Command::Status(args) => args.run(context).await,
        Command::Peers(args) => args.run(context).await,
        Command::Trace(args) => args.run(context).await,
        Command::Limits(args) => args.run(context).await,
        Command::Reload(args) => args.run(context).await,
        Command::Verify(args) => args.run(context).await,
        Command::Gc(args) => args.run(context).await,
        Command::Run(_) | Command::CheckConfig(_) | Command::Completions(_) => Ok(Exit::Ok),
    }
}

/// The runtime of a command or a node.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, NodeError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| NodeError::Io { doing: "start the runtime".into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_other_programs_rely_on_parses() {
        for line in [
            "hubless --data D run --http 127.0.0.1:0 --listen 127.0.0.1:0 --no-mdns --no-origin --json",
            "hubless --data D run --config F --origin https://example.org",
            "hubless --data D --json run",
            "hubless --data D add DIR org/name",
            "hubless --data D add DIR org/name --dataset --message text --json",
            "hubless --data D adopt",
            "hubless --data D adopt DIR --json",
            "hubless --data D pull org/name@refs/pr/1 --include *.json --exclude onnx/* --to OUT",
            "hubless --data D pull org/name --include *.json --include *.txt --to-hf-cache",
            "hubless --data D pull datasets/org/name --accept-from 12D3KooWJ9dRkzZ6QUqbBVmbEj7EKG6SWhPzLA6VMRo6R9vxmxPk",
            "hubless --data D pull org/name --dataset",
            "hubless --data D pin org/name@v1",
            "hubless --data D unpin org/name",
            "hubless --data D forget org/name --dataset",
            "hubless --data D list",
            "hubless --data D names org/name --json",
            "hubless --data D prove org/name@main",
            "hubless --data D prove org/name@main sub/model.bin --export F",
            "hubless prove --check F",
            "hubless prove --check F org/name@main model.bin --json",
            "hubless --data D status --json",
            "hubless --data D peers",
            "hubless --data D trace a/b@main --json",
            "hubless --data D limits",
            "hubless --data D limits --up 2MB/s --down unlimited --origin 50Mbit/s --for 2h --json",
            "hubless --data D limits --reset --up-month 500GB",
            "hubless --data D reload --json",
            "hubless --data D verify",
            "hubless --data D gc --dry-run",
            "hubless --data D check-config F",
            "hubless completions bash",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }

    /// A serving node's first line on standard output means that it serves.
    #[test]
    fn a_node_that_cannot_start_is_told_from_other_commands() {
        let run = |line: &str| is_run(line.split(' ').map(str::to_owned));
        assert!(run("run --jsn") && run("--data D --json run --http x") && run("--data=D run"));
        assert!(!run("--data run pull x") && !run("pull run --json") && !run("--json"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for line in [
            "hubless pull a/b/c",
            "hubless pin ../x",
            "hubless forget a/b@main",
            "hubless pull a/b@",
            "hubless run --bootstrap here:1",
            "hubless limits --up fast",
            "hubless limits --up 20",
            "hubless limits --for 2h",
            "hubless limits --up 2MB/s --for 0s",
            "hubless limits --up 2MB/s --for 99999999999d",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        let bootstrap = format!(
            "hubless run --bootstrap {0} --bootstrap {0}",
            "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWJ9dRkzZ6QUqbBVmbEj7EKG6SWhPzLA6VMRo6R9vxmxPk"
        );
        assert!(Cli::try_parse_from(bootstrap.split(' ')).is_ok());
    }
}

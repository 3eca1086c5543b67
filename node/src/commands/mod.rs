//! One command a file: its arguments, its help and its body.

pub(crate) mod add;
pub(crate) mod adopt;
pub(crate) mod check_config;
pub(crate) mod completions;
pub(crate) mod forget;
pub(crate) mod gc;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod names;
pub(crate) mod peers;
pub(crate) mod pin;
pub(crate) mod prove;
pub(crate) mod pull;
mod reach;
pub(crate) mod reload;
pub(crate) mod run;
mod spec;
pub(crate) mod status;
pub(crate) mod trace;
pub(crate) mod unpin;
pub(crate) mod verify;

use reach::{Reach, absolute};
use spec::RepoSpec;

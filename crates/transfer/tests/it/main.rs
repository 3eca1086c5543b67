//! Two nodes and more, over loopback UDP and over the memory twin.

mod bulk;
mod caps;
mod drafts;
mod fair;
mod far;
mod hostile;
mod interop;
mod memory;
mod sharing;
mod stories;
mod support;

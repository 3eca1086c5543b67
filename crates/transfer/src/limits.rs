//! Every bound of this crate: how long a message may be, how many may wait, how long anyone is waited for.

use std::time::Duration;

/// Largest file that is sent whole beside its manifest, in bytes; larger ones travel as verified segments.
pub const SMALL_FILE_MAX: u64 = 64 * 1024;

/// A peer that sends no byte for this long is passed over.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Longest wait for a connection with a peer.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for the whole answer to a small question.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest wait for a whole manifest; a large one is tens of megabytes.
pub const MANIFEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Most digests that one question for links names; a longer list is asked in turns.
pub const MAX_LINKS_ASKED: usize = 4096;

/// Most small files that one question names; a longer list is asked in turns.
pub const MAX_SMALL_FILES_ASKED: usize = 256;

/// Most blobs that one subscription watches.
pub const MAX_HOLDINGS_ASKED: usize = 256;

/// Subscriptions that one connection may have open; asking for more is answered `busy`.
pub const MAX_SUBSCRIPTIONS: usize = 16;

/// Most groups that one segment may span: 4 GiB. A longer one is the caller's mistake.
pub const MAX_SEGMENT_GROUPS: u64 = 256 * 1024;

/// Shortest time between two pushes of one subscription.
pub const HOLDINGS_INTERVAL: Duration = Duration::from_millis(100);

/// Shortest time between two pushes of who else asks for the same.
pub(crate) const CROWD_INTERVAL: Duration = Duration::from_millis(100);

/// Blobs of which one such push tells.
pub(crate) const CROWDS_A_PUSH: usize = 4;

/// Nodes that are kept as the crowd of one blob.
pub(crate) const MAX_CROWD: usize = 256;

/// Nodes of a crowd that one asker is told of at a time.
pub const MAX_CROWD_TOLD: usize = 16;

/// Most bytes of one push of who else asks for the same.
pub(crate) const MAX_CROWD_FRAME: usize = MAX_HAVE_BYTES + 64 * (MAX_CROWD_TOLD + 2);

/// Blobs that are watched at once, over all subscriptions of all nodes; asking for more is answered `busy`.
pub(crate) const MAX_WATCHED: usize = 65_536;

/// Blobs that one node may have watched at once, over all its connections: what one connection's subscriptions name at
/// most.
pub(crate) const MAX_WATCHED_PER_NODE: usize = MAX_SUBSCRIPTIONS * MAX_HOLDINGS_ASKED;

/// Pause after which a watched blob that nobody fetches here is looked for again; it doubles while nothing changes.
pub(crate) const HOLDINGS_POLL: Duration = Duration::from_millis(500);

/// Longest pause before a watched blob is looked for again.
pub(crate) const MAX_HOLDINGS_POLL: Duration = Duration::from_secs(30);

/// Most bytes of one encoded set of groups that is told; a longer one is told in part.
pub(crate) const MAX_HAVE_BYTES: usize = 128 * 1024;

/// Most bytes of one push of a subscription.
pub(crate) const MAX_HOLDING_FRAME: usize = MAX_HAVE_BYTES + 64;

/// Most files that one question about drafts names.
pub const MAX_DRAFTS_ASKED: usize = 64;

/// Most groups of a draft that are asked for at a time: 32 MiB.
pub const MAX_PART_GROUPS: u64 = 2048;

/// Most bytes of what is told of one draft: three sets of groups.
pub(crate) const MAX_DRAFT_FRAME: usize = 3 * MAX_HAVE_BYTES + 64;

/// Most bytes of one frame of a draft's part.
pub(crate) const MAX_PART_FRAME: usize = PIECE_BYTES;

/// Most bytes of a question on `hubless/1`; the longest names 4,096 digests.
pub(crate) const MAX_REQUEST_BYTES: usize = 512 * 1024;

/// Most bytes of a bundle, as `proof` bounds it.
pub(crate) const MAX_BUNDLE_BYTES: usize = 64 * 1024 * 1024;

/// Most bytes of a link table that is taken or told: more rows than a bundle of 64 MiB can name files.
pub(crate) const MAX_LINK_TABLE_BYTES: usize = 96 * 1024 * 1024;

/// Most bytes of one frame of an answer with a tree: 4,096 parents.
pub(crate) const MAX_TREE_FRAME: usize = 256 * 1024;

/// Most bytes of an answer with statements.
pub(crate) const MAX_STATEMENTS_BYTES: usize = 1024 * 1024;

/// Most statements in an answer.
pub(crate) const MAX_STATEMENTS: usize = 1024;

/// Commits that are looked at for one answer about what is held here. Small, so that whoever asks many nodes in turn hears
/// of all before it has heard all of one.
pub(crate) const SHARED_LOOKED_AT: usize = 256;

/// Most repositories in an answer about what is held here.
pub const MAX_REPOS_TOLD: usize = 512;

/// Most bytes of such an answer.
pub(crate) const MAX_REPOS_BYTES: usize = 128 * MAX_REPOS_TOLD;

/// Most bytes of an answer with links.
pub(crate) const MAX_LINKS_BYTES: usize = 1024 * 1024;

/// Most bytes of one small file in its frame.
pub(crate) const MAX_SMALL_FRAME: usize = SMALL_FILE_MAX as usize + 16;

/// Most bytes of an iroh-blobs request that is read; one range of one blob takes under 64.
pub(crate) const MAX_GET_BYTES: usize = 4096;

/// Requests of one connection that are worked on at once: QUIC lets the peer open no further streams.
pub(crate) const MAX_STREAMS: u32 = 64;

/// Longest wait for a stream to be granted by a peer whose other streams are busy.
pub(crate) const STREAM_WAIT: Duration = STALL_TIMEOUT;

/// Longest wait for a peer's question once its stream is open.
pub(crate) const QUESTION_TIMEOUT: Duration = Duration::from_secs(4);

/// Longest wait for an upload slot; shorter than [`STALL_TIMEOUT`], so that the asker hears `busy`.
pub(crate) const SLOT_WAIT: Duration = Duration::from_secs(2);

/// Longest that one piece of an answer waits to be taken: a peer that takes no longer loses its slot.
pub(crate) const TAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes a second that a peer must take of an answer on the whole, once [`TAKE_TIMEOUT`] is used up: a thin line does,
/// and nobody keeps a slot for as long as it likes.
pub(crate) const MIN_TAKE_RATE: u64 = 16 * 1024;

/// Questions on `hubless/1`, over all connections, that read the store at once.
pub(crate) const QUESTION_SLOTS: usize = 16;

/// Questions of one node, over all its connections, that read the store at once.
pub(crate) const QUESTIONS_PER_NODE: usize = 4;

/// Manifests that are sent at once, over all connections: the largest are tens of megabytes each.
pub(crate) const MANIFEST_SLOTS: usize = 4;

/// Manifests that are sent to one node at once, over all its connections.
pub(crate) const MANIFESTS_PER_NODE: usize = 1;

/// One node's part of the upload slots: of so many, it has one at once, and never less than one in all. The rest is
/// there for others, however many connections it opens.
pub(crate) const UPLOAD_SHARE: usize = 2;

/// In this time what a node was sent counts half where upload slots are given.
pub(crate) const SERVED_HALF_LIFE: Duration = Duration::from_secs(10);

/// Nodes of which it is remembered what they were sent, beside those that ask.
pub(crate) const MAX_SERVED_NODES: usize = 1024;

/// Most bytes of an answer that are handed to a stream in one piece.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

/// Longest TLS handshake of a connection from outside.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection of ours that nobody has used for this long is closed.
pub(crate) const IDLE_CONNECTION: Duration = Duration::from_secs(40);

/// A connection on which a peer is only listened to is kept so long after it was last of use, though others are to be listened to
/// and there is no place: long enough to say what the peer has.
pub(crate) const LISTENS_FOR: Duration = Duration::from_secs(2);

/// A connection of others on which nothing was asked for this long is closed. It is so much longer than
/// [`IDLE_CONNECTION`] that the asker closes first: no question is lost on a connection that is being closed.
pub(crate) const IDLE_INBOUND: Duration = Duration::from_secs(90);

/// Connections that one node may have open with this one: two protocols, each once more while it dials anew.
pub(crate) const MAX_CONNECTIONS_PER_NODE: usize = 4;

/// Segments that are sent on one connection at once. Further requests on it wait a moment for their turn and are
/// then answered `busy`, so whoever fetches keeps no more than this in flight with one peer.
pub const MAX_UPLOADS_PER_CONNECTION: usize = 8;

/// QUIC's own idle timeout: a peer that vanished is noticed after this.
pub(crate) const QUIC_IDLE: Duration = Duration::from_secs(15);

/// How often a quiet connection says that it lives.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Addresses of one provider that are tried.
pub(crate) const MAX_DIALLED_ADDRS: usize = 16;

/// Pieces of an answer (256 KiB each) between the reading thread and the stream.
pub(crate) const PIECES_READY: usize = 2;

/// Bytes that are gathered from a stream before the verifying thread is woken.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;

/// Longest time that gathered bytes wait for more.
pub(crate) const BATCH_LINGER: Duration = Duration::from_millis(3);

/// Batches between the stream and the verifying thread.
pub(crate) const BATCHES_READY: usize = 2;

/// Peers whose bytes are counted apart; the one heard of longest ago makes room.
pub(crate) const MAX_COUNTED_PEERS: usize = 1024;

/// How often whoever waits for a segment hears that it is this node's own cap that holds its bytes back.
pub(crate) const TELL_HELD: Duration = Duration::from_millis(500);

/// Longest wait for tasks and connections to end at shutdown.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1500);

/// Connections of strangers on the bulk port that have not shown a ticket yet; further ones are closed at once.
pub(crate) const MAX_TICKETLESS: usize = 64;

/// Longest wait for a ticket on the bulk port.
pub(crate) const TICKET_WAIT: Duration = Duration::from_secs(3);

/// How long a ticket may be used; longer than it takes to dial.
pub(crate) const TICKET_LIFE: Duration = Duration::from_secs(5);

/// Bulk lines of others that are open or promised at once, for each upload slot.
pub(crate) const LINES_PER_SLOT: usize = 2;

/// Most bulk lines of others, however many upload slots there are: each has a blocking thread, of which there are 512.
pub(crate) const MAX_LINES_SERVED: usize = 256;

/// Bulk lines that one node may have open or promised at once, over all its connections; half of all at most. Each carries
/// what the system lets a TCP connection have under way: some 2.5 MB of the usual 4 MB, which is 25 MB/s over a round trip
/// of 100 ms. A line of 1 Gbit/s needs five of them that never rest.
pub(crate) const LINES_PER_NODE: usize = 8;

/// Bulk lines that this node opens at once, over all peers; whoever comes later is asked over QUIC.
pub(crate) const MAX_LINES: usize = 64;

/// Segments that may wait on one bulk line, the one that is being sent included.
pub(crate) const MAX_ASKED_PER_LINE: usize = 16;

/// Shortest segment for which a bulk line is opened, in groups: 128 KiB. On one that is there all go but those that a reader
/// waits for: a line answers one after the other.
pub(crate) const BULK_GROUPS: u64 = 8;

/// Longest wait for a TCP connection with a bulk port.
pub(crate) const LINE_DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A bulk line on which nothing was asked for this long is closed by whoever opened it.
pub(crate) const IDLE_LINE: Duration = Duration::from_secs(20);

/// A peer with which no bulk line came about, or one broke, is asked over QUIC alone for so long; doubled each time.
pub(crate) const FIRST_LINE_REST: Duration = Duration::from_secs(30);

/// Longest such time.
pub(crate) const MAX_LINE_REST: Duration = Duration::from_secs(30 * 60);

/// Peers of which it is remembered whether bulk lines come about.
pub(crate) const MAX_LINE_PEERS: usize = 1024;

/// Lines to a peer that is farther than this are several: each carries what one TCP window holds a round trip.
pub(crate) const FAR: Duration = Duration::from_millis(20);

/// Most bytes in one sealed record: four groups, the parents above them, and the size.
pub(crate) const MAX_RECORD: usize = 66 * 1024;

/// Records that are sealed before they are written, on a quick line, and opened before they are checked.
pub(crate) const RECORDS_AT_ONCE: usize = 4;

/// Bytes that the system may hold of what is not sent yet on a quick line: more only makes a cancelled segment end later.
pub(crate) const UNSENT_BYTES: u32 = 128 * 1024;

/// The same on any other line, where as much would take a good part of a second.
pub(crate) const UNSENT_BYTES_SLOW: u32 = 32 * 1024;

/// Bytes a second from which on a line is quick: a full buffer takes it 32 ms.
pub(crate) const QUICK_LINE: u64 = 8 * 1024 * 1024;

/// Pieces in a row that have to go so quickly before a line is fed in large ones.
pub(crate) const QUICK_PIECES: u32 = 4;

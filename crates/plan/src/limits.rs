//! Every bound and measure of a plan, and why it is what it is.

use std::time::Duration;

use hubless_types::GROUP_BYTES;

/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;

/// How often a plan wants [`Event::Tick`](super::Event::Tick).
pub const TICK: Duration = Duration::from_millis(100);

/// Holders that a plan keeps; a further one takes the place of one that is of no use, or is not taken.
pub const MAX_HOLDERS: usize = 64;

/// Requests that one holder may have in flight, urgent ones included: as many as a peer serves at once. A further one
/// would wait there for the end of a long one.
pub const MAX_OUTSTANDING: usize = 8;

/// Requests before a reader's position that a holder may have in flight beyond its others.
pub(super) const URGENT_EXTRA: usize = 2;

/// Requests in flight at a near holder of middling rate: one being sent, one to follow it without a pause.
pub(super) const BASE_OUTSTANDING: usize = 2;

/// From this rate on (bytes a second) a third request hides the time between two.
pub(super) const FAST_RATE: u64 = 16 * MIB;

/// One more request in flight for each such part of a round trip: one QUIC stream carries about 1.25 MB a round
/// trip, and a line of 1 Gbit/s at 100 ms needs ten of them.
pub(super) const STREAM_PER_RTT: Duration = Duration::from_millis(10);

/// One more request for each such part of a round trip at a far holder that was not measured yet: its lines begin slowly, and
/// several that begin together are through the sooner.
pub(super) const BEGIN_PER_RTT: Duration = Duration::from_millis(25);

/// Groups in a piece, the unit in which rarity is counted: 512 KiB.
pub(super) const PIECE_GROUPS: u64 = MIB / 2 / GROUP_BYTES;

/// Shortest segment to a holder that is not slow, in groups.
pub(super) const MIN_SEGMENT: u64 = MIB / GROUP_BYTES;

/// Shortest ordinary segment to an origin, in groups: 4 MiB. Each costs it a request, of which it allows so many.
pub(super) const ORIGIN_SEGMENT: u64 = 4 * MIB / GROUP_BYTES;

/// Longest segment, in groups: 16 MiB.
pub(super) const MAX_SEGMENT: u64 = 16 * MIB / GROUP_BYTES;

/// A segment in a crowd is one piece, or as many as its holder sends in this time: what is passed on sooner is of more use.
pub(super) const CROWD_SPAN: Duration = Duration::from_millis(64);

/// Shortest segment to a slow holder, in groups: 64 KiB. What it holds up, another has to send again.
pub(super) const SLOW_SEGMENT: u64 = 4;

/// Shortest segment where little is left that others want too, in groups: 128 KiB.
pub(super) const SMALL_PART: u64 = 8;

/// A holder below this rate (bytes a second) is slow: it would take 4 s for the shortest ordinary segment.
pub(super) const SLOW_RATE: u64 = MIB / 4;

/// Segment at a reader's position, in groups: 256 KiB, so that the first byte is quick. They grow with the distance.
pub(super) const FIRST_SEGMENT: u64 = 16;

/// Shortest window before a reader's position, in groups: 4 MiB.
pub(super) const MIN_WINDOW: u64 = 4 * MIB / GROUP_BYTES;

/// Longest window before a reader's position, in groups: 64 MiB.
pub(super) const MAX_WINDOW: u64 = 64 * MIB / GROUP_BYTES;

/// The window holds what all holders together send in this time.
pub(super) const WINDOW_TIME: Duration = Duration::from_secs(2);

/// A holder with requests in flight that sends nothing for this long has stalled.
pub(super) const STALL_AFTER: Duration = Duration::from_secs(3);

/// Longest wait for the first byte from a holder that never sent one: it may have to be dialled first.
pub(super) const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// The bytes at a reader's position are asked for anew if they are further than this away in the middle of a segment.
pub(super) const READER_WAIT: Duration = Duration::from_millis(250);

/// The bytes at a reader's position are asked of a second holder if the first sent nothing for this long.
pub(super) const RESCUE_AFTER: Duration = Duration::from_millis(800);

/// A request that would take longer than this is taken from its holder if another is four times as fast.
pub(super) const RECLAIM_AFTER: Duration = Duration::from_secs(10);

/// A holder that has sent something keeps its place while it says so many times, one after the other, that it is busy.
pub(super) const KEPT_STRIKES: u32 = 8;

/// The same for one that cannot be reached or sends nothing: for six seconds.
pub(super) const KEPT_STRIKES_AWAY: u32 = 2;

/// First rest of a holder that failed; doubled with each further failure.
pub(super) const FIRST_REST: Duration = Duration::from_secs(2);

/// Longest rest of a holder that failed.
pub(super) const MAX_REST: Duration = Duration::from_secs(60);

/// Rest of a holder that is busy or does not have what was asked, at first.
pub(super) const SHORT_REST: Duration = Duration::from_millis(500);

/// Longest rest of such a holder: it answers, and whoever is busy is free again soon.
pub(super) const MAX_SHORT_REST: Duration = Duration::from_secs(4);

/// Where the local network alone would be done within this time, nobody else is asked for what it has.
pub(super) const LAN_ALONE: Duration = Duration::from_secs(10);

/// Where peers alone would be done within this time, no origin is asked for what they have.
pub(super) const PEERS_ALONE: Duration = Duration::from_secs(3);

/// The same where the origins' bytes of a month are bounded: they are worth a long wait.
pub(super) const PEERS_ALONE_METERED: Duration = Duration::from_secs(15 * 60);

/// A holder on the local network whose rate is not known yet is given this long to show it.
pub(super) const LAN_GRACE: Duration = Duration::from_secs(1);

/// What a holder is taken to send before it was measured, in bytes a second, if no other was.
pub(super) const UNKNOWN_RATE: u64 = 4 * MIB;

/// Shortest time over which a rate is measured.
pub(super) const SAMPLE: Duration = Duration::from_millis(250);

/// How fast old measurements fade.
pub(super) const FADE: Duration = Duration::from_millis(1500);

/// A peer whose first byte never came sooner than this is far: for so long, and more, it does what its lines' windows let it do.
pub(super) const FAR: Duration = Duration::from_millis(50);

/// For so long after it was first measured, a far holder is taken to be as fast as its best moment, where that was the last.
pub(super) const FAR_BEGINS: Duration = Duration::from_secs(5);

/// Shortest time over which it is measured meanwhile.
pub(super) const FAR_SAMPLE: Duration = Duration::from_millis(100);

/// Runs of groups that are kept of what one holder says that it has and gave, of all files: 1 MiB. What more it says is as
/// if it were not said.
pub(super) const MAX_RUNS: usize = 65_536;

/// Nodes that are remembered for having lied; the first one forgotten is the oldest.
pub(super) const MAX_BANNED: usize = 4096;

/// Holders that may be asked for the same groups at once, at the end or before a reader.
pub(super) const MAX_COPIES: usize = 2;

/// How many times faster a second holder must be done for it to be asked as well, in tenths.
pub(super) const ENDGAME_GAIN_TENTHS: u64 = 15;

/// And by at least this much earlier.
pub(super) const ENDGAME_MARGIN: Duration = Duration::from_millis(250);

/// Under a cap of this node's own, each request is to have at least this many bytes a second: a peer gives up whoever
/// takes less than 16 KiB a second of an answer.
pub(super) const CAPPED_SHARE: u64 = 32 * 1024;

/// Fewest requests in flight under a cap: one being sent, one to follow it without a pause.
pub(super) const CAPPED_LEAST: usize = 2;

/// A request's own pace is known when it has been coming for so long.
pub(super) const PACE_AFTER: Duration = Duration::from_millis(500);

/// For so long after bytes waited for a cap, nobody is taken to be slow: twice as long as until it is told again.
pub(super) const HELD_FOR: Duration = Duration::from_secs(1);

/// Longest stretch that is fetched in order before another rare one is looked for, in groups: 64 MiB.
pub(super) const MAX_STRETCH: u64 = 64 * MIB / GROUP_BYTES;

/// How often files are looked at that nobody may have.
pub(super) const CHECK_STARVING: Duration = Duration::from_secs(1);

/// A node that was heard of and said nothing yet is taken, for this long, for one that is about to fetch.
pub(super) const MAY_BEGIN: Duration = Duration::from_secs(10);

/// The same of one that was there when something else was fetched: it has not to be found and dialled first.
pub(super) const FAMILIAR_BEGINS: Duration = Duration::from_secs(2);

//! The database beneath the catalogue: its column families, its bounds in memory, and reading.
//!
//! **Invariant:** the write-ahead log is always on, so a process killed at any instant finds every batch that
//! was committed, whole, and no part of any other.

use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompressionType, DBRecoveryMode, Options, ReadOptions,
};

use super::codec::{self, Record};
use super::keys;
use crate::error::{Result, StoreError};

/// Blocks, indexes and filters of all column families together, in bytes.
const BLOCK_CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Indexes and filters are read in parts of this size, in bytes: whole ones of a table of millions of rows take half a
/// megabyte each, and would push each other out of the cache with every row that is looked at.
const INDEX_PART_BYTES: usize = 4096;
/// What is not yet in a table file, in each column family, in bytes.
const WRITE_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// The same in all column families together.
const ALL_WRITE_BUFFERS_BYTES: usize = 24 * 1024 * 1024;
/// Least memory a column family takes for writing, in bytes.
const ARENA_BYTES: usize = 256 * 1024;
/// Write-ahead log on disk before buffers are flushed, in bytes: also what is replayed after a kill.
const WAL_BYTES: u64 = 48 * 1024 * 1024;
/// Open table files.
const MAX_OPEN_FILES: i32 = 256;
/// RocksDB's own log files that are kept, and their size in bytes.
const LOG_FILES: usize = 2;
const LOG_FILE_BYTES: usize = 2 * 1024 * 1024;
/// Bundles and link tables of this size and more are kept apart from their keys, in bytes, so that compaction
/// does not copy them again and again.
const APART_BYTES: u64 = 4 * 1024;
/// Bits a key in the Bloom filters: one look in a hundred for an absent key reaches the disk.
const BLOOM_BITS: f64 = 10.0;

macro_rules! column_families {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A table of the catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Cf { $($(#[$doc])* $name,)* }

        impl Cf {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

column_families! {
    /// `commit 0` to its head; `commit 1 path` and `commit 2 path` to chunks of its files and folders.
    Manifests = "manifests",
    /// `generation repo`: repositories that the index of repositories does not have as they are now.
    ShelfLater = "shelf_later",
    /// `commit` to its bundle.
    Bundles = "bundles",
    /// `commit` to its link table.
    LinkTables = "link_tables",
    /// `repo`: every repository of which anything is known.
    Repos = "repos",
    /// `repo` to what is said of it.
    Facts = "facts",
    /// `repo`: those that somebody made a statement of, and of which nothing else was known then.
    Heard = "heard",
    /// `kind name`, the name in lower case, to the repository that is meant by it.
    Aliases = "aliases",
    /// `repo 0 commit`.
    RepoCommits = "repo_commits",
    /// `commit repo`.
    CommitRepos = "commit_repos",
    /// `repo 0 revision` to a ref.
    Refs = "refs",
    /// `repo 0 revision`: names that are tags, not branches.
    Tags = "tags",
    /// `repo 0 revision` to the name's last moves.
    Moves = "moves",
    /// `digest` to a link.
    Links = "links",
    /// `hash digest`: the links the other way round.
    LinkHashes = "link_hashes",
    /// `hash` to a blob record.
    Blobs = "blobs",
    /// `digest` to how much is here of a file whose root is not known.
    Drafts = "drafts",
    /// `digest` of a draft to the repository as whose file some of it was given, to not everybody.
    DraftsGiven = "drafts_given",
    /// `commit`: its manifest may be given to peers.
    SharedCommits = "shared_commits",
    /// `repo 0 commit` or `repo 0 hash`: what peers had of a repository that is no longer open to everyone.
    KeptBack = "kept_back",
    /// `repo 0 revision` to a pin.
    Pins = "pins",
    /// `repo 0 revision 0 signer` to a statement.
    Statements = "statements",
    /// `seen` and a statement's key: those of signers who do not count, the oldest first.
    StatementAges = "statement_ages",
    /// `due key`.
    AnnounceDue = "announce_due",
    /// `key` to its due time.
    AnnounceKeys = "announce_keys",
    /// `length key provider` to a stranger's row.
    Dht = "dht",
    /// `expiry length key provider`.
    DhtExpiry = "dht_expiry",
    /// `length key provider` to a row of our own.
    DhtOwn = "dht_own",
    /// A counter's name to its number.
    Counters = "counters",
}

/// An open database.
pub(crate) struct Db {
    rocks: DB,
    dir: PathBuf,
}

impl Db {
    /// Opens or creates the database in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let fail = |e| StoreError::rocks(dir, e);
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES).map_err(fail)?;
        let options = db_options();
        let families =
            Cf::ALL.iter().map(|cf| ColumnFamilyDescriptor::new(cf.name(), cf_options(*cf, &cache)));
        // RocksDB opens all column families or none; one that an older version left is opened and not used.
        let known = |name: &String| name == "default" || Cf::ALL.iter().any(|cf| cf.name() == name);
        let found =
            if dir.join("CURRENT").exists() { DB::list_cf(&options, dir).map_err(fail)? } else { vec![] };
        let left = found
            .into_iter()
            .filter(|n| !known(n))
            .map(|n| ColumnFamilyDescriptor::new(n, Options::default()));
        let rocks = DB::open_cf_descriptors(&options, dir, families.chain(left)).map_err(fail)?;
        Ok(Self { rocks, dir: dir.to_owned() })
    }

    pub(super) fn rocks(&self) -> &DB {
        &self.rocks
    }

    pub(super) fn fail(&self, e: rocksdb::Error) -> StoreError {
        StoreError::rocks(&self.dir, e)
    }

    pub(super) fn handle(&self, cf: Cf) -> Result<&ColumnFamily> {
        let handle = self.rocks.cf_handle(cf.name());
        handle.ok_or_else(|| StoreError::corrupt("table", format!("`{}` is missing", cf.name())))
    }

    pub(crate) fn get_bytes(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.rocks.get_cf(self.handle(cf)?, key).map_err(|e| self.fail(e))
    }

    pub(crate) fn get<R: Record>(&self, cf: Cf, key: &[u8]) -> Result<Option<R>> {
        let found = self.rocks.get_pinned_cf(self.handle(cf)?, key).map_err(|e| self.fail(e))?;
        found.map(|bytes| codec::decode(&bytes)).transpose()
    }

    pub(crate) fn has(&self, cf: Cf, key: &[u8]) -> Result<bool> {
        let found = self.rocks.get_pinned_cf(self.handle(cf)?, key).map_err(|e| self.fail(e))?;
        Ok(found.is_some())
    }

    /// Reads many keys in one go, in their order.
    pub(crate) fn get_many<R: Record>(&self, cf: Cf, keys: &[Vec<u8>]) -> Result<Vec<Option<R>>> {
        let handle = self.handle(cf)?;
        let found = self.rocks.batched_multi_get_cf(handle, keys, false);
        let read = |one: std::result::Result<Option<rocksdb::DBPinnableSlice<'_>>, _>| {
            one.map_err(|e| self.fail(e))?.map(|bytes| codec::decode(&bytes)).transpose()
        };
        found.into_iter().map(read).collect()
    }

    /// Visits the rows whose keys begin with `prefix`, from key `from` on, until `visit` says `false`.
    ///
    /// It sees the database as it was when the scan began.
    pub(crate) fn scan(
        &self,
        cf: Cf,
        prefix: &[u8],
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut options = ReadOptions::default();
        if let Some(end) = keys::past(prefix) {
            options.set_iterate_upper_bound(end);
        }
        let mut rows = self.rocks.raw_iterator_cf_opt(self.handle(cf)?, options);
        rows.seek(from.max(prefix));
        while let Some((key, value)) = rows.item() {
            if !visit(key, value)? {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|e| self.fail(e))
    }

    /// The rows of one page: at most `limit` that begin with `prefix` and come after the key `after`.
    pub(crate) fn page<T>(
        &self,
        cf: Cf,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        let from = after.map(keys::next).unwrap_or_default();
        self.scan(cf, prefix, &from, |key, value| {
            rows.push(read(key, value)?);
            Ok(rows.len() < limit)
        })?;
        Ok(rows)
    }

    /// The last row whose key is at most `key` and begins with `prefix`.
    pub(crate) fn last_up_to(&self, cf: Cf, prefix: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut rows = self.rocks.raw_iterator_cf(self.handle(cf)?);
        rows.seek_for_prev(key);
        rows.status().map_err(|e| self.fail(e))?;
        Ok(rows.item().filter(|(k, _)| k.starts_with(prefix)).map(|(_, value)| value.to_vec()))
    }

    /// Makes the disk itself take everything that was committed.
    pub(crate) fn sync(&self) -> Result<()> {
        self.rocks.flush_wal(true).map_err(|e| self.fail(e))
    }
}

fn db_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(ALL_WRITE_BUFFERS_BYTES);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(LOG_FILES);
    options.set_max_log_file_size(LOG_FILE_BYTES);
    options.set_stats_dump_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options
}

fn cf_options(cf: Cf, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(INDEX_PART_BYTES);
    table.set_pin_top_level_index_and_filter(true);
    table.set_bloom_filter(BLOOM_BITS, false);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_arena_block_size(ARENA_BYTES);
    options.set_level_compaction_dynamic_level_bytes(true);
    // Keys and rows are mostly digests, which do not shrink; paths and commit messages do.
    let text = matches!(cf, Cf::Manifests | Cf::Bundles | Cf::LinkTables | Cf::Statements | Cf::Facts);
    options.set_compression_type(if text { DBCompressionType::Lz4 } else { DBCompressionType::None });
    if matches!(cf, Cf::Bundles | Cf::LinkTables) {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(APART_BYTES);
        options.set_blob_compression_type(DBCompressionType::Lz4);
        options.set_enable_blob_gc(true);
    }
    options
}

//! A data folder across processes: whose it is, who has it open, and what a killed process leaves.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use hubless_store::{Store, StoreError};
use hubless_types::{ManualClock, NodeId, Timestamp};

/// The folder that the child process uses, beneath the one that it is started in.
const FOLDER: &str = "data";
/// Begins each line in which the child tells how many rows it has written.
const WRITTEN: &str = "written ";
/// Set for the child: the test is run once more as the process that is killed.
const WRITER: &str = "HUBLESS_TEST_WRITER";

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn open_as(dir: &Path, n: u8) -> Result<Store, StoreError> {
    Store::open(dir, node(n), Arc::new(ManualClock::at(Timestamp(1))))
}

fn open(dir: &Path) -> Result<Store, StoreError> {
    open_as(dir, 1)
}

/// Every file beneath a folder, with its content.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    let read = |path: &std::path::PathBuf| match path.is_dir() {
        true => files(path),
        false => vec![(path.display().to_string(), std::fs::read(path).unwrap())],
    };
    all.iter().flat_map(read).collect()
}

#[test]
fn a_folder_is_opened_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(
        matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    assert!(error.hint().is_some());
    let other_half = store.catalogue().clone();
    drop(store);
    assert!(open(dir.path()).is_err(), "the catalogue is still in use");
    drop(other_half);
    // A thread of the blobs may still be ending, with a handle of its own.
    let opened = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        open(dir.path()).is_ok()
    });
    assert!(opened);
}

#[test]
fn a_folder_belongs_to_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not/yet/there");
    drop(open_as(&folder, 1).unwrap());
    let before = files(&folder);
    let error = open_as(&folder, 2).unwrap_err();
    let StoreError::OtherNode { expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!((*expected, *found), (node(2), node(1)));
    assert_eq!(files(&folder), before);
}

#[test]
fn a_folder_of_a_newer_version_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let note = dir.path().join("format.json");
    let text = std::fs::read_to_string(&note).unwrap().replace("\"format\":3", "\"format\":4");
    std::fs::write(&note, text).unwrap();
    let before = files(dir.path());
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::NewerVersion { found: 4, supported: 3 }), "{error}");
    assert_eq!(files(dir.path()), before);
}

/// Before there were notes of format, folders had format 0: such a folder opens, keeps its rows and gets a note.
#[test]
fn a_folder_without_a_note_is_brought_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.catalogue().schedule(b"key", Timestamp(4)).unwrap();
    drop(store);
    let note = dir.path().join("format.json");
    std::fs::remove_file(&note).unwrap();
    let store = reopen(dir.path());
    assert_eq!(store.catalogue().scheduled_count().unwrap(), 1);
    assert!(std::fs::read_to_string(&note).unwrap().contains("\"format\":3"));
}

/// A note that is no note is an error, not a panic nor a new folder.
#[test]
fn a_damaged_note_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    for text in ["", "{}", "[1]", &"x".repeat(10_000)] {
        std::fs::write(dir.path().join("format.json"), text).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { record: "format", .. }), "{error}");
    }
}

/// Opens a folder that another handle may be about to leave.
fn reopen(dir: &Path) -> Store {
    for _ in 0..100 {
        match open(dir) {
            Err(StoreError::Locked { .. }) => std::thread::sleep(std::time::Duration::from_millis(20)),
            other => return other.unwrap(),
        }
    }
    panic!("still locked")
}

fn spawn_writer(dir: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    let args = ["--exact", "a_killed_process_loses_nothing", "--nocapture"];
    let mut command = Command::new(program);
    command.args(args).env(WRITER, "yes").current_dir(dir).stdout(Stdio::piped()).spawn().unwrap()
}

/// What the process does that `a_killed_process_loses_nothing` kills: it writes until then.
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn write_until_killed() {
    let store = open(Path::new(FOLDER)).unwrap();
    let first = store.catalogue().scheduled_count().unwrap() as u32 / 2;
    for n in first.. {
        let mut batch = store.catalogue().batch();
        batch.schedule(&even(n), Timestamp(u64::from(n))).schedule(&odd(n), Timestamp(u64::from(n)));
        batch.commit().unwrap();
        println!("\n{WRITTEN}{}", n + 1);
    }
}

fn even(n: u32) -> [u8; 5] {
    [&n.to_be_bytes()[..], &[0]].concat().try_into().unwrap()
}

fn odd(n: u32) -> [u8; 5] {
    [&n.to_be_bytes()[..], &[1]].concat().try_into().unwrap()
}

/// Killed in the middle of writing, again and again: each time the folder opens at once, with every batch that was
/// committed, whole, and nothing else.
#[test]
fn a_killed_process_loses_nothing() {
    if std::env::var_os(WRITER).is_some() {
        return write_until_killed();
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    for round in 1..=3_u32 {
        let mut child = spawn_writer(dir.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut counts = lines.filter_map(|line| line.strip_prefix(WRITTEN)?.parse::<u32>().ok());
        let reached = counts.find(|n| *n >= round * 400).unwrap();
        let error = open(&folder).unwrap_err();
        assert!(matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == child.id()), "{error}");
        child.kill().unwrap();
        let told = counts.last().unwrap_or(reached);
        child.wait().unwrap();

        let store = open(&folder).unwrap();
        let catalogue = store.catalogue();
        let rows = catalogue.scheduled_count().unwrap() as u32;
        assert!(rows.is_multiple_of(2) && rows / 2 >= told, "{rows} rows, {told} batches were told of");
        let listed = catalogue.due(Timestamp(u64::MAX), usize::MAX).unwrap();
        let expected =
            (0..rows / 2).flat_map(|n| [even(n), odd(n)].map(|k| (Timestamp(u64::from(n)), k.to_vec())));
        assert!(listed.into_iter().eq(expected));
    }
}

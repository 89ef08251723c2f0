use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Effect, Fault};
use crate::{Command, Server};

const SOURCE: &str = include_str!("recorder.c");
const CONTROL_BYTES: usize = 128;

/// A library for `LD_PRELOAD` that records what a server does to its data folder, and a folder for all of it.
///
/// A library, because every effect on files goes through the C library: Rust's standard library and SQLite call nothing else.
/// [`super::DiskImage::differences`] proves that nothing was missed.
pub struct Recorder {
    folder: PathBuf,
    library: PathBuf,
    notes: File,
    control: File,
}

impl Recorder {
    /// Compiles the library. The folder must exist.
    pub fn new(folder: &Path) -> Self {
        let source = folder.join("recorder.c");
        let library = folder.join("recorder.so");
        fs::write(&source, SOURCE).expect("the source can be written");
        let compiler = Command::new("cc").args(["-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-o"]);
        let _ = compiler.arg(&library).arg(&source).limit(Duration::from_mins(1)).run().succeeded();
        fs::create_dir(folder.join("disk")).expect("the folder is new");
        let notes = OpenOptions::new().append(true).create_new(true).open(folder.join("log"));
        let control = OpenOptions::new().read(true).write(true).create_new(true).open(folder.join("control"));
        let control = control.expect("the folder is new");
        control.set_len(CONTROL_BYTES as u64).expect("a file can be made longer");
        Self { folder: folder.to_owned(), library, notes: notes.expect("the folder is new"), control }
    }

    /// The folder that is watched.
    pub fn root(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// The data folder for the server; it is not there yet.
    pub fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Starts a server whose every effect is recorded.
    pub fn start(&self, arguments: &[&str]) -> Server {
        self.start_with(arguments, true)
    }

    /// Starts a server that can be made to fail, without a record.
    pub fn start_unrecorded(&self, arguments: &[&str]) -> Server {
        self.start_with(arguments, false)
    }

    fn start_with(&self, arguments: &[&str], recorded: bool) -> Server {
        let variables = self.variables(recorded);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_path())).collect();
        Server::start_with(&self.data(), arguments, &variables)
    }

    /// What a process needs in its environment to be recorded, or just to fail on demand.
    pub fn variables(&self, recorded: bool) -> Vec<(&'static str, PathBuf)> {
        let mut variables = vec![
            ("LD_PRELOAD", self.library.clone()),
            ("POSTERN_DISK_ROOT", self.root()),
            ("POSTERN_DISK_CONTROL", self.folder.join("control")),
        ];
        if recorded {
            variables.push(("POSTERN_DISK_LOG", self.folder.join("log")));
        }
        variables
    }

    /// Puts a note into the record: after everything that has happened, before everything that will.
    pub fn mark(&self, number: u64) {
        (&self.notes).write_all(&Effect::mark(number)).expect("the log can be written");
    }

    /// What was recorded so far.
    pub fn effects(&self) -> Vec<Effect> {
        Effect::parse_log(&fs::read(self.folder.join("log")).expect("the log can be read"))
    }

    /// Makes operations fail from now on, until [`Self::heal`].
    pub fn injure(&self, fault: &Fault) {
        let mut words = fault.words();
        words.resize(CONTROL_BYTES, 0);
        // The first word arms the others, so it goes last.
        self.control.write_all_at(&words[8..], 8).expect("the control file can be written");
        self.control.write_all_at(&words[..8], 0).expect("the control file can be written");
    }

    /// Lets everything succeed again; gives how many operations were counted, and how many of them failed.
    pub fn heal(&self) -> (u64, u64) {
        self.control.write_all_at(&[0; 8], 0).expect("the control file can be written");
        let mut words = [0; CONTROL_BYTES];
        self.control.read_exact_at(&mut words, 0).expect("the control file can be read");
        let word = |at: usize| {
            let bytes = words[8 * at..8 * at + 8].try_into().expect("a word has eight bytes");
            u64::from_le_bytes(bytes)
        };
        (word(Fault::SEEN), word(Fault::FIRED))
    }
}

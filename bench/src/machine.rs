//! The machine: who runs where, what it cost, what it is.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which processor runs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

impl Cores {
    /// Two processors of those that this process may use; `None` when there is one only.
    pub(crate) fn choose() -> Result<Option<Self>> {
        let set = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        let (first, second) = (cores.next(), cores.next());
        Ok(first.zip(second).map(|(server, client)| Self { server, client }))
    }
}

/// Moves the calling thread, and whatever it starts from now on.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot move to processor {core}"))
}

/// What the calling thread has used.
pub(crate) fn own_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(used).unwrap_or_default()
}

/// What a process has used, user and system, with threads that have ended, in nanoseconds.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(process)?)).context("the server has ended")?;
    Ok(Duration::from(clock_gettime(clock).context("the server has ended")?))
}

/// A figure of `/proc/PID/status`, in KiB.
pub(crate) fn memory_of(process: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).context("the server has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} of process {process}"))
}

/// The processes that a process has started.
pub(crate) fn children_of(process: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// What figures depend on, in a sentence.
pub(crate) fn description(folder: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let values = |name: &str| {
        let lines = processors.lines().filter(move |line| line.starts_with(name));
        lines.filter_map(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let models = values("model name");
    let model = models.first().map_or("unknown processor", String::as_str);
    let system = read("/etc/os-release");
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    let memory = read("/proc/meminfo");
    let memory =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    format!(
        "{} processors ({model}), {} GiB memory, {system}, Linux {}, {}",
        models.len(),
        memory.map_or(0, |kib: u64| (kib + (1 << 19)) >> 20),
        read("/proc/sys/kernel/osrelease").trim(),
        file_system(folder),
    )
}

fn file_system(folder: &Path) -> String {
    let output = Command::new("stat").args(["--file-system", "--format", "%T"]).arg(folder).output();
    let name = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    name.trim().replace("ext2/ext3", "ext4")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_figures() {
        let me = std::process::id();
        // The process first: its clock includes the thread's, so that it cannot be behind afterwards.
        let process = cpu_of(me).unwrap();
        let thread = own_cpu();
        let mut sum = 0_u64;
        while own_cpu() < thread + Duration::from_millis(2) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_of(me).unwrap() >= process + Duration::from_millis(2));
        assert!(memory_of(me, "VmRSS").unwrap() > 100);
        // Beyond the largest process id there can be.
        assert!(cpu_of((1 << 22) + 1).is_err());
    }
}

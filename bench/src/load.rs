//! The load generator: one thread, many connections, each with one request at a time.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::connection::{Connection, Progress};
use crate::machine;
use crate::site::Site;
use crate::wire::{Reply, Request};

/// Answers are read in pieces of up to this size.
const READ_BYTES: usize = 256 << 10;
/// A server that is silent for so long is broken.
const STALL: Duration = Duration::from_mins(1);
const EVENTS: usize = 256;

/// What the connections send. An operation is one request or several that follow from each other.
pub(crate) trait Script {
    /// The next request of this connection. `reply` is what the previous one got; `None` starts a new operation.
    fn next(&mut self, connection: usize, reply: Option<Reply>) -> Result<Step>;
}

/// A request, and whether an operation begins with it.
pub(crate) struct Step {
    pub(crate) request: Request,
    pub(crate) begins: bool,
}

/// When no further operation begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) time: Duration,
    pub(crate) operations: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
    /// What the generator itself used.
    pub(crate) client: Duration,
}

/// Connections to one server, kept from run to run.
pub(crate) struct Load {
    poll: OwnedFd,
    slots: Vec<Slot>,
    buffer: Vec<u8>,
}

struct Slot {
    connection: Connection,
    begun: Instant,
    to_write: bool,
}

struct Run<'a> {
    script: &'a mut dyn Script,
    limit: Limit,
    start: Instant,
    begun: u64,
    active: usize,
    outcome: Outcome,
}

impl Load {
    pub(crate) fn connect(site: &Site, connections: usize) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut slots = Vec::with_capacity(connections);
        for at in 0..connections {
            let connection = site.connect()?;
            epoll::add(&poll, &connection, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)?;
            slots.push(Slot { connection, begun: Instant::now(), to_write: false });
        }
        Ok(Self { poll, slots, buffer: vec![0; READ_BYTES] })
    }

    /// Runs until the limit; operations that have begun are finished and counted.
    pub(crate) fn run(&mut self, script: &mut dyn Script, limit: Limit) -> Result<Outcome> {
        let client = machine::own_cpu();
        let start = Instant::now();
        let mut run = Run { script, limit, start, begun: 0, active: 0, outcome: Outcome::default() };
        for at in 0..self.slots.len() {
            run.active += 1;
            self.follow(&mut run, at, None)?;
        }
        let mut events = Vec::with_capacity(EVENTS);
        let timeout = Timespec::try_from(STALL)?;
        while run.active > 0 {
            events.clear();
            if epoll::wait(&self.poll, spare_capacity(&mut events), Some(&timeout))? == 0 {
                bail!("the server has been silent for {} s", STALL.as_secs());
            }
            for event in &events {
                self.advance(&mut run, usize::try_from(event.data.u64())?)?;
            }
        }
        let mut outcome = run.outcome;
        outcome.elapsed = start.elapsed();
        outcome.client = machine::own_cpu().saturating_sub(client);
        Ok(outcome)
    }

    fn advance(&mut self, run: &mut Run<'_>, at: usize) -> Result<()> {
        let slot = self.slots.get_mut(at).context("an event of no connection")?;
        match slot.connection.advance(&mut self.buffer)? {
            Progress::Answered(reply) => self.follow(run, at, Some(reply)),
            Progress::Waiting { to_write } => self.wait_for(at, to_write),
        }
    }

    /// Sends what comes after an answer, unless the run is over.
    fn follow(&mut self, run: &mut Run<'_>, at: usize, reply: Option<Reply>) -> Result<()> {
        let is_first = reply.is_none();
        let step = run.script.next(at, reply)?;
        let slot = self.slots.get_mut(at).context("no such connection")?;
        if step.begins {
            let now = Instant::now();
            if !is_first {
                run.outcome.operations += 1;
                run.outcome.latencies.push(now.duration_since(slot.begun));
            }
            if run.begun >= run.limit.operations || (run.begun > 0 && now.duration_since(run.start) >= run.limit.time) {
                run.active -= 1;
                return Ok(());
            }
            run.begun += 1;
            slot.begun = now;
        }
        match slot.connection.begin(step.request)? {
            Progress::Waiting { to_write } => self.wait_for(at, to_write),
            Progress::Answered(_) => bail!("an answer before its request"),
        }
    }

    fn wait_for(&mut self, at: usize, to_write: bool) -> Result<()> {
        let slot = self.slots.get_mut(at).context("no such connection")?;
        if slot.to_write != to_write {
            slot.to_write = to_write;
            let flags = if to_write { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            epoll::modify(&self.poll, &slot.connection, epoll::EventData::new_u64(at as u64), flags)?;
        }
        Ok(())
    }
}

/// One request on a connection of its own.
pub(crate) fn call(site: &Site, request: Request) -> Result<Reply> {
    Caller::connect(site)?.call(request)
}

/// A connection for requests one by one.
pub(crate) struct Caller(Load);

impl Caller {
    pub(crate) fn connect(site: &Site) -> Result<Self> {
        Load::connect(site, 1).map(Self)
    }

    pub(crate) fn call(&mut self, request: Request) -> Result<Reply> {
        struct Once(Request, Option<Reply>);
        impl Script for Once {
            fn next(&mut self, _: usize, reply: Option<Reply>) -> Result<Step> {
                self.1 = reply;
                Ok(Step { request: self.0.clone(), begins: true })
            }
        }
        let mut once = Once(request.keep(), None);
        self.0.run(&mut once, Limit { time: Duration::ZERO, operations: 1 })?;
        once.1.context("no answer")
    }
}

//! What a server needs besides processor time: how long a start takes, how much memory it holds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::limits;
use crate::load::Caller;
use crate::peer::{self, Peer};
use crate::postern::{self, Postern, Wall};
use crate::process::Server;
use crate::row::Work;
use crate::site::Site;
use crate::stage::{ESTATE, Stage};
use crate::verdict::{Line, Verdict, at_most};
use crate::wire::Request;

const STARTS: usize = 5;
const RESIDENT: &str = "VmRSS";
const PEAK: &str = "VmHWM";
/// What an idle connection may hold, in KiB.
const CONNECTION_GOAL_KIB: f64 = 16.0;
const START_GOAL_MS: f64 = 50.0;
/// With very many registries and role assignments.
const ESTATE_START_MS: f64 = 5000.0;
const ESTATE_MIB: f64 = 256.0;

/// Servers that can be started again and again, on data folders that exist.
struct Restarts<'a> {
    stage: &'a Stage,
    /// With the address rules, and no role assignments but the first start's.
    postern: postern::Options,
    /// With the role assignments too.
    assigned: postern::Options,
    peer: Option<peer::Options>,
}

/// The wanted ones of these rows.
pub(crate) fn lines(stage: &mut Stage, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    // First, as this measures the servers that did all the rest.
    if wanted("rss-peak") {
        lines.push(peak(stage)?);
    }
    if wanted("estate-start") {
        lines.push(estate(stage)?);
    }
    if ["start", "rss-idle", "rss-conn"].into_iter().any(wanted) {
        let restarts = Restarts::new(stage)?;
        if wanted("start") {
            lines.push(restarts.start()?);
        }
        if wanted("rss-idle") {
            lines.push(restarts.idle()?);
        }
        if wanted("rss-conn") {
            lines.push(restarts.connections()?);
        }
    }
    Ok(lines)
}

/// A line about one figure for each server.
fn line(name: &str, unit: &str, own: f64, peer: Option<f64>, others: &[(&str, f64)]) -> Line {
    let mut note = format!("Postern {own:.1} {unit}");
    for (who, value) in peer.map(|peer| ("docker-registry", peer)).iter().chain(others) {
        note = format!("{note}, {who} {value:.1} {unit}");
    }
    Line { name: name.into(), note, ..Line::default() }
}

fn within(own: f64, peer: Option<f64>, times: f64) -> Vec<Verdict> {
    peer.map(|peer| at_most("of docker-registry's", own / peer, times)).into_iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "no process has that much memory")]
fn mib(server: &Server, name: &str) -> Result<f64> {
    Ok(server.memory(name)? as f64 / 1024.0)
}

fn peak(stage: &Stage) -> Result<Line> {
    let own = mib(&stage.postern.server, PEAK)?;
    let peer = stage.peer.as_ref().map(|peer| mib(&peer.server, PEAK)).transpose()?;
    Ok(Line { must: within(own, peer, 0.5), ..line("rss-peak", "MiB", own, peer, &[]) })
}

/// A start on the data folder of the estate, and what is held after it.
fn estate(stage: &mut Stage) -> Result<Line> {
    stage.seed(Work::HeadAmongMany)?;
    // Two servers cannot have one data folder.
    stage.estate = None;
    let options = stage.postern_options(ESTATE);
    let (mut times, mut held) = (Vec::new(), 0.0);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let postern = Postern::start(stage.starter(), &options)?;
        ping(&postern.site, 401)?;
        times.push(begun.elapsed());
        postern.server.settle()?;
        held = mib(&postern.server, RESIDENT)?;
    }
    let milliseconds = median(times);
    let note = format!(
        "{} registries and {} role assignments: {milliseconds:.0} ms, then {held:.1} MiB",
        stage.sizes.registries, stage.sizes.all_assignments
    );
    let must = vec![at_most("ms", milliseconds, ESTATE_START_MS), at_most("MiB", held, ESTATE_MIB)];
    Ok(Line { name: "estate-start".into(), must, note, ..Line::default() })
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
}

impl<'a> Restarts<'a> {
    fn new(stage: &'a Stage) -> Result<Self> {
        let prepared = |name: &str, assignments: u32| -> Result<postern::Options> {
            let options = stage.postern_options(name);
            let postern = Postern::start(stage.starter(), &options)?;
            postern.set(Wall::On { address_rules: stage.sizes.address_rules, assignments })?;
            Ok(options)
        };
        Ok(Self {
            stage,
            postern: prepared("restarts", 0)?,
            assigned: prepared("restarts-assigned", stage.sizes.assignments)?,
            peer: stage.peer_options("peer-restarts"),
        })
    }

    fn postern(&self) -> Result<Postern> {
        Postern::start(self.stage.starter(), &self.postern)
    }

    fn with_assignments(&self) -> String {
        format!("Postern with {} role assignments", self.stage.sizes.assignments)
    }

    fn peer(&self) -> Result<Option<Peer>> {
        self.peer.as_ref().map(|options| Peer::start(self.stage.starter(), options)).transpose()
    }

    /// From nothing to the first answer; the median.
    fn start(&self) -> Result<Line> {
        let median = |once: &dyn Fn() -> Result<Duration>| -> Result<f64> {
            Ok(median((0..STARTS).map(|_| once()).collect::<Result<_>>()?))
        };
        let once = |options: &postern::Options| -> Result<Duration> {
            let begun = Instant::now();
            let postern = Postern::start(self.stage.starter(), options)?;
            ping(&postern.site, 401)?;
            Ok(begun.elapsed())
        };
        let first = once(&self.stage.postern_options("first-start"))?.as_secs_f64() * 1e3;
        let own = median(&|| once(&self.postern))?;
        let assigned = median(&|| once(&self.assigned))?;
        let peer = self.peer.as_ref().map(|options| {
            median(&|| {
                let begun = Instant::now();
                let peer = Peer::start(self.stage.starter(), options)?;
                ping(&peer.site, 200)?;
                Ok(begun.elapsed())
            })
        });
        let peer = peer.transpose()?;
        let line =
            line("start", "ms", own, peer, &[("Postern's very first", first), (&self.with_assignments(), assigned)]);
        Ok(Line { goal: vec![at_most("ms", own, START_GOAL_MS)], ..line })
    }

    fn idle(&self) -> Result<Line> {
        let settled = |server: &Server, site: &Site, status: u16| -> Result<f64> {
            ping(site, status)?;
            server.settle()?;
            mib(server, RESIDENT)
        };
        let postern = self.postern()?;
        let own = settled(&postern.server, &postern.site, 401)?;
        let peer = match self.peer()? {
            None => None,
            Some(peer) => Some(settled(&peer.server, &peer.site, 200)?),
        };
        let (server, site) = limits::own(self.stage.starter(), "hello", &self.stage.folder)?;
        let hyper = settled(&server, &site, 200)?;
        let assigned = Postern::start(self.stage.starter(), &self.assigned)?;
        let assigned = settled(&assigned.server, &assigned.site, 401)?;
        let others = [("hyper", hyper), (&*self.with_assignments(), assigned)];
        let line = line("rss-idle", "MiB", own, peer, &others);
        Ok(Line { must: within(own, peer, 1.0), ..line })
    }

    /// What one more idle connection holds, after a request.
    fn connections(&self) -> Result<Line> {
        let count = self.stage.sizes.idle_connections;
        let each = |server: &Server, site: &Site, status: u16| -> Result<f64> {
            ping(site, status)?;
            server.settle()?;
            let before = server.memory(RESIDENT)?;
            let mut callers = Vec::with_capacity(count);
            for _ in 0..count {
                let mut caller = Caller::connect(site)?;
                caller.call(pinging(site, status))?;
                callers.push(caller);
            }
            server.settle()?;
            let held = server.memory(RESIDENT)?.saturating_sub(before);
            #[expect(clippy::cast_precision_loss, reason = "no process has that much memory")]
            Ok(held as f64 / count as f64)
        };
        let postern = self.postern()?;
        let own = each(&postern.server, &postern.site, 401)?;
        let peer = match self.peer()? {
            None => None,
            Some(peer) => Some(each(&peer.server, &peer.site, 200)?),
        };
        let (server, site) = limits::own(self.stage.starter(), "hello", &self.stage.folder)?;
        let hyper = each(&server, &site, 200)?;
        let line = line("rss-conn", "KiB", own, peer, &[("hyper", hyper)]);
        Ok(Line {
            clients: count,
            must: within(own, peer, 1.0 / 3.0),
            goal: vec![at_most("KiB", own, CONNECTION_GOAL_KIB)],
            ..line
        })
    }
}

fn pinging(site: &Site, status: u16) -> Request {
    site.request("GET", "/v2/").expect(status)
}

fn ping(site: &Site, status: u16) -> Result<()> {
    Caller::connect(site)?.call(pinging(site, status)).context("no answer to a ping").map(|_| ())
}

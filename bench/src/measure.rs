//! Interleaved rounds and their medians.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::entries::Entry;
use crate::load::{Limit, Load};
use crate::row::{Row, Who};

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// One server's part of a round.
    pub(crate) time: Duration,
    /// Before the first round, so that caches are warm.
    pub(crate) warm_up: Duration,
    /// Operations of one part, at most.
    pub(crate) operations: u64,
}

/// What one server needed in one row: medians over the rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figures {
    /// Processor time of the server per operation, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) median_us: f64,
    pub(crate) tail_us: f64,
    pub(crate) per_second: f64,
    /// Processor time of the generator per operation, in microseconds.
    pub(crate) client_us: f64,
    /// Parts of the time that the server's and the generator's processor were busy.
    pub(crate) server_busy: f64,
    pub(crate) client_busy: f64,
}

impl Figures {
    /// Whether the figures say more about the generator than about the server.
    pub(crate) fn client_bound(&self) -> bool {
        self.client_busy > 0.95 && self.server_busy < 0.8
    }
}

/// Measures everybody in turn.
pub(crate) fn measure(mut entries: Vec<Entry<'_>>, row: &Row, plan: &Plan) -> Result<Vec<(Who, Figures)>> {
    let mut rounds: Vec<(Who, Vec<Figures>)> = entries.iter().map(|entry| (entry.who, Vec::new())).collect();
    let mut loads = Vec::new();
    for entry in &mut entries {
        let mut load = Load::connect(&entry.site, row.clients)?;
        let most = row.most.min(plan.operations).div_ceil(4);
        load.run(entry.script.as_mut(), Limit { time: plan.warm_up, operations: most })
            .with_context(|| format!("{:?} cannot do this", entry.who))?;
        loads.push(load);
    }
    for _ in 0..plan.rounds {
        for ((entry, load), (_, figures)) in entries.iter_mut().zip(&mut loads).zip(&mut rounds) {
            figures.push(part(entry, load, row, plan).with_context(|| format!("{:?} failed", entry.who))?);
        }
    }
    Ok(rounds.into_iter().map(|(who, figures)| (who, median(&figures))).collect())
}

/// One server's part of one round.
#[expect(clippy::cast_precision_loss, reason = "no round has that many operations")]
fn part(entry: &mut Entry<'_>, load: &mut Load, row: &Row, plan: &Plan) -> Result<Figures> {
    entry.server.settle()?;
    let before = entry.server.cpu()?;
    let limit = Limit { time: plan.time, operations: row.most.min(plan.operations) };
    let mut outcome = load.run(entry.script.as_mut(), limit)?;
    let during = entry.server.cpu()?;
    // What is done after the answer (records, collection of garbage) belongs to the operations too.
    entry.server.settle()?;
    let used = entry.server.cpu()?.saturating_sub(before);
    outcome.latencies.sort_unstable();
    let percentile = |part: f64| {
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a place in a list")]
        let at = (outcome.latencies.len() as f64 * part) as usize;
        outcome.latencies.get(at.min(outcome.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let elapsed = outcome.elapsed.as_secs_f64();
    let operations = outcome.operations as f64;
    Ok(Figures {
        cpu_us: micros(used) / operations,
        median_us: micros(percentile(0.5)),
        tail_us: micros(percentile(0.99)),
        per_second: operations / elapsed,
        client_us: micros(outcome.client) / operations,
        server_busy: during.saturating_sub(before).as_secs_f64() / elapsed,
        client_busy: outcome.client.as_secs_f64() / elapsed,
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(rounds: &[Figures]) -> Figures {
    let of = |field: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(field).collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = |at: usize| values.get(at).copied().unwrap_or_default();
        f64::midpoint(middle(values.len().saturating_sub(1) / 2), middle(values.len() / 2))
    };
    Figures {
        cpu_us: of(|figures| figures.cpu_us),
        median_us: of(|figures| figures.median_us),
        tail_us: of(|figures| figures.tail_us),
        per_second: of(|figures| figures.per_second),
        client_us: of(|figures| figures.client_us),
        server_busy: of(|figures| figures.server_busy),
        client_busy: of(|figures| figures.client_busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let figures = |cpu_us| Figures { cpu_us, ..Figures::default() };
        assert_eq!(median(&[figures(3.0), figures(1.0), figures(2.0)]), figures(2.0));
        assert_eq!(median(&[figures(4.0), figures(1.0)]), figures(2.5));
        assert_eq!(median(&[]), figures(0.0));
    }
}

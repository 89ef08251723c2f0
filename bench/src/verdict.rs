//! Figures against demands.

use crate::measure::Figures;
use crate::row::{Demand, Row, Who};

/// A demand and how it came out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// What is asked, with what was found.
    pub(crate) text: String,
    pub(crate) holds: bool,
}

/// A finished row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) clients: usize,
    pub(crate) figures: Vec<(Who, Figures)>,
    pub(crate) must: Vec<Verdict>,
    pub(crate) goal: Vec<Verdict>,
    /// Instead of figures, or to explain them.
    pub(crate) note: String,
}

impl Line {
    pub(crate) fn of(row: &Row, figures: Vec<(Who, Figures)>) -> Self {
        let judge = |demands: &[Demand]| demands.iter().filter_map(|demand| verdict(*demand, &figures)).collect();
        let (must, goal) = (judge(row.must), judge(row.goal));
        let bound: Vec<_> = figures.iter().filter(|(_, figures)| figures.client_bound()).map(|(who, _)| who).collect();
        let note = if bound.is_empty() { String::new() } else { format!("the generator is the limit for {bound:?}") };
        Self { name: row.name.to_owned(), clients: row.clients, figures, must, goal, note }
    }

    /// The line without judgement: of a run that says nothing about speed.
    pub(crate) fn unjudged(self) -> Self {
        Self { must: Vec::new(), goal: Vec::new(), ..self }
    }

    pub(crate) fn of_who(&self, who: Who) -> Option<&Figures> {
        self.figures.iter().find(|(found, _)| *found == who).map(|(_, figures)| figures)
    }
}

/// At most this much; the lower the better.
pub(crate) fn at_most(what: &str, value: f64, bound: f64) -> Verdict {
    Verdict { text: format!("{what} {value:.2} (<= {})", rounded(bound)), holds: value <= bound }
}

/// At least this much; the higher the better.
pub(crate) fn at_least(what: &str, value: f64, bound: f64) -> Verdict {
    Verdict { text: format!("{what} {value:.1} (>= {})", rounded(bound)), holds: value >= bound }
}

fn rounded(number: f64) -> String {
    format!("{number:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `None` when somebody it is about did not take part.
fn verdict(demand: Demand, figures: &[(Who, Figures)]) -> Option<Verdict> {
    let of = |who: Who| figures.iter().find(|(found, _)| *found == who).map(|(_, figures)| figures);
    let own = of(Who::Postern)?;
    Some(match demand {
        Demand::Less(who, times) => at_least(&format!("{} CPU / own", name(who)), of(who)?.cpu_us / own.cpu_us, times),
        Demand::AtMost(who, times) => at_most(&format!("CPU / {}", name(who)), own.cpu_us / of(who)?.cpu_us, times),
        Demand::Tail(who, times) => at_most(&format!("p99 / {}", name(who)), own.tail_us / of(who)?.tail_us, times),
        Demand::Rate(who, times) => {
            at_least(&format!("rate / {}", name(who)), own.per_second / of(who)?.per_second, times)
        }
        Demand::Median(most) => at_most("p50 ms", own.median_us / 1e3, most),
        Demand::Flat(times) => {
            let own = figures.iter().filter(|(who, _)| matches!(who, Who::Postern | Who::Other | Who::Third));
            let (least, most) = own.fold((f64::MAX, 0.0_f64), |(least, most), (_, figures)| {
                (least.min(figures.cpu_us), most.max(figures.cpu_us))
            });
            at_most("dearest / cheapest", most / least, times)
        }
    })
}

fn name(who: Who) -> &'static str {
    match who {
        Who::Postern => "own",
        Who::Peer => "peer",
        Who::Limit => "limit",
        Who::Other => "other",
        Who::Third => "third",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let with = |cpu_us, tail_us, per_second| Figures {
            cpu_us,
            tail_us,
            per_second,
            median_us: 2000.0,
            ..Figures::default()
        };
        let figures = [
            (Who::Postern, with(10.0, 50.0, 100.0)),
            (Who::Peer, with(250.0, 500.0, 10.0)),
            (Who::Other, with(16.0, 1.0, 1.0)),
        ];
        for (demand, expected) in [
            (Demand::Less(Who::Peer, 25.0), Some(true)),
            (Demand::Less(Who::Peer, 25.1), Some(false)),
            (Demand::AtMost(Who::Other, 0.7), Some(true)),
            (Demand::AtMost(Who::Other, 0.6), Some(false)),
            (Demand::Tail(Who::Peer, 0.1), Some(true)),
            (Demand::Tail(Who::Peer, 0.09), Some(false)),
            (Demand::Rate(Who::Peer, 10.0), Some(true)),
            (Demand::Rate(Who::Peer, 11.0), Some(false)),
            (Demand::Flat(1.6), Some(true)),
            (Demand::Flat(1.5), Some(false)),
            (Demand::AtMost(Who::Limit, 1.0), None),
            (Demand::Median(2.0), Some(true)),
            (Demand::Median(1.9), Some(false)),
        ] {
            assert_eq!(verdict(demand, &figures).map(|verdict| verdict.holds), expected, "{demand:?}");
        }
    }
}

//! Metrics of requests. Counters are looked up once: the recorder hashes names and labels each time.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram};

use super::names::Target;

const TARGETS: usize = 5;
/// Status codes from 100 to 599.
const CODES: usize = 500;

/// How many answers there were per target and status, and how long they took.
pub(crate) struct Counted(Box<[OfTarget]>);

struct OfTarget {
    seconds: OnceLock<Histogram>,
    answers: Box<[OnceLock<Counter>]>,
}

impl Default for Counted {
    fn default() -> Self {
        let of_target =
            || OfTarget { seconds: OnceLock::new(), answers: (0..CODES).map(|_| OnceLock::new()).collect() };
        Self((0..TARGETS).map(|_| of_target()).collect())
    }
}

impl Counted {
    pub(super) fn count(&self, target: Target, status: StatusCode, took: Duration) {
        let Some(of_target) = self.0.get(target as usize) else { return };
        let counter = || {
            let labels = [("target", target.as_str().to_owned()), ("status", status.as_str().to_owned())];
            metrics::counter!("postern_http_requests_total", &labels)
        };
        let code = usize::from(status.as_u16()).checked_sub(100);
        match code.and_then(|code| of_target.answers.get(code)) {
            Some(answers) => answers.get_or_init(counter).increment(1),
            None => counter().increment(1),
        }
        let seconds = || metrics::histogram!("postern_http_answer_seconds", "target" => target.as_str());
        of_target.seconds.get_or_init(seconds).record(took);
    }
}

//! What holds for task files and schedules, whatever text they are read from.

use postern_model::{Secret, Timestamp};

use crate::order::{Argument, RunOrder, Source, Work};
use crate::{Inputs, Location, Outcome, Schedule, StepAction, Steps};

/// The time of these runs.
const NOW: i64 = 1_795_308_729;

/// One text as a task file and its values, apart at a zero byte; also as a location and a template.
pub fn task_files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (task, values) = text.split_once('\0').unwrap_or((text, "a: {b: [1, x]}"));
    let _ = Location::parse(task, true);
    let is_known_to_be_wrong = crate::check(task).is_err();
    let order = RunOrder {
        run_id: "ca1".to_owned(),
        registry: "r.azurecr.io".to_owned(),
        registry_name: "r".to_owned(),
        task_name: None,
        workload: "/w".to_owned(),
        triggered_by: "manual".to_owned(),
        created: NOW,
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        timeout_seconds: 3600,
        cpu: 2,
        source: Source::None,
        work: Work::Encoded {
            task: task.to_owned(),
            values_content: Some(values.to_owned()),
            values: vec![Argument { name: "s".to_owned(), value: Secret::new("s3cret"), is_secret: true }],
        },
        logins: Vec::new(),
    };
    let _ = crate::needs(&order, &Inputs::default());
    let planned = match crate::plan(&order, &Inputs::default()) {
        Ok(planned) => planned,
        // Messages are for people.
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(!is_known_to_be_wrong, "what was wrong before is right now: {task}");
    assert!((1..=crate::MAX_STEPS).contains(&planned.steps.len()));
    for step in &planned.steps {
        assert!(!step.id.is_empty() && !step.id.contains(['/', ' ', '\0']) && !step.id.starts_with(['.', '-']));
        match &step.action {
            StepAction::Push(images) => assert!(!images.is_empty()),
            StepAction::Cmd(words) => assert!(words.first().is_some_and(|image| !image.is_empty())),
            StepAction::Build(build) => assert!(!build.context.contains('\0')),
        }
    }
    runs_to_its_end(planned.order, planned.steps.len());
}

/// Every step begins once.
fn runs_to_its_end(mut order: Steps, count: usize) {
    let mut begun = 0;
    while !order.is_over() {
        let ready = order.ready();
        assert!(!ready.is_empty(), "the steps are stuck");
        for step in ready {
            begun += 1;
            order.finished(step, Outcome::Successful);
        }
    }
    assert_eq!(begun, count);
}

/// One text as a schedule.
pub fn schedules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(schedule) = text.parse::<Schedule>() else { return };
    assert_eq!(schedule.to_string().parse().as_ref(), Ok(&schedule));
    let mut after = Timestamp::from_unix_seconds(NOW);
    for _ in 0..3 {
        let next = schedule.next(after).unwrap_or(after);
        assert!(next > after && schedule.matches(next), "{schedule} after {after}: {next}");
        assert!(
            next.unix_seconds() == after.unix_seconds() + 60
                || !schedule.matches(next.plus_seconds(-60))
                || after.plus_seconds(60) > next
        );
        after = next;
    }
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        super::kept::each("task_files", super::task_files);
        super::kept::each("schedules", super::schedules);
    }
}

//! What templates are filled in with.

use std::collections::BTreeMap;

use postern_model::Timestamp;

use super::{Inputs, PlanError};
use crate::order::{RunOrder, Work};
use crate::place::TextError;
use crate::template::{self, MAX_TEMPLATE_BYTES, Value};
use crate::yaml::{self, Tree};

/// The task name of a run that has no task.
const NO_TASK: &str = "quickrun";

/// `.Run`
pub(super) fn run(order: &RunOrder, inputs: &Inputs<'_>) -> Value {
    let date = template::layout("20060102-150405z", Timestamp::from_unix_seconds(order.created));
    let name = order.registry.split('.').next().unwrap_or_default();
    let text = |text: &str| Value::text(text);
    Value::map([
        ("ID", text(&order.run_id)),
        ("Commit", text(inputs.commit)),
        ("Repository", text(inputs.repository)),
        ("Branch", text(inputs.branch)),
        ("GitTag", text(inputs.git_tag)),
        ("TriggeredBy", text(&order.triggered_by)),
        ("Registry", text(&order.registry)),
        ("RegistryName", text(name)),
        ("Date", text(&date)),
        ("SharedVolume", text(inputs.shared_volume)),
        ("OS", text(&order.os)),
        ("OSVersion", text(inputs.os_version)),
        ("Architecture", text(&order.architecture)),
        ("TaskName", text(order.task_name.as_deref().unwrap_or(NO_TASK))),
    ])
}

/// `.Build`
pub(super) fn build(order: &RunOrder) -> Value {
    Value::map([("ID", Value::text(order.run_id.as_str()))])
}

/// All that a task file may name.
pub(super) fn all(order: &RunOrder, inputs: &Inputs<'_>) -> Result<Value, PlanError> {
    let (file, given) = match &order.work {
        Work::Docker(_) => (None, &[][..]),
        Work::File { values_file: None, values, .. } => (None, values.as_slice()),
        Work::File { values_file: Some(_), values, .. } => {
            (Some(inputs.values.ok_or(PlanError::Missing("values file"))?), values.as_slice())
        }
        Work::Encoded { values_content, values, .. } => (values_content.as_deref(), values.as_slice()),
    };
    let mut values = file.map_or(Ok(BTreeMap::new()), read).map_err(PlanError::Values)?;
    for one in given {
        let value = one.value.expose();
        values.insert(one.name.clone(), if one.is_secret { Value::secret(value) } else { Value::text(value) });
    }
    let run = run(order, inputs);
    let values = Value::map(values);
    let secrets = inputs.secrets.iter().map(|(id, secret)| (id.clone(), Value::secret(secret.expose())));
    Ok(Value::map([
        ("ValuesJSON", shell_quoted(&values)),
        ("RunJSON", shell_quoted(&run)),
        ("Run", run),
        ("Build", build(order)),
        ("Values", values),
        ("Secrets", Value::map(secrets)),
    ]))
}

fn read(text: &str) -> Result<BTreeMap<String, Value>, TextError> {
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(TextError::new(format!("the text is longer than {MAX_TEMPLATE_BYTES} bytes")));
    }
    let Some(node) = yaml::parse(text)?.filter(|node| !node.is_null()) else { return Ok(BTreeMap::new()) };
    match &node.tree {
        Tree::Map(entries) => Ok(entries.iter().map(|(key, node)| (key.clone(), Value::from(node))).collect()),
        _ => Err(TextError::at(node.place, "expected a map of values")),
    }
}

/// As one word of a shell's command line, secret if anything in it is.
fn shell_quoted(value: &Value) -> Value {
    let text = format!("'{}'", template::to_json(value).replace('\'', "'\"'\"'"));
    if value.weigh().1 { Value::secret(text) } else { Value::text(text) }
}

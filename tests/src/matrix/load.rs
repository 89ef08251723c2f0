use std::fs;
use std::path::Path;

use postern_access::OperationKind;
use serde::Deserialize;
use toml::{Table, Value};

use super::Row;

/// The files of `specs/access`, in the order in which a request meets the layers.
const FILES: [&str; 9] = [
    "ways-in",
    "trusted-services",
    "tasks",
    "import",
    "authentication",
    "authorization",
    "locks",
    "quarantine",
    "soft-delete",
];

/// One file's rows.
#[derive(Clone, Debug)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// What the section is about.
    pub about: String,
    /// Its rows, with every axis expanded.
    pub rows: Vec<Row>,
}

/// A file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    about: String,
    /// Laid under every row.
    #[serde(default)]
    defaults: Table,
    /// Conditions by name.
    #[serde(default)]
    conditions: Table,
    row: Vec<Table>,
}

/// Every section, in order.
pub fn sections() -> Vec<Section> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs/access");
    let mut present: Vec<_> = fs::read_dir(&folder)
        .expect("specs/access exists")
        .map(|entry| entry.expect("specs/access can be listed").file_name().to_string_lossy().into_owned())
        .collect();
    present.sort_unstable();
    let mut known = FILES.map(|name| format!("{name}.toml"));
    known.sort_unstable();
    assert_eq!(present, known, "every file of specs/access is read, and no other");
    FILES.iter().map(|name| section(&folder, name)).collect()
}

fn section(folder: &Path, name: &str) -> Section {
    let text = fs::read_to_string(folder.join(format!("{name}.toml"))).expect("a section can be read");
    let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("specs/access/{name}.toml: {error}"));
    let mut rows = Vec::new();
    for (at, written) in file.row.into_iter().enumerate() {
        let mut row = file.defaults.clone();
        lay_over(&mut row, written);
        for expanded in expand_may(expand_each(row), at) {
            let mut expanded = expanded;
            if let Some(place @ Value::String(_)) = expanded.get("from").cloned() {
                expanded.insert("from".to_owned(), Value::Table(Table::from_iter([("place".to_owned(), place)])));
            }
            let mut row: Row = Value::Table(expanded.clone())
                .try_into()
                .unwrap_or_else(|error| panic!("specs/access/{name}.toml: {error}\nin {expanded}"));
            resolve_conditions(&mut row, &file.conditions);
            rows.push(row);
        }
    }
    Section { title: file.title, about: file.about, rows }
}

/// Tables are merged, everything else is replaced; `from = "internet"` is that place and nothing behind it.
fn lay_over(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// `each = { "from.place" = ["internet", "office"] }` stands for one row per value, and for every combination of several axes.
fn expand_each(mut row: Table) -> Vec<Table> {
    let Some(axes) = row.remove("each") else { return vec![row] };
    let mut rows = vec![row];
    for (path, values) in axes.as_table().expect("`each` is a table") {
        let values = values.as_array().expect("an axis is a list");
        let with = |row: &Table, value: &Value| {
            let mut row = row.clone();
            set(&mut row, path, value.clone());
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let name = row.get("name").and_then(Value::as_str).expect("a row has a name");
            let name = format!("{name} — {shown}");
            row.insert("name".to_owned(), Value::String(name));
            row
        };
        rows = rows.iter().flat_map(|row| values.iter().map(|value| with(row, value)).collect::<Vec<_>>()).collect();
    }
    rows
}

fn set(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            set(inner.as_table_mut().expect("an axis goes through tables"), rest, value);
        }
    }
}

/// `may = ["pullManifest"]` stands for one row per operation: allowed where listed, denied by authorization elsewhere.
fn expand_may(rows: Vec<Table>, at: usize) -> Vec<Table> {
    let mut expanded = Vec::new();
    for (variant, mut row) in rows.into_iter().enumerate() {
        let Some(may) = row.remove("may") else {
            expanded.push(row);
            continue;
        };
        let may: Vec<&str> = may.as_array().expect("`may` is a list").iter().filter_map(Value::as_str).collect();
        for name in &may {
            assert!(OperationKind::ALL.iter().any(|kind| kind.as_str() == *name), "`{name}` is no operation");
        }
        for kind in OperationKind::ALL.iter().filter(|kind| !kind.required().is_empty()) {
            let mut row = row.clone();
            let verdict = if may.contains(&kind.as_str()) { "allow" } else { "deny" };
            set(&mut row, "operation.kind", Value::String(kind.as_str().to_owned()));
            set(&mut row, "expect.verdict", Value::String(verdict.to_owned()));
            if verdict == "deny" {
                set(&mut row, "expect.layer", Value::String("authorization".to_owned()));
            }
            let group = i64::try_from(at * 1000 + variant).expect("a file has few rows");
            row.insert("group".to_owned(), Value::Integer(group));
            expanded.push(row);
        }
    }
    expanded
}

fn resolve_conditions(row: &mut Row, conditions: &Table) {
    let resolve = |condition: &mut Option<String>| {
        if let Some(name) = condition {
            let text = conditions.get(name.as_str()).and_then(Value::as_str);
            *name = text.unwrap_or_else(|| panic!("condition `{name}` is not in the file")).to_owned();
        }
    };
    resolve(&mut row.caller.condition);
    row.caller.also.iter_mut().for_each(|assignment| resolve(&mut assignment.condition));
}

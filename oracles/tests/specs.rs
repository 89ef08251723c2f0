//! The oracle answers every row of the access matrix as the row says, and as the decision does.

use postern_access::{Inputs, evaluate};
use postern_oracles::{
    Answer, Layer, Objection, Oracle, Refusal, SpecRow, Via, address_in_range, convert, differences, rows,
};

#[test]
fn the_oracle_agrees_with_every_row() {
    let rows = rows();
    assert!(rows.len() > 1000, "only {} rows were found", rows.len());
    let wrong: Vec<String> = rows.iter().filter_map(|row| disagrees(row, &judged(row))).collect();
    assert!(wrong.is_empty(), "{} of {} rows differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn the_decision_agrees_with_the_oracle_on_every_row() {
    let rows = rows();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let (origin, credential) = (convert::origin(&row.origin), convert::credential(&row.caller));
            let content = row.locked.as_ref().map(|locked| convert::content(locked, &row.wish));
            let inputs = Inputs {
                origin: &origin,
                rules: &convert::rules(&row.registry, &row.server),
                credential: &credential,
                operation: &convert::operation(&row.wish),
                content: content.as_ref(),
            };
            let difference = differences(&judged(row), &evaluate(&inputs))?;
            Some(format!("{}: {difference}", row.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    println!("{} rows", rows.len());
}

fn judged(row: &SpecRow) -> Answer {
    Oracle::default().judge(&row.registry, &row.server, &row.origin, &row.caller, &row.wish, row.locked.as_ref())
}

/// In what the answer is not the one that the row asks for.
fn disagrees(row: &SpecRow, answer: &Answer) -> Option<String> {
    let expected = &row.expected;
    let layer = answer.refused_by.map(|layer| match layer {
        Layer::Network => "network",
        Layer::Authentication => "authentication",
        Layer::Authorization => "authorization",
        Layer::Content => "content",
    });
    let differs = |what: &str, found: &dyn std::fmt::Debug| Some(format!("{}: {what} is {found:?}", row.name));
    if expected.allow != layer.is_none() || expected.layer.as_deref() != layer {
        return differs("the refusing layer", &layer);
    }
    if expected.via.as_deref().is_some_and(|via| !is_via(row, answer, via)) {
        return differs("the way in", &answer.network);
    }
    let mut blockers = expected.blockers.clone()?;
    blockers.sort_unstable();
    let mut found = names(answer);
    found.sort_unstable();
    // Of several locks a row names the first.
    let same =
        if layer == Some("content") { blockers.iter().all(|one| found.contains(one)) } else { blockers == found };
    if same { None } else { differs("in the way", &found) }
}

fn is_via(row: &SpecRow, answer: &Answer, printed: &str) -> bool {
    match &answer.network {
        Ok(Via::Public) => printed == "public access, all networks",
        Ok(Via::PrivateEndpoint(_)) => printed == "private endpoint connection `example-connection`",
        Ok(Via::ServiceEndpoint(_)) => printed == "virtual network rule for subnet `clients`",
        Ok(Via::TrustedService(name)) => printed == format!("trusted service `{name}`"),
        Ok(Via::IpRule) => printed.strip_prefix("IP rule ").is_some_and(|range| {
            let fits = |rule: &String| *range == format!("{rule}/32") || *rule == range;
            row.registry.ip_rules.iter().any(fits) && address_in_range(&row.origin.address, range, None)
        }),
        Err(_) => false,
    }
}

/// What stood in the way in the refusing layer, by name.
fn names(answer: &Answer) -> Vec<String> {
    match answer.refused_by {
        None => Vec::new(),
        Some(Layer::Network) => {
            let bits = answer.network.as_ref().err().copied().unwrap_or(0);
            Objection::ALL.iter().filter(|one| bits & **one as u32 != 0).map(|one| format!("{one:?}")).collect()
        }
        Some(Layer::Authentication) => vec![match &answer.authentication {
            postern_oracles::Authentication::Invalid(why) => why.clone(),
            other => format!("{other:?}"),
        }],
        Some(Layer::Authorization) => {
            let bits = answer.authorization.and_then(Result::err).unwrap_or(0);
            Refusal::ALL.iter().filter(|one| bits & **one as u32 != 0).map(|one| format!("{one:?}")).collect()
        }
        Some(Layer::Content) => {
            let name = |(part, attribute): &(String, String)| {
                let (first, rest) = part.split_at(1);
                format!("{}{rest}.{attribute}", first.to_uppercase())
            };
            answer.locks.iter().map(name).collect()
        }
    }
}

//! The table: on standard output as it grows, and as a page.

use std::fmt::Write as _;

use crate::row::Who;
use crate::verdict::{Line, Verdict};

/// What the page says besides the table.
pub(crate) struct About {
    pub(crate) machine: String,
    pub(crate) versions: String,
    pub(crate) plan: String,
}

const HOW: &str = "\
## How to repeat it

    cargo xtask bench                       # all of it: build, measure, print
    cargo xtask bench --write               # and rewrite this page
    cargo xtask bench --quick --row manifest-head   # rows whose names begin so, one short round
    cargo xtask bench --dist                # with the profile that releases are built with
    cargo xtask bench --smoke               # every row for a moment: that it works, not how fast

It needs Linux and two processors. docker-registry and nginx are taken from the system, or else unpacked from Debian's packages into the
cache folder that the tests use; nothing is installed and no service is started. Everything runs on loopback and in a temporary folder
below `target/`, which must lie on the disk that is to be measured. Quiet the machine first: what else runs shows in the figures.

## Method

- The servers have one processor and the generator another. Those of one row take turns, for a part of a second each; medians of the rounds count.
- *CPU* is what the server used per operation, user and system, with what it still did after the last answer (audit records, collection of
  garbage), from the process's clock in nanoseconds. It comes first because times on the wall depend on the neighbours.
- Postern has everything on: a closed network with 100 address rules, 10,000 role assignments, a token in each request, every decision
  recorded. Only `auth-overhead` compares it with itself without these (*other*: anonymous pulls from everywhere, which need a token for nobody, and
  are recorded too). docker-registry has no TLS, no authentication, no access log.
- The generator is this project's own (`bench/`): one thread, keep-alive connections, HTTP/1.1 or TLS 1.3, answers read and thrown away. A row says
  so when the generator was the limit.
- Pushes are POST and PUT (`patch-8m`: POST, PATCHes of 8 MiB, PUT) of blobs never seen before, and are on disk when they are acknowledged, in
  Postern and in docker-registry. `mount` goes to one of 16 repositories, `manifest-put` is a new manifest with a new tag.
- `pull-storm`: per image a token (Postern only), HEAD of the tag, GET of the manifest, a config of 1 KiB and layers of 64 KiB, 256 KiB, 1 MiB.
- `tags-page` has 100 of 100,000 tags; *other* is the last page, *third* the first of 10,000. `tags-all` reads 10,000 tags: in one answer from
  docker-registry, in ten pages from Postern. `catalog-*` has 100 of 10,000 repositories, *other* is the other end.
- `deny-*`: *other* is the HEAD that is allowed. `patch-8m`: *other* is the own push.
- `estate-*`: another Postern with 1,000 registries and 100,000 role assignments, 100 on each registry, of 1,000 identities. docker-registry has
  nothing like it: the demands are absolute, what an administrator takes for immediate. `estate-show` and `estate-list` are GETs of one registry
  and of the group of all of them; `estate-roles-*` list role assignments: at and above a registry, of one principal in the subscription, of one
  principal at a registry, and the first page of all. `estate-assign` is a new role assignment for the whole subscription and then a pull's
  HEAD, which must know of it. `estate-head` is that HEAD alone; *other* is the same at the Postern of the other rows.
- Limits: nginx sends the same bytes from a file; hyper answers 1 KiB from memory; the sink receives, hashes, writes and syncs a file.
";

/// One row as lines for a terminal.
pub(crate) fn plain(line: &Line) -> String {
    let mut text = line.name.clone();
    for (who, figures) in &line.figures {
        let _ = write!(
            text,
            "\n  {:<8} CPU {:>9}  p50 {:>9}  p99 {:>9}  {:>9}/s  client {:>9} ({:.0} % / {:.0} % busy)",
            format!("{who:?}").to_lowercase(),
            time(figures.cpu_us),
            time(figures.median_us),
            time(figures.tail_us),
            count(figures.per_second),
            time(figures.client_us),
            figures.server_busy * 100.0,
            figures.client_busy * 100.0,
        );
    }
    for (kind, verdicts) in [("must", &line.must), ("goal", &line.goal)] {
        for verdict in verdicts {
            let _ = write!(text, "\n  {kind}: {} {}", verdict.text, if verdict.holds { "ok" } else { "MISSED" });
        }
    }
    if !line.note.is_empty() {
        let _ = write!(text, "\n  {}", line.note);
    }
    text
}

/// The page.
pub(crate) fn page(lines: &[Line], about: &About) -> String {
    let mut text = format!(
        "# Benchmarks\n\nMade by `cargo xtask bench --write`.\n\n- Machine: {}\n- Versions: {}\n- Run: {}\n\n\
         CPU is the server's processor time per operation. **Must** compares with docker-registry, *goal* with what the machine can do.\n\n",
        about.machine, about.versions, about.plan
    );
    let missed = |pick: fn(&Line) -> &Vec<Verdict>| {
        let names = lines.iter().filter(|line| pick(line).iter().any(|verdict| !verdict.holds));
        let names: Vec<String> = names.map(|line| format!("`{}`", line.name)).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let _ = writeln!(text, "Rows that miss *must*: {}.", missed(|line| &line.must));
    let _ = writeln!(text, "Rows short of *goal*: {}.\n", missed(|line| &line.goal));
    text.push_str("| row | clients | CPU | p50 | p99 | per second | docker-registry | limit | other | must | goal |\n");
    text.push_str("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --- | --- |\n");
    for line in lines {
        let _ = writeln!(text, "{}", markdown(line));
    }
    text.push('\n');
    for line in lines.iter().filter(|line| !line.note.is_empty()) {
        let _ = writeln!(text, "- `{}`: {}", line.name, line.note);
    }
    text.push('\n');
    text.push_str(HOW);
    text
}

fn markdown(line: &Line) -> String {
    let cpu = |who: Who| line.of_who(who).map_or(String::new(), |figures| time(figures.cpu_us));
    let own = line.of_who(Who::Postern);
    let other: Vec<String> = [cpu(Who::Other), cpu(Who::Third)].into_iter().filter(|text| !text.is_empty()).collect();
    let cells = [
        format!("`{}`", line.name),
        if line.clients == 0 { String::new() } else { line.clients.to_string() },
        cpu(Who::Postern),
        own.map_or(String::new(), |own| time(own.median_us)),
        own.map_or(String::new(), |own| time(own.tail_us)),
        own.map_or(String::new(), |own| count(own.per_second)),
        cpu(Who::Peer),
        cpu(Who::Limit),
        other.join(", "),
        cell(&line.must),
        cell(&line.goal),
    ];
    format!("| {} |", cells.join(" | "))
}

fn cell(verdicts: &[Verdict]) -> String {
    let texts: Vec<String> = verdicts
        .iter()
        .map(
            |verdict| {
                if verdict.holds { format!("ok: {}", verdict.text) } else { format!("**missed**: {}", verdict.text) }
            },
        )
        .collect();
    texts.join("; ")
}

/// Microseconds in a unit that fits.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        micros if micros < 1.0 => format!("{:.0} ns", micros * 1e3),
        micros if micros < 10.0 => format!("{micros:.2} us"),
        micros if micros < 100.0 => format!("{micros:.1} us"),
        micros if micros < 1e3 => format!("{micros:.0} us"),
        micros if micros < 1e4 => format!("{:.2} ms", micros / 1e3),
        micros if micros < 1e6 => format!("{:.1} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

fn count(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (micros, text) in [
            (0.25, "250 ns"),
            (6.4, "6.40 us"),
            (64.4, "64.4 us"),
            (790.4, "790 us"),
            (1960.0, "1.96 ms"),
            (95_000.0, "95.0 ms"),
            (1_700_000.0, "1.70 s"),
        ] {
            assert_eq!(time(micros), text);
        }
    }

    #[test]
    fn the_page_names_what_is_missed() {
        let verdict = |holds| Verdict { text: "CPU 2.0 (<= 1)".into(), holds };
        let line = |name: &str, holds| Line { name: name.into(), must: vec![verdict(holds)], ..Line::default() };
        let about = About { machine: "m".into(), versions: "v".into(), plan: "p".into() };
        let page = page(&[line("one", true), line("two", false)], &about);
        assert!(page.contains("Rows that miss *must*: `two`."), "{page}");
        assert!(page.contains("Rows short of *goal*: none."), "{page}");
        assert!(page.contains("| **missed**: CPU 2.0 (<= 1) |"), "{page}");
    }
}

//! The rows of the table: what is measured, and what is asked of it.

use crate::estate::Task;
use crate::seed::{KIB, MIB};

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    HeadTag,
    GetDigest,
    HeadBlob,
    GetBlob(usize),
    PushBlob(usize),
    /// As the push of the same size, in chunks.
    PatchBlob(usize),
    Mount,
    PutManifest,
    TagsPage,
    AllTags,
    CatalogFirst,
    CatalogLast,
    Storm,
    /// HEAD of a manifest, beside a server without rules.
    Overhead,
    /// Without a token.
    Unauthenticated,
    /// From an address that no rule names.
    Refused,
    /// An administrator's, where there are very many registries and role assignments.
    Manage(Task),
    /// HEAD of a manifest there, beside the server of the other rows.
    HeadAmongMany,
}

/// Who else is measured in the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    Postern,
    Peer,
    /// nginx, hyper, or the sink: whichever does the least that the work needs.
    Limit,
    /// Postern in another position, size or setting: what that is stands in the row.
    Other,
    /// The same, a third time.
    Third,
}

/// What is asked of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Demand {
    /// CPU per operation: the other's divided by Postern's, at least.
    Less(Who, f64),
    /// CPU per operation: Postern's divided by the other's, at most.
    AtMost(Who, f64),
    /// The 99th percentile of the latency: Postern's divided by the other's, at most.
    Tail(Who, f64),
    /// Operations per second: Postern's divided by the other's, at least.
    Rate(Who, f64),
    /// The median of the latency: Postern's in milliseconds, at most.
    Median(f64),
    /// CPU per operation: the dearest of Postern's variants divided by the cheapest, at most.
    Flat(f64),
}

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limited {
    Hello,
    Nginx,
    Sink,
    Nothing,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) clients: usize,
    /// Operations of one round, at most.
    pub(crate) most: u64,
    pub(crate) limit: Limited,
    pub(crate) must: &'static [Demand],
    pub(crate) goal: &'static [Demand],
    /// Over TLS, with nginx as the limit, and without the peer.
    pub(crate) tls: bool,
}

use Demand::{AtMost, Flat, Less, Median, Rate, Tail};
use Limited::{Hello, Nginx, Nothing, Sink};
use Who::{Limit, Other, Peer};

const ANY: u64 = u64::MAX;
/// In one round; a principal gets its role once.
const ASSIGNED: u64 = 250;

const fn row(
    name: &'static str,
    work: Work,
    clients: usize,
    most: u64,
    limit: Limited,
    must: &'static [Demand],
    goal: &'static [Demand],
) -> Row {
    Row { name, work, clients, most, limit, must, goal, tls: false }
}

const fn tls(name: &'static str, work: Work, clients: usize, goal: &'static [Demand]) -> Row {
    Row { name, work, clients, most: ANY, limit: Nginx, must: &[], goal, tls: true }
}

const SMALL: &[Demand] = &[Less(Peer, 25.0)];
const CROWDED: &[Demand] = &[Less(Peer, 25.0), Tail(Peer, 0.1)];
const NEAR_HYPER: &[Demand] = &[AtMost(Limit, 2.5)];

/// Rows that only read come first: what writes leaves work behind for the disk.
pub(crate) const ROWS: &[Row] = &[
    row("manifest-head-tag-1", Work::HeadTag, 1, ANY, Hello, SMALL, NEAR_HYPER),
    row("manifest-head-tag-32", Work::HeadTag, 32, ANY, Hello, SMALL, NEAR_HYPER),
    row("manifest-head-tag-256", Work::HeadTag, 256, ANY, Hello, CROWDED, NEAR_HYPER),
    row("manifest-get-digest-1", Work::GetDigest, 1, ANY, Hello, SMALL, NEAR_HYPER),
    row("manifest-get-digest-32", Work::GetDigest, 32, ANY, Hello, SMALL, NEAR_HYPER),
    row("manifest-get-digest-256", Work::GetDigest, 256, ANY, Hello, CROWDED, NEAR_HYPER),
    row("blob-head", Work::HeadBlob, 32, ANY, Hello, SMALL, NEAR_HYPER),
    row("blob-get-1k", Work::GetBlob(KIB), 32, ANY, Nginx, &[Less(Peer, 40.0)], &[AtMost(Limit, 2.5)]),
    row("blob-get-64k", Work::GetBlob(64 * KIB), 32, ANY, Nginx, &[Less(Peer, 30.0)], &[AtMost(Limit, 2.5)]),
    row("blob-get-1m", Work::GetBlob(MIB), 32, ANY, Nginx, &[Less(Peer, 4.0)], &[AtMost(Limit, 1.3)]),
    row("blob-get-100m", Work::GetBlob(100 * MIB), 1, ANY, Nginx, &[Less(Peer, 1.5)], &[AtMost(Limit, 1.2)]),
    tls("tls-manifest-head-tag", Work::HeadTag, 32, &[AtMost(Limit, 2.5)]),
    tls("tls-manifest-get-digest", Work::GetDigest, 32, &[AtMost(Limit, 2.5)]),
    tls("tls-blob-head", Work::HeadBlob, 32, &[AtMost(Limit, 2.5)]),
    tls("tls-blob-get-1k", Work::GetBlob(KIB), 32, &[AtMost(Limit, 2.5)]),
    tls("tls-blob-get-64k", Work::GetBlob(64 * KIB), 32, &[AtMost(Limit, 2.5)]),
    tls("tls-blob-get-1m", Work::GetBlob(MIB), 32, &[AtMost(Limit, 1.3)]),
    tls("tls-blob-get-100m", Work::GetBlob(100 * MIB), 1, &[AtMost(Limit, 1.2)]),
    row("auth-overhead", Work::Overhead, 32, ANY, Nothing, &[AtMost(Other, 1.15)], &[AtMost(Other, 1.05)]),
    row("deny-401", Work::Unauthenticated, 32, ANY, Nothing, &[], &[AtMost(Other, 1.0)]),
    row("deny-403", Work::Refused, 32, ANY, Nothing, &[], &[AtMost(Other, 1.0)]),
    row("tags-page", Work::TagsPage, 4, ANY, Nothing, &[Less(Peer, 100.0)], &[Flat(1.5)]),
    row("tags-all", Work::AllTags, 4, ANY, Nothing, &[Less(Peer, 5.0)], &[]),
    row("catalog-first", Work::CatalogFirst, 4, ANY, Nothing, &[Less(Peer, 20.0)], &[Flat(1.5)]),
    row("catalog-last", Work::CatalogLast, 4, ANY, Nothing, &[Less(Peer, 20.0)], &[Flat(1.5)]),
    row("pull-storm", Work::Storm, 256, ANY, Nothing, &[Rate(Peer, 10.0)], &[]),
    row("estate-head", Work::HeadAmongMany, 32, ANY, Nothing, &[AtMost(Other, 1.1)], &[]),
    row("estate-show", Work::Manage(Task::ShowRegistry), 1, ANY, Nothing, &[Median(5.0)], &[Median(1.0)]),
    row("estate-list", Work::Manage(Task::ListRegistries), 1, ANY, Nothing, &[Median(150.0)], &[Median(50.0)]),
    row("estate-roles-scope", Work::Manage(Task::AssignmentsAtScope), 1, ANY, Nothing, &[Median(10.0)], &[]),
    row("estate-roles-principal", Work::Manage(Task::AssignmentsOfPrincipal), 1, ANY, Nothing, &[Median(10.0)], &[]),
    row("estate-roles-assigned", Work::Manage(Task::AssignedTo), 1, ANY, Nothing, &[Median(5.0)], &[]),
    row("estate-roles-page", Work::Manage(Task::AssignmentsPage), 1, ANY, Nothing, &[Median(100.0)], &[]),
    row("estate-assign", Work::Manage(Task::Assign), 1, ASSIGNED, Nothing, &[Median(20.0)], &[]),
    row("mount", Work::Mount, 16, 2000, Nothing, &[Less(Peer, 7.0)], &[]),
    row("manifest-put", Work::PutManifest, 16, ANY, Nothing, &[Less(Peer, 4.0)], &[]),
    row("push-1k", Work::PushBlob(KIB), 16, ANY, Sink, &[Less(Peer, 5.0)], &[AtMost(Limit, 3.0)]),
    row("push-1m", Work::PushBlob(MIB), 16, 160, Sink, &[Less(Peer, 4.0)], &[AtMost(Limit, 1.5)]),
    row("push-100m", Work::PushBlob(100 * MIB), 1, 3, Sink, &[Less(Peer, 2.0)], &[AtMost(Limit, 1.25)]),
    row("patch-8m", Work::PatchBlob(100 * MIB), 1, 3, Nothing, &[Less(Peer, 2.0)], &[AtMost(Other, 1.1)]),
];

/// Rows that are not made of requests to a running server.
pub(crate) const OTHER_ROWS: &[&str] = &["decide", "start", "rss-idle", "rss-conn", "rss-peak", "estate-start"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_have_names_of_their_own() {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).chain(OTHER_ROWS.iter().copied()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn demands_name_who_takes_part() {
        for row in ROWS {
            for demand in row.must.iter().chain(row.goal) {
                let (Less(who, _) | AtMost(who, _) | Tail(who, _) | Rate(who, _)) = *demand else { continue };
                assert!(who != Limit || row.limit != Nothing, "{}", row.name);
                assert!(who != Peer || !row.tls, "{}", row.name);
            }
        }
    }
}

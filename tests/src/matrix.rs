//! The access matrix: the rows of `specs/access/*.toml`, each a request and the answer that it must get.
//!
//! A [`Row`] is plain data: it says which registry, assignments, private endpoint and workload it needs, where the request
//! comes from, as whom, and what it wants. It is executed three times: [`Row::scene`] turns it into the values of the pure
//! decision, [`Live`] into resources, content, certificates and tokens of a server in this process, which it sends the request,
//! and [`Wire`] sends it to the real server from a place of the network bench.

mod answer;
mod live;
mod load;
mod row;
mod sample;
mod scene;
mod table;

pub use answer::{Answer, NAMES, Names};
pub use live::{ELSEWISE, Elsewise, Live, Outcome, Wire, differences, unnoticed};
pub use load::{Section, sections};
pub use row::{
    Assignment, Caller, Expect, From, Identity, Locks, Operation, Place, Registry, Rejected, Row, Switches, Token,
    Verdict, Workload, WorkloadKind,
};
pub use sample::sample;
pub use scene::{
    GROUP, LOGIN_SERVER, OFFICE_SUBNET, OTHER_PRIVATE_ENDPOINT, OTHER_SUBNET, PRIVATE_ENDPOINT, REGISTRY, Scene,
    principal,
};
pub use table::markdown;

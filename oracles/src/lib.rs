//! A second opinion on every access decision.
//!
//! ```text
//!   specs/access/*.toml ─┐             ┌─ Oracle::judge ──▶ Answer ──┐
//!   every combination ───┼──▶ facts ───┤                             ├──▶ differences
//!   generated cases ─────┘             └─ convert ─▶ access::evaluate ┘
//! ```
//!
//! [`Oracle`] was written from the documents that the access matrix names, before and apart from `postern-access`, and in another
//! style: facts are plain text, addresses are numbers, dates are compared as text, a gate is a list of ways in with what stands in
//! each, and a condition is a list of tokens. It is slow and shares no parser and no rule with what it judges. Only [`convert`]
//! and [`differences`] know both sides.
//!
//! A [`Mutation`] is a mistake that somebody could make in the decision. Each one has to be noticed by the tests that find the two
//! in agreement, or that agreement says nothing.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "what the oracle cannot read is a failed test"
)]

mod compare;
mod conditions;
pub mod convert;
mod facts;
mod gate;
pub mod generate;
mod judge;
mod locks;
mod mutation;
mod rights;
mod roles;
pub mod space;
mod specs;
mod text;

pub use compare::differences;
pub use conditions::{Attributes, Condition};
pub use facts::{
    Assignment, Caller, Claim, LockedParts, Origin, Registry, Role, ScopedToken, Server, Way, Who, Wish, Workload,
};
pub use gate::{Objection, Via};
pub use judge::{Answer, Authentication, Ground, Layer, Oracle};
pub use mutation::Mutation;
pub use rights::{DenyRule, ManagementRule, Near, Refusal, Word, Words, manages};
pub use roles::{BUILT_IN, built_in};
pub use specs::{Expected, SpecRow, rows};
pub use text::{address_in_range, covers, within};

//! Records of decisions.
//!
//! ```text
//!  request ──record()──▶ bounded queue ──▶ writer ──▶ journal ◀── find(id), newest(registry)
//!                            │ full?
//!                            ├─ allow: wait for room
//!                            └─ deny:  count per (registry, address, layer), written as one record
//! ```
//!
//! A record is rendered by the writer, so that the request pays for a few reference counts only; what would lift a denial is
//! worked out there, too. Deliberately absent: secrets (no type that carries one can reach a record) and any say in the
//! decision itself.

mod purge;
mod record;
mod writer;

pub use purge::Purge;
pub use record::{Record, render};
pub use writer::{Audit, AuditOptions, AuditWriter};

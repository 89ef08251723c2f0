//! Answers where the server's names lead, by the place of whoever asks, as a private DNS zone does: a network with an approved
//! private endpoint of a registry gets the endpoint's address there, everybody else the public one.
//!
//! It answers for the names below the suffix and no others, looks at no other server, and keeps nothing: what is approved or
//! rejected holds from the next question.

mod message;
mod name;
mod responder;

pub use message::{Transport, Zone, respond};
pub use name::{Asked, asked};
pub(crate) use responder::Responder;

use std::net::IpAddr;

use postern_access::ConnectionStatus;
use postern_store::Directory;

use crate::places::Places;
use crate::sockets::Scope;

/// What answers are made from.
pub(crate) struct Dns {
    pub(crate) zone: Zone,
    /// Where names lead for everybody without a private endpoint.
    pub(crate) public: Vec<IpAddr>,
    pub(crate) places: Places,
    pub(crate) directory: Directory,
}

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Not a question for this server.
    Refused,
    /// There is no such name.
    NoSuchName,
    /// The name is there, but leads nowhere.
    Nothing,
    /// To these addresses, by way of its `privatelink` name if `linked`.
    Addresses {
        /// The registry has an approved private endpoint, and the name asked for is not its `privatelink` name.
        linked: bool,
        /// All of them, of both families.
        addresses: Vec<IpAddr>,
    },
}

impl Dns {
    /// Where a name leads for somebody who asks on a socket in `scope`.
    pub(crate) fn answer(&self, scope: &Scope, asker: IpAddr, asked: &Asked) -> Answer {
        // A network's own resolver is nobody else's.
        if !scope.is_default() && !self.places.know(scope, asker) {
            return Answer::Refused;
        }
        let (login_server, private) = match asked {
            Asked::Elsewhere => return Answer::Refused,
            Asked::Nowhere => return Answer::NoSuchName,
            Asked::Apex | Asked::Gateway => {
                return Answer::Addresses { linked: false, addresses: self.public.clone() };
            }
            Asked::Registry { login_server, private } => (login_server, *private),
            Asked::Between { login_server } if self.directory.registry_by_host(login_server).is_some() => {
                (login_server, false)
            }
            Asked::Between { .. } => return Answer::Nothing,
        };
        let Some(rules) = self.directory.registry_by_host(login_server) else { return Answer::NoSuchName };
        let connections = || {
            let all = rules.network.private_endpoints.iter();
            all.filter(|connection| connection.status == ConnectionStatus::Approved)
        };
        let near = self.places.endpoints(scope, asker);
        let near = near.filter(|(endpoint, _)| connections().any(|connection| connection.endpoint == **endpoint));
        let mut addresses: Vec<IpAddr> = near.map(|(_, address)| address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        // Those who have an endpoint get nothing else, not even the public address of the other family.
        if addresses.is_empty() {
            addresses.clone_from(&self.public);
        }
        let linked = connections().next().is_some();
        match (linked, private) {
            // Only what is linked has the other name.
            (false, true) => Answer::NoSuchName,
            _ => Answer::Addresses { linked: linked && !private, addresses },
        }
    }
}

#[cfg(test)]
mod tests;

//! The registry that a row is executed on. Rows all speak of one; here they can have one each, with a subscription around it, so that
//! none has to be changed between two rows.

use super::documents::{Documents, PRICING};
use crate::matrix::{LOGIN_SERVER, REGISTRY};

const SUBSCRIPTION: &str = "/subscriptions/5ub/";

/// The rows' own registry, or one that is like it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Target(Option<usize>);

impl Target {
    /// Another registry.
    pub(super) const fn number(number: usize) -> Self {
        Self(Some(number))
    }

    /// Its name, which is also the admin user's.
    pub(super) fn name(self) -> String {
        self.0.map_or_else(|| "example".to_owned(), |number| format!("example{number}"))
    }

    /// Its login server.
    pub(super) fn host(self) -> String {
        LOGIN_SERVER.replacen("example", &self.name(), 1)
    }

    /// Its resource id.
    pub(super) fn id(self) -> String {
        self.moved(REGISTRY)
    }

    /// Documents about the rows' registry, made about this one.
    pub(super) fn documents(self, documents: Documents) -> Documents {
        if self.0.is_none() {
            return documents;
        }
        let moved = documents.into_iter().map(|(id, document)| {
            let text = self.moved(&document.to_string());
            (self.moved(&id), serde_json::from_str(&text).expect("only ids were exchanged"))
        });
        moved.collect()
    }

    /// Text in which ids of the registry and of the scanner's plan are those of this registry and its subscription. Networks and roles
    /// are the same for all.
    fn moved(self, text: &str) -> String {
        let Some(number) = self.0 else { return text.to_owned() };
        let own = |id: &str| id.replacen(SUBSCRIPTION, &format!("/subscriptions/5ub{number}/"), 1);
        let registry = own(REGISTRY).replacen("registries/example", &format!("registries/example{number}"), 1);
        text.replace(REGISTRY, &registry).replace(PRICING, &own(PRICING))
    }
}

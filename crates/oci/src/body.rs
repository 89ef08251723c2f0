use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::error::{Condition, Refusal};

/// What request bodies may take. Header and connection limits are the listener's, blob sizes the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest form at a token endpoint, in bytes. Default 64 KiB.
    pub form_bytes: usize,
    /// Largest body that changes attributes, in bytes. Default 16 KiB.
    pub attributes_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { form_bytes: 64 << 10, attributes_bytes: 16 << 10 }
    }
}

/// Reads a body of at most `limit` bytes, whether it says its length or comes in chunks.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(Condition::BodyTooLarge).with_detail(format!("the limit is {limit} bytes")))
        }
        Err(_) => Err(Refusal::new(Condition::BodyIncomplete)),
    }
}

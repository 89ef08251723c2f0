use uuid::Uuid;

use crate::Timestamp;

/// Where the time comes from. The binary has the only real one; tests set theirs.
pub trait Clock: Send + Sync + 'static {
    /// The current time, UTC.
    fn now(&self) -> Timestamp;
}

/// Where keys, secrets and ids come from. The binary has the only real one; tests seed theirs.
pub trait Random: Send + Sync + 'static {
    /// Fills the buffer with bytes nobody can guess.
    fn fill(&self, buffer: &mut [u8]);

    /// A new version 4 UUID.
    fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

use std::net::IpAddr;
use std::sync::Arc;

use postern_model::{PrincipalId, ResourceUid, Secret, Timestamp};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use uuid::Uuid;

use crate::StoreError;
use crate::database::detached;
use crate::store::Inner;

/// Sign-ins that one source may have open. Whoever opens more keeps nobody else from signing in.
const MAX_OPEN_PER_SOURCE: i64 = 32;
/// Sign-ins that may be open at all.
const MAX_OPEN: i64 = 10_000;
/// For how long an expired sign-in is told from one that never was.
const REMEMBERED_SECONDS: i64 = 24 * 3600;

/// Sign-ins on one device that are approved on another.
#[derive(Clone)]
pub struct DeviceLogins(Arc<Inner>);

/// A sign-in, as who is to approve it may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLogin {
    /// The program that asks, by its application id.
    pub client: Uuid,
    /// What the first token is for.
    pub audience: String,
    /// Where the request came from.
    pub source: IpAddr,
    /// When it began.
    pub begun: Timestamp,
    /// From when on it can be neither approved nor used.
    pub expires: Timestamp,
}

/// What whoever is asked says to a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceAnswer {
    /// The device may act as this principal; with the immutable id of its resource.
    Approved(PrincipalId, ResourceUid),
    /// It may not.
    Declined,
}

/// What has become of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Nobody has said anything yet.
    Pending,
    /// The device may act as this principal. Told once.
    Approved {
        /// The principal.
        principal: PrincipalId,
        /// The immutable id of the principal's resource when it was approved.
        uid: ResourceUid,
        /// When it was approved.
        approved: Timestamp,
        /// What the token is for.
        audience: String,
    },
    /// It may not.
    Declined,
    /// Nobody said anything in time.
    Expired,
    /// There is none, or none any more.
    Unknown,
}

impl DeviceLogins {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Begins a sign-in under the code that a person types and the one that the device keeps.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the person's code is taken, [`StoreError::TooManyDeviceLogins`] where too many are open.
    pub async fn begin(&self, user_code: &str, device: &Secret, login: &DeviceLogin) -> Result<(), StoreError> {
        let (inner, user_code, device, login) =
            (Arc::clone(&self.0), user_code.to_owned(), hash(device), login.clone());
        detached(async move {
            let now = inner.now();
            let mut transaction = inner.database.write().await?;
            sqlx::query("DELETE FROM device_logins WHERE expires <= $1")
                .bind(now.plus_seconds(-REMEMBERED_SECONDS).unix_micros())
                .execute(&mut *transaction)
                .await?;
            let counts = sqlx::query(
                "SELECT (SELECT COUNT(*) FROM device_logins WHERE expires > $1) AS open, \
                 (SELECT COUNT(*) FROM device_logins WHERE source = $2 AND expires > $1) AS own",
            )
            .bind(now.unix_micros())
            .bind(login.source.to_string())
            .fetch_one(&mut *transaction)
            .await?;
            if counts.try_get::<i64, _>("open")? >= MAX_OPEN || counts.try_get::<i64, _>("own")? >= MAX_OPEN_PER_SOURCE
            {
                return Err(StoreError::TooManyDeviceLogins);
            }
            let added = sqlx::query(
                "INSERT INTO device_logins (user_code, device, client, audience, source, begun, expires, declined) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, FALSE) ON CONFLICT DO NOTHING",
            )
            .bind(user_code)
            .bind(&device[..])
            .bind(login.client.to_string())
            .bind(login.audience)
            .bind(login.source.to_string())
            .bind(login.begun.unix_micros())
            .bind(login.expires.unix_micros())
            .execute(&mut *transaction)
            .await?;
            if added.rows_affected() == 0 {
                return Err(StoreError::Conflict);
            }
            transaction.commit().await
        })
        .await
    }

    /// The open sign-in of this code.
    pub async fn find(&self, user_code: &str) -> Result<Option<DeviceLogin>, StoreError> {
        let row = sqlx::query(
            "SELECT client, audience, source, begun, expires FROM device_logins \
             WHERE user_code = $1 AND expires > $2 AND principal IS NULL AND NOT declined",
        )
        .bind(user_code)
        .bind(self.0.now().unix_micros())
        .fetch_optional(self.0.database.read())
        .await?;
        row.map(|row| {
            let corrupt = || StoreError::Corrupt("device login");
            Ok(DeviceLogin {
                client: row.try_get::<&str, _>("client")?.parse().map_err(|_| corrupt())?,
                audience: row.try_get("audience")?,
                source: row.try_get::<&str, _>("source")?.parse().map_err(|_| corrupt())?,
                begun: Timestamp::from_unix_micros(row.try_get("begun")?),
                expires: Timestamp::from_unix_micros(row.try_get("expires")?),
            })
        })
        .transpose()
    }

    /// Answers the open sign-in of this code; false where there is none. The first answer counts.
    pub async fn answer(&self, user_code: &str, answer: DeviceAnswer) -> Result<bool, StoreError> {
        let (inner, user_code) = (Arc::clone(&self.0), user_code.to_owned());
        let approved = match answer {
            DeviceAnswer::Approved(principal, uid) => Some((principal.to_string(), uid.to_string())),
            DeviceAnswer::Declined => None,
        };
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let changed = sqlx::query(
                "UPDATE device_logins SET declined = $3, principal = $4, uid = $5, answered = $2 \
                 WHERE user_code = $1 AND expires > $2 AND principal IS NULL AND NOT declined",
            )
            .bind(user_code)
            .bind(inner.now().unix_micros())
            .bind(approved.is_none())
            .bind(approved.as_ref().map(|(principal, _)| principal))
            .bind(approved.as_ref().map(|(_, uid)| uid))
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            transaction.commit().await?;
            Ok(changed == 1)
        })
        .await
    }

    /// What has become of the sign-in that this client began. An approval ends it.
    pub async fn poll(&self, device: &Secret, client: Uuid) -> Result<DeviceState, StoreError> {
        let device = hash(device);
        let row = sqlx::query(
            "SELECT expires, declined, audience, answered, principal, uid FROM device_logins WHERE device = $1 AND client = $2",
        )
        .bind(&device[..])
        .bind(client.to_string())
        .fetch_optional(self.0.database.read())
        .await?;
        let Some(row) = row else { return Ok(DeviceState::Unknown) };
        if row.try_get::<i64, _>("expires")? <= self.0.now().unix_micros() {
            return Ok(DeviceState::Expired);
        }
        if row.try_get("declined")? {
            return Ok(DeviceState::Declined);
        }
        let (Some(principal), Some(uid)) =
            (row.try_get::<Option<&str>, _>("principal")?, row.try_get::<Option<&str>, _>("uid")?)
        else {
            return Ok(DeviceState::Pending);
        };
        let corrupt = || StoreError::Corrupt("device login");
        let principal = principal.parse().map_err(|_| corrupt())?;
        let uid = Uuid::try_parse(uid).map(ResourceUid).map_err(|_| corrupt())?;
        let approved = Timestamp::from_unix_micros(row.try_get::<Option<i64>, _>("answered")?.ok_or_else(corrupt)?);
        let (inner, audience) = (Arc::clone(&self.0), row.try_get("audience")?);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let ended = sqlx::query("DELETE FROM device_logins WHERE device = $1").bind(&device[..]);
            // Of two who ask at once, one gets it.
            let ended = ended.execute(&mut *transaction).await?.rows_affected() == 1;
            transaction.commit().await?;
            let approved = DeviceState::Approved { principal, uid, approved, audience };
            Ok(if ended { approved } else { DeviceState::Unknown })
        })
        .await
    }
}

/// The code is random and long, so that a plain hash is enough.
fn hash(device: &Secret) -> [u8; 32] {
    Sha256::digest(device.expose().as_bytes()).into()
}

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use postern_model::Random;

use crate::StoreError;
use crate::blob_files::sync_folder;
use crate::database::{Database, detached};
use crate::store::Inner;

const KEY_FILE: &str = "master.key";
const KEY_BYTES: usize = 32;
/// The layout of what is sealed: this byte, the nonce, the sealed bytes with their tag.
const SEAL_VERSION: u8 = 1;
/// A row that only the right key opens.
const CHECK_NAME: &str = "master-key-check";

/// Seals and opens with the master key, AES-256-GCM.
pub(crate) struct Sealer {
    key: LessSafeKey,
    random: Arc<dyn Random>,
}

impl Sealer {
    /// Reads the master key; makes one where there is no database yet. Blocks.
    pub(crate) fn load(folder: &Path, database_exists: bool, random: Arc<dyn Random>) -> Result<Self, StoreError> {
        let path = folder.join(KEY_FILE);
        let key = match fs::metadata(&path) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                return Err(StoreError::BadMasterKey("others than its owner may read or change it"));
            }
            Ok(_) => read_key(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && database_exists => {
                return Err(StoreError::MasterKeyMissing);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                random.fill(&mut key);
                write_key(folder, &path, &key)?;
                key
            }
            Err(error) => return Err(error.into()),
        };
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| StoreError::BadMasterKey("not an AES-256 key"))?;
        Ok(Self { key: LessSafeKey::new(key), random })
    }

    /// Whether this is the key that the database's secrets are sealed with.
    pub(crate) async fn check(&self, database: &Database) -> Result<(), StoreError> {
        let mut transaction = database.write().await?;
        let sealed: Option<Vec<u8>> = sqlx::query_scalar("SELECT sealed FROM vault WHERE name = $1")
            .bind(CHECK_NAME)
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(sealed) = sealed {
            return self.open(CHECK_NAME, sealed).map(|_| ()).map_err(|_| StoreError::WrongMasterKey);
        }
        let secrets: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM vault) + (SELECT COUNT(*) FROM credentials WHERE sealed IS NOT NULL)",
        )
        .fetch_one(&mut *transaction)
        .await?;
        if secrets > 0 {
            return Err(StoreError::Corrupt("the row that proves the master key is gone"));
        }
        sqlx::query("INSERT INTO vault (name, sealed) VALUES ($1, $2)")
            .bind(CHECK_NAME)
            .bind(self.seal(CHECK_NAME, b"postern")?)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Seals bytes for one purpose; they open for no other.
    pub(crate) fn seal(&self, purpose: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce);
        let mut body = bytes.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose.as_bytes()), &mut body)
            .map_err(|_| StoreError::Corrupt("secret too long to seal"))?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(SEAL_VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut body);
        Ok(sealed)
    }

    pub(crate) fn open(&self, purpose: &str, sealed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let corrupt = || StoreError::Corrupt("sealed secret");
        let (&SEAL_VERSION, rest) = sealed.split_first().ok_or_else(corrupt)? else { return Err(corrupt()) };
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(corrupt)?;
        let mut body = body.to_vec();
        let opened = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose.as_bytes()), &mut body)
            .map_err(|_| corrupt())?;
        Ok(opened.to_vec())
    }
}

fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], StoreError> {
    let text = fs::read_to_string(path)?;
    let mut key = [0; KEY_BYTES];
    let digits = text.trim_end().as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return Err(StoreError::BadMasterKey("not 64 hexadecimal digits"));
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok();
        *byte = pair
            .filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or(StoreError::BadMasterKey("not 64 hexadecimal digits"))?;
    }
    Ok(key)
}

/// Writes the key so that it is either there as a whole or not at all.
fn write_key(folder: &Path, path: &Path, key: &[u8; KEY_BYTES]) -> io::Result<()> {
    use fmt::Write as _;
    let mut text = String::with_capacity(2 * KEY_BYTES + 1);
    for byte in key {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    let unfinished = folder.join("master.key.new");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    // Left over from a start that was cut short before anything was sealed.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = options.open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // A link, unlike a rename, never replaces a key that is there.
    fs::hard_link(&unfinished, path)?;
    fs::remove_file(&unfinished)?;
    sync_folder(folder)
}

/// Bytes from the vault. They cannot be printed by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct Unsealed(Box<[u8]>);

impl Unsealed {
    /// The bytes, for the one place that uses them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Unsealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unsealed(…)")
    }
}

/// The secrets that the server keeps for itself, sealed by name: signing keys, the keys of its authorities.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

impl Vault {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Seals bytes under a name, in place of what was there.
    pub async fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(name, bytes, false).await.map(|_| ())
    }

    /// Seals bytes under a name that is not taken yet; gives whether it was free.
    pub async fn put_new(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        self.write(name, bytes, true).await
    }

    async fn write(&self, name: &str, bytes: &[u8], only_new: bool) -> Result<bool, StoreError> {
        let purpose = purpose(name);
        let (inner, sealed) = (Arc::clone(&self.0), self.0.sealer.seal(&purpose, bytes)?);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let written = sqlx::query(
                "INSERT INTO vault (name, sealed) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed WHERE NOT $3",
            )
            .bind(purpose)
            .bind(sealed)
            .bind(only_new)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(written.rows_affected() > 0)
        })
        .await
    }

    /// The bytes under a name.
    pub async fn get(&self, name: &str) -> Result<Option<Unsealed>, StoreError> {
        let purpose = purpose(name);
        let sealed: Option<Vec<u8>> = sqlx::query_scalar("SELECT sealed FROM vault WHERE name = $1")
            .bind(&purpose)
            .fetch_optional(self.0.database.read())
            .await?;
        let open = |sealed| self.0.sealer.open(&purpose, sealed).map(|bytes| Unsealed(bytes.into()));
        sealed.map(open).transpose()
    }

    /// Removes a name; gives whether it was there.
    pub async fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let (inner, purpose) = (Arc::clone(&self.0), purpose(name));
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let removed =
                sqlx::query("DELETE FROM vault WHERE name = $1").bind(purpose).execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(removed.rows_affected() > 0)
        })
        .await
    }

    /// The names in use, in byte order.
    pub async fn names(&self) -> Result<Vec<String>, StoreError> {
        let names: Vec<String> =
            sqlx::query_scalar("SELECT name FROM vault ORDER BY name").fetch_all(self.0.database.read()).await?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned).collect())
    }
}

/// Keeps names apart from the store's own row and from credentials.
const PREFIX: &str = "vault:";

fn purpose(name: &str) -> String {
    format!("{PREFIX}{name}")
}

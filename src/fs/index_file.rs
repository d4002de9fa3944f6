//! The file of the [index](super::index): keys to bytes, in a table of `redb`.
//!
//! redb is one file, with transactions that survive a crash, and a lock that keeps a second mount
//! out. It can panic over flipped bits (github.com/cberner/redb/issues/1303); so all checksums
//! are verified when the file is opened, which takes about a second for a million objects if the
//! page cache has them, and calls into redb are guarded against bits that flip later.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError, Table,
    TableDefinition, TableError,
};

/// What redb may keep of the file in memory, in bytes.
const CACHE: usize = 4 << 20;

/// Keys to what is known of them. Another form of that gets another name.
const OBJECTS: TableDefinition<&str, &[u8]> = TableDefinition::new("objects-1");

/// Why the index cannot be kept in its file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// The file cannot be opened, read or written.
    #[error("the index of known attributes cannot be kept in {}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it says makes no sense to this program.
    #[error(
        "the index of known attributes in {} is damaged, or of another version: {reason}",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The open file, locked for as long.
#[derive(Debug)]
pub(super) struct IndexFile {
    path: PathBuf,
    /// `None` only while it is dropped.
    database: Option<Database>,
}

impl IndexFile {
    /// Opens the file, or makes it with mode 0600; `None` if another mount has it.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, IndexError> {
        match guarded(|| open(path)) {
            Ok(database) => Ok(Some(Self {
                path: path.to_owned(),
                database: Some(database),
            })),
            Err(Trouble::Locked) => Ok(None),
            Err(trouble) => Err(trouble.of(path)),
        }
    }

    /// What is written of a key.
    pub(super) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let Some(database) = &self.database else {
            return Ok(None);
        };
        guarded(|| read(database, key)).map_err(|trouble| trouble.of(&self.path))
    }

    /// Writes keys, or drops those without a value, in one transaction; if there are more than
    /// `most` then, drops some that come after `hand`, which moves on.
    pub(super) fn write(
        &self,
        changes: impl Iterator<Item = (impl AsRef<str>, Option<Vec<u8>>)>,
        most: u64,
        hand: &mut String,
    ) -> Result<(), IndexError> {
        let Some(database) = &self.database else {
            return Ok(());
        };
        guarded(|| write(database, changes, most, hand)).map_err(|trouble| trouble.of(&self.path))
    }
}

impl Drop for IndexFile {
    /// Closes it, which writes, and so can stumble over damage like everything else.
    fn drop(&mut self) {
        let database = self.database.take();
        let closed = guarded(|| {
            drop(database);
            Ok(())
        });
        if let Err(trouble) = closed {
            tracing::debug!("{}", trouble.of(&self.path));
        }
    }
}

/// Keeps a file out of the way, in place of the one that was moved before.
pub(super) fn move_aside(path: &Path) -> Result<(), IndexError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    match std::fs::rename(path, aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Trouble::Io(error).of(path)),
        _ => Ok(()),
    }
}

/// What redb ran into.
#[derive(Debug)]
enum Trouble {
    Io(io::Error),
    Damage(String),
    /// Another mount has the file.
    Locked,
}

impl Trouble {
    fn of(self, path: &Path) -> IndexError {
        let path = path.to_owned();
        match self {
            Self::Io(error) => IndexError::Io { path, error },
            Self::Damage(reason) => IndexError::Damaged { path, reason },
            Self::Locked => IndexError::Io {
                path,
                error: io::ErrorKind::ResourceBusy.into(),
            },
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match error.into() {
            redb::Error::Io(error) if !matches!(error.kind(), InvalidData | UnexpectedEof) => {
                Self::Io(error)
            }
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked,
            error => Self::Damage(error.to_string()),
        }
    }
}

/// Makes an error of a panic.
fn guarded<T>(call: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Trouble::Damage("redb gave up on it".to_owned())))
}

fn open(path: &Path) -> Result<Database, Trouble> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Trouble::Io)?;
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(Trouble::Io)?;
    let database = Database::builder()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(FileBackend::new(file)?)?;
    // Tells a table of another form.
    match database.begin_read()?.open_table(OBJECTS) {
        Ok(_) | Err(TableError::TableDoesNotExist(_)) => Ok(database),
        Err(error) => Err(error.into()),
    }
}

fn read(database: &Database, key: &str) -> Result<Option<Vec<u8>>, Trouble> {
    let table = match database.begin_read()?.open_table(OBJECTS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get(key)?.map(|value| value.value().to_owned()))
}

fn write(
    database: &Database,
    changes: impl Iterator<Item = (impl AsRef<str>, Option<Vec<u8>>)>,
    most: u64,
    hand: &mut String,
) -> Result<(), Trouble> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(OBJECTS)?;
        for (key, value) in changes {
            match value {
                Some(value) => drop(table.insert(key.as_ref(), value.as_slice())?),
                None => drop(table.remove(key.as_ref())?),
            }
        }
        let over = table.len()?.saturating_sub(most);
        drop_some(&mut table, over, hand)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Drops so many keys: those that come after the ones dropped before, round and round.
fn drop_some(
    table: &mut Table<&str, &[u8]>,
    over: u64,
    hand: &mut String,
) -> Result<(), StorageError> {
    let over = usize::try_from(over).unwrap_or(usize::MAX);
    let mut doomed = Vec::new();
    for range in [hand.as_str().., ""..] {
        for item in table.range(range)?.take(over - doomed.len()) {
            doomed.push(item?.0.value().to_owned());
        }
    }
    for key in &doomed {
        table.remove(key.as_str())?;
    }
    if let Some(last) = doomed.pop() {
        *hand = last;
    }
    Ok(())
}

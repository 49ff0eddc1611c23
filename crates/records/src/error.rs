//! What can go wrong between a record and a file.

use std::io;
use std::path::{Path, PathBuf};

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The operating system refused: no such file, no space, no permission.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A batch could not be encoded or decoded.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    /// A Parquet file could not be written or is damaged.
    #[error("`{}`: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The library's reason.
        source: ParquetError,
    },
    /// The journal's header is not JSON.
    #[error("`{}`: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The library's reason.
        source: serde_json::Error,
    },
    /// The directory holds a journal already: a run never overwrites another.
    #[error("`{}` holds the journal of another run", .0.display())]
    JournalExists(PathBuf),
    /// The journal's thread ended before it was told to.
    #[error("the journal's thread has ended")]
    JournalLost,
    /// The file was written by a later version.
    #[error("`{}` has record schema {found}; this version reads up to {}", path.display(), crate::SCHEMA_VERSION)]
    Version {
        /// File or directory.
        path: PathBuf,
        /// Version found.
        found: String,
    },
    /// A column that the caller asked for is not there.
    #[error("no column `{name}` in `{}` (columns: {})", path.display(), found.join(", "))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// Column asked for.
        name: String,
        /// Columns found.
        found: Vec<String>,
    },
    /// A column is there but of a type that does not fit the request.
    #[error("column `{name}` is {found}, not {wanted}")]
    ColumnType {
        /// Column asked for.
        name: String,
        /// Its type.
        found: String,
        /// What was needed.
        wanted: &'static str,
    },
    /// Columns given together have different lengths, or values out of range.
    #[error("column `{name}`: {reason}")]
    BadColumn {
        /// The column.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl RecordsError {
    /// Puts a path to a system error.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Puts a path to a Parquet error. What the system refused (a full disk) stays a system error.
    pub(crate) fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> Self + '_ {
        move |source| {
            let path = path.to_owned();
            match source {
                ParquetError::External(error) => match error.downcast::<io::Error>() {
                    Ok(source) => Self::Io { path, source: *source },
                    Err(error) => Self::Parquet {
                        path,
                        source: ParquetError::External(error),
                    },
                },
                source => Self::Parquet { path, source },
            }
        }
    }
}

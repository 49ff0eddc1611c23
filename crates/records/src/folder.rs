//! The journal's directory: its lock, its header, its segments.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::RecordsError;
use crate::files::write_durably;

/// Locked by the process that writes the journal, for as long as it does; the system unlocks it when the process dies.
const LOCK: &str = "lock";
/// Facts about the run that the rows refer to, written by the engine before the first row.
const HEADER: &str = "header.json";

/// Takes the lock, or says whose journal this is.
pub(crate) fn lock(dir: &Path) -> Result<File, RecordsError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(RecordsError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RecordsError::JournalExists(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(RecordsError::io(&path)(error)),
    }
}

/// Whether some process is writing this journal. Where files cannot be locked: no.
pub fn is_live(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Segment files of a journal, in the order they were written.
pub fn segments(dir: &Path) -> Result<Vec<PathBuf>, RecordsError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(RecordsError::io(dir))? {
        let path = entry.map_err(RecordsError::io(dir))?.path();
        if path.extension().is_some_and(|e| e == "arrows") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Writes `header.json` into the journal's directory, durably, creating the directory if needed.
pub fn write_header(dir: &Path, header: &serde_json::Value) -> Result<(), RecordsError> {
    fs::create_dir_all(dir).map_err(RecordsError::io(dir))?;
    write_durably(&dir.join(HEADER), header.to_string().as_bytes())
}

/// Reads `header.json` of a journal.
pub fn read_header(dir: &Path) -> Result<serde_json::Value, RecordsError> {
    let path = dir.join(HEADER);
    let bytes = fs::read(&path).map_err(RecordsError::io(&path))?;
    serde_json::from_slice(&bytes).map_err(|source| RecordsError::Json { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Dir;

    #[test]
    fn the_header_comes_back() {
        let dir = Dir::new("journal");
        let header = serde_json::json!({"start_wall_ns": 1_795_491_051_200_108_995_i64});
        write_header(&dir.path().join("new"), &header).expect("written");
        assert_eq!(read_header(&dir.path().join("new")).expect("read"), header);
    }
}

//! The pass over the chunks of whole records: from Arrow's batches to the sinks, without a copy.

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

use super::{ChunkBatch, Sink};
use crate::error::RecordsError;
use crate::parts::RunRecords;

const LAGS: &str = "chunk_lag_ns";
const COLUMNS: [&str; 4] = ["chunk_ns", "chunk_text_bytes", "chunk_kind", LAGS];

/// Which rows a pass is of, and what is known of them.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// By row number: the rows that the others are of, numbered in their order; None: all.
    pub chosen: Option<&'a [bool]>,
    /// By number of the chosen row: whether sinks get it.
    pub keep: &'a [bool],
    /// By number of the chosen row: its tokens, NaN where unknown.
    pub tokens: Option<&'a [f64]>,
}

/// How far a pass is.
#[derive(Debug, Default)]
struct Place {
    row: usize,
    number: usize,
}

impl Pass<'_> {
    /// Gives the content chunks of all rows to the sinks, in the order of the rows; what no sink asks for is not read. `goes_on` is
    /// asked before each batch: it may end the pass.
    pub fn over(
        &self,
        records: &RunRecords,
        sinks: &mut [&mut dyn Sink],
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<(), RecordsError> {
        let num = if sinks.iter().any(|s| s.needs_lags()) { 4 } else { 3 };
        let mut place = Place::default();
        for batch in records.pieces_ahead(&COLUMNS[..num])? {
            if !goes_on() {
                break;
            }
            self.take(&batch?, &mut place, sinks)?;
        }
        Ok(())
    }

    /// As [`over`](Self::over), of the rows of a batch that has the columns of chunks.
    pub fn over_batch(&self, batch: &RecordBatch, sinks: &mut [&mut dyn Sink]) -> Result<(), RecordsError> {
        self.take(batch, &mut Place::default(), sinks)
    }

    fn take(&self, batch: &RecordBatch, place: &mut Place, sinks: &mut [&mut dyn Sink]) -> Result<(), RecordsError> {
        let (ns, ends) = values::<Int64Type>(batch, COLUMNS[0])?;
        let first = ends[0];
        let offsets: Vec<i64> = ends.iter().map(|&end| i64::from(end - first)).collect();
        let lag_ns = if batch.column_by_name(LAGS).is_some() {
            values::<Int32Type>(batch, LAGS)?.0
        } else {
            &[]
        };
        let chunks = ChunkBatch {
            row0: place.row,
            offsets: &offsets,
            ns,
            lag_ns,
            text_bytes: values::<UInt32Type>(batch, COLUMNS[1])?.0,
            kind: values::<UInt8Type>(batch, COLUMNS[2])?.0,
        };
        let rows = place.row..place.row + batch.num_rows();
        let Some(chosen) = self.chosen else {
            place.row = rows.end;
            return chunks.scan(self.keep, self.tokens, sinks);
        };
        let most = self.keep.len().min(self.tokens.map_or(usize::MAX, <[f64]>::len));
        let Some(here) = chosen.get(rows.clone()) else {
            return Err(chunks.misfit());
        };
        let before = place.number;
        let after = before + here.iter().filter(|&&is_chosen| is_chosen).count();
        chunks.check(after, most)?;
        chunks.walk(self.keep, self.tokens, sinks, |i| {
            here[i].then(|| {
                place.number += 1;
                place.number - 1
            })
        });
        place.row = rows.end;
        Ok(())
    }
}

/// The values of a column of lists that its rows point to, and where each row's lie.
fn values<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<(&'a [T::Native], &'a [i32]), RecordsError> {
    let bad = |reason: String| RecordsError::BadColumn {
        name: name.to_owned(),
        reason,
    };
    let column = batch.column_by_name(name).ok_or_else(|| bad("is missing".to_owned()))?;
    let lists = column
        .as_list_opt::<i32>()
        .filter(|lists| matches!(lists.data_type(), DataType::List(item) if *item.data_type() == T::DATA_TYPE))
        .ok_or_else(|| bad(format!("is {}", column.data_type())))?;
    let ends = lists.value_offsets();
    let (first, last) = (ends[0] as usize, ends[ends.len() - 1] as usize);
    Ok((&lists.values().as_primitive::<T>().values()[first..last], ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::{LagPool, RowStamps};
    use crate::row::{Chunk, Row};
    use crate::scratch::Dir;
    use crate::{Journal, JournalOptions, RecordBuilder};

    const ROWS: i64 = 7;

    /// Row i has i chunks at 100 i, 100 i + 1, …, each read i ns late.
    fn records(dir: &Dir) -> RunRecords {
        let path = dir.path().join("journal");
        let journal = Journal::start(&path, &JournalOptions::default()).expect("started");
        let mut builder = RecordBuilder::new();
        for row in 0..ROWS {
            let chunks: Vec<Chunk> = (0..row)
                .map(|n| Chunk {
                    at_ns: row * 100 + n,
                    lag_ns: row as i32,
                    bytes: 1,
                    text_bytes: 1,
                    kind: 1,
                })
                .collect();
            builder.push(&Row {
                request: row as u64,
                chunks: &chunks,
                ..Row::default()
            });
            if row == 3 {
                journal.sender().send(builder.finish());
            }
        }
        journal.sender().send(builder.finish());
        journal.finish().expect("the thread lives");
        RunRecords::open(&path).expect("opened")
    }

    fn stamps(pass: &Pass<'_>, records: &RunRecords) -> (Vec<(i64, Vec<i64>)>, usize) {
        let (mut rows, mut lags) = (RowStamps::new((0..ROWS).collect()), LagPool::default());
        pass.over(records, &mut [&mut rows, &mut lags], || true).expect("read");
        let mut alone = RowStamps::new((0..ROWS).collect());
        pass.over(records, &mut [&mut alone], || true)
            .expect("read without lags");
        assert_eq!(alone.stamps, rows.stamps);
        (rows.stamps, lags.count)
    }

    #[test]
    fn chosen_rows_are_numbered_in_their_order() {
        let dir = Dir::new("pass");
        let records = records(&dir);
        let all = Pass {
            chosen: None,
            keep: &[true, true, false, true, true, true, true],
            tokens: None,
        };
        let (rows, lags) = stamps(&all, &records);
        assert_eq!(rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
        assert_eq!((rows[1].1.as_slice(), lags), ([300, 301, 302].as_slice(), 19));
        let some = Pass {
            chosen: Some(&[true, false, true, true, false, true, false]),
            keep: &[true, true, false, true],
            tokens: None,
        };
        let (rows, lags) = stamps(&some, &records);
        assert_eq!(rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(
            (rows[0].1.as_slice(), rows[1].1.len(), lags),
            ([200, 201].as_slice(), 5, 7)
        );
    }

    #[test]
    fn a_choice_of_other_rows_is_refused() {
        let dir = Dir::new("pass");
        let records = records(&dir);
        for (chosen, keep) in [
            (None, [true; 6].as_slice()),
            (Some([true; 7].as_slice()), &[true; 6]),
            (Some([true; 6].as_slice()), &[true; 6]),
        ] {
            let pass = Pass {
                chosen,
                keep,
                tokens: None,
            };
            let error = pass.over(&records, &mut [], || true).expect_err("too few rows");
            assert!(error.to_string().contains("chunk_ns"), "{error}");
        }
    }
}

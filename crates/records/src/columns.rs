//! Columns under construction: values go in one by one, an Arrow array comes out, and a column of the same room is left.

use std::sync::Arc;

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::types::{ArrowPrimitiveType, Int64Type};
use arrow_array::{ArrayRef, BooleanArray, FixedSizeBinaryArray, GenericStringArray, OffsetSizeTrait, PrimitiveArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use crate::row::ABSENT;

/// A column that cannot be absent.
pub(crate) struct Plain<T: ArrowPrimitiveType>(Vec<T::Native>);

impl<T: ArrowPrimitiveType> Plain<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(crate) fn push(&mut self, value: T::Native) {
        self.0.push(value);
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(take(&mut self.0).into(), None))
    }
}

/// An instant or a duration in ns; [`ABSENT`] is null.
pub(crate) struct Times(Vec<i64>);

impl Times {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(crate) fn push(&mut self, value: i64) {
        self.0.push(value);
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        let values = take(&mut self.0);
        let present = BooleanBuffer::collect_bool(values.len(), |i| values[i] != ABSENT);
        Arc::new(PrimitiveArray::<Int64Type>::new(values.into(), nulls(present)))
    }
}

/// A number that may be unknown.
///
/// Most rows have nothing to say in most of these columns: such rows are only counted, and written when a value comes after them.
/// So for [`Flags`] and [`Strings`].
pub(crate) struct Maybe<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    present: BooleanBufferBuilder,
    absent: usize,
}

impl<T: ArrowPrimitiveType> Maybe<T> {
    pub(crate) fn new() -> Self {
        Self {
            values: Vec::new(),
            present: BooleanBufferBuilder::new(0),
            absent: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: Option<T::Native>) {
        match value {
            None => self.absent += 1,
            Some(value) => {
                self.settle();
                self.values.push(value);
                self.present.append(true);
            }
        }
    }

    fn settle(&mut self) {
        if self.absent > 0 {
            let rows = std::mem::take(&mut self.absent);
            self.values.resize(self.values.len() + rows, T::default_value());
            self.present.append_n(rows, false);
        }
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        self.settle();
        let present = nulls(self.present.finish());
        Arc::new(PrimitiveArray::<T>::new(take(&mut self.values).into(), present))
    }
}

/// Yes or no.
pub(crate) struct Flags {
    values: BooleanBufferBuilder,
    unset: usize,
}

impl Flags {
    pub(crate) fn new() -> Self {
        Self {
            values: BooleanBufferBuilder::new(0),
            unset: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: bool) {
        if value {
            self.settle();
            self.values.append(true);
        } else {
            self.unset += 1;
        }
    }

    fn settle(&mut self) {
        self.values.append_n(std::mem::take(&mut self.unset), false);
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        self.settle();
        Arc::new(BooleanArray::new(self.values.finish(), None))
    }
}

/// 16 bytes each.
pub(crate) struct Ids(Vec<u8>);

impl Ids {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(crate) fn push(&mut self, value: [u8; 16]) {
        self.0.extend_from_slice(&value);
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(take(&mut self.0)), None))
    }
}

/// UTF-8 with offsets of type `O`. What would overflow the offsets of a batch becomes null: a batch is written long before.
pub(crate) struct Strings<O: OffsetSizeTrait> {
    bytes: Vec<u8>,
    offsets: Vec<O>,
    present: BooleanBufferBuilder,
    absent: usize,
}

impl<O: OffsetSizeTrait> Strings<O> {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            offsets: vec![O::default()],
            present: BooleanBufferBuilder::new(0),
            absent: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: Option<&str>) {
        match value {
            None => self.absent += 1,
            Some(text) => self.append(text),
        }
    }

    fn append(&mut self, text: &str) {
        let Some(end) = O::from_usize(self.bytes.len() + text.len()) else {
            self.absent += 1;
            return;
        };
        self.settle();
        self.bytes.extend_from_slice(text.as_bytes());
        self.offsets.push(end);
        self.present.append(true);
    }

    fn settle(&mut self) {
        if self.absent > 0 {
            let rows = std::mem::take(&mut self.absent);
            let end = self.offsets.last().copied().unwrap_or_default();
            self.offsets.resize(self.offsets.len() + rows, end);
            self.present.append_n(rows, false);
        }
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        self.settle();
        let offsets = OffsetBuffer::new(take_offsets(&mut self.offsets));
        let present = nulls(self.present.finish());
        let bytes = Buffer::from_vec(take(&mut self.bytes));
        Arc::new(GenericStringArray::<O>::try_new(offsets, bytes, present).expect("only whole strs were appended"))
    }
}

/// A vector's content, leaving one of the same capacity behind.
pub(crate) fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

pub(crate) fn take_offsets<O: OffsetSizeTrait>(offsets: &mut Vec<O>) -> ScalarBuffer<O> {
    let full = take(offsets);
    offsets.push(O::default());
    full.into()
}

fn nulls(present: BooleanBuffer) -> Option<NullBuffer> {
    Some(NullBuffer::new(present)).filter(|n| n.null_count() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::UInt32Type;

    /// Where values and gaps meet: at the start, at the end, alone, none at all; in the batch and in the one after it.
    const ROWS: [&[Option<u32>]; 6] = [
        &[],
        &[None, None, Some(3)],
        &[Some(1), None, None],
        &[None],
        &[Some(5), None, Some(7), Some(8), None],
        &[Some(9)],
    ];

    #[test]
    fn rows_without_a_value_are_null_wherever_they_stand() {
        let (mut numbers, mut texts, mut flags) = (Maybe::<UInt32Type>::new(), Strings::<i32>::new(), Flags::new());
        for rows in ROWS {
            for row in rows {
                numbers.push(*row);
                texts.push(row.map(|n| n.to_string()).as_deref());
                flags.push(row.is_some());
            }
            let found: Vec<Option<u32>> = numbers.finish().as_primitive::<UInt32Type>().iter().collect();
            assert_eq!(found, rows);
            let read: Vec<Option<u32>> = texts
                .finish()
                .as_string::<i32>()
                .iter()
                .map(|t| t.and_then(|t| t.parse().ok()))
                .collect();
            assert_eq!(read, rows);
            let found: Vec<bool> = flags.finish().as_boolean().iter().flatten().collect();
            assert_eq!(found, rows.iter().map(Option::is_some).collect::<Vec<_>>());
        }
        assert_eq!(numbers.finish().len(), 0);
    }
}

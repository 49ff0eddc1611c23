//! Columns as plain vectors, and back: what numpy and Python can hold.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, LargeStringArray, PrimitiveArray, StringArray};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_schema::DataType;

use crate::error::RecordsError;

fn wrong(name: &str, array: &dyn Array, wanted: &'static str) -> RecordsError {
    RecordsError::ColumnType {
        name: name.to_owned(),
        found: array.data_type().to_string(),
        wanted,
    }
}

/// Appends a column of numbers or flags as float64, NaN where null. (ns since run start are exact below 2⁵³ ns = 104 days.)
pub fn extend_floats(name: &str, array: &dyn Array, out: &mut Vec<f64>) -> Result<(), RecordsError> {
    fn extend<T: ArrowPrimitiveType>(array: &dyn Array, out: &mut Vec<f64>, as_f64: impl Fn(T::Native) -> f64) {
        let array = array.as_primitive::<T>();
        if array.null_count() == 0 {
            out.extend(array.values().iter().map(|&v| as_f64(v)));
        } else {
            out.extend(array.iter().map(|v| v.map_or(f64::NAN, &as_f64)));
        }
    }
    match array.data_type() {
        DataType::Boolean => {
            let flags = array.as_boolean();
            out.extend(flags.iter().map(|v| v.map_or(f64::NAN, |b| f64::from(u8::from(b)))));
        }
        DataType::Int8 => extend::<Int8Type>(array, out, f64::from),
        DataType::Int16 => extend::<Int16Type>(array, out, f64::from),
        DataType::Int32 => extend::<Int32Type>(array, out, f64::from),
        DataType::Int64 => extend::<Int64Type>(array, out, |v| v as f64),
        DataType::UInt8 => extend::<UInt8Type>(array, out, f64::from),
        DataType::UInt16 => extend::<UInt16Type>(array, out, f64::from),
        DataType::UInt32 => extend::<UInt32Type>(array, out, f64::from),
        DataType::UInt64 => extend::<UInt64Type>(array, out, |v| v as f64),
        DataType::Float64 => extend::<Float64Type>(array, out, |v| v),
        _ => return Err(wrong(name, array, "numbers")),
    }
    Ok(())
}

/// Calls `each` with every value of a column of strings or ids (ids as UUIDs, lower case, with hyphens), in order.
pub fn each_string(name: &str, array: &dyn Array, mut each: impl FnMut(Option<&str>)) -> Result<(), RecordsError> {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().for_each(each),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().for_each(each),
        DataType::FixedSizeBinary(16) => {
            let mut text = String::with_capacity(36);
            for id in array.as_fixed_size_binary() {
                text.clear();
                each(id.map(|id| {
                    push_uuid(id, &mut text);
                    text.as_str()
                }));
            }
        }
        _ => return Err(wrong(name, array, "strings")),
    }
    Ok(())
}

/// The text form of an id's 16 bytes.
pub fn uuid_text(id: &[u8]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in id.iter().take(16).enumerate() {
        at += usize::from(matches!(i, 4 | 6 | 8 | 10));
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

/// Appends the text form of an id, 36 characters.
pub fn push_uuid(id: &[u8], out: &mut String) {
    out.extend(uuid_text(id).map(char::from));
}

/// The 16 bytes of a UUID's text; hyphens are ignored.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hex: Vec<u8> = text
        .bytes()
        .filter(|b| *b != b'-')
        .map(|b| (b as char).to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let mut id = [0_u8; 16];
    if hex.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(id)
}

/// Numbers as they come from numpy.
#[derive(Debug, Clone)]
pub enum Numbers {
    /// NaN is absent.
    Floats(Vec<f64>),
    /// Nothing is absent.
    Ints(Vec<i64>),
}

impl Numbers {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(v) => v.len(),
            Self::Ints(v) => v.len(),
        }
    }

    /// No values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each value as an integer; None where NaN. A value that is no integer of `T`'s range is an error.
    fn integers<T: TryFrom<i64>>(&self, name: &str) -> Result<Vec<Option<T>>, RecordsError> {
        let bad = |v: &dyn std::fmt::Display| RecordsError::BadColumn {
            name: name.to_owned(),
            reason: format!("{v} does not fit {}", std::any::type_name::<T>()),
        };
        let int = |v: i64| T::try_from(v).map_err(|_| bad(&v));
        match self {
            Self::Ints(values) => values.iter().map(|&v| int(v).map(Some)).collect(),
            Self::Floats(values) => values
                .iter()
                .map(|&value| {
                    if value.is_nan() {
                        return Ok(None);
                    }
                    let whole = value.round();
                    if (-9.2e18..=9.2e18).contains(&whole) {
                        int(whole as i64).map(Some)
                    } else {
                        Err(bad(&value))
                    }
                })
                .collect(),
        }
    }

    fn primitive<T: ArrowPrimitiveType>(&self, name: &str) -> Result<ArrayRef, RecordsError>
    where
        T::Native: TryFrom<i64>,
    {
        Ok(Arc::new(
            self.integers::<T::Native>(name)?
                .into_iter()
                .collect::<PrimitiveArray<T>>(),
        ))
    }

    /// A column of uint32, null where NaN.
    pub fn into_uint32(self, name: &str) -> Result<ArrayRef, RecordsError> {
        self.primitive::<UInt32Type>(name)
    }

    /// A column of the record schema, of the type it has there.
    pub fn into_column(self, name: &str) -> Result<ArrayRef, RecordsError> {
        let schema = crate::schema::parquet_schema(true);
        let field = schema.field_with_name(name)?;
        self.to_array(name, field.data_type())
    }

    /// A column of `kind`; fractions of a ns are rounded.
    pub(crate) fn to_array(&self, name: &str, kind: &DataType) -> Result<ArrayRef, RecordsError> {
        match kind {
            DataType::UInt8 => self.primitive::<UInt8Type>(name),
            DataType::UInt16 => self.primitive::<UInt16Type>(name),
            DataType::UInt32 => self.primitive::<UInt32Type>(name),
            DataType::UInt64 => self.primitive::<UInt64Type>(name),
            DataType::Int32 => self.primitive::<Int32Type>(name),
            DataType::Int64 => self.primitive::<Int64Type>(name),
            DataType::Boolean => {
                let flags = self.integers::<i64>(name)?;
                Ok(Arc::new(
                    flags.into_iter().map(|v| v.map(|v| v != 0)).collect::<BooleanArray>(),
                ))
            }
            other => Err(RecordsError::ColumnType {
                name: name.to_owned(),
                found: "numbers".to_owned(),
                wanted: kind_name(other),
            }),
        }
    }
}

fn kind_name(kind: &DataType) -> &'static str {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 => "strings",
        DataType::FixedSizeBinary(_) => "UUIDs",
        DataType::List(_) => "a list",
        _ => "numbers",
    }
}

/// A column of `kind` from strings; ids must be UUIDs.
pub(crate) fn strings_to_array(
    name: &str,
    values: &[Option<String>],
    kind: &DataType,
) -> Result<ArrayRef, RecordsError> {
    match kind {
        DataType::Utf8 => Ok(Arc::new(values.iter().map(Option::as_deref).collect::<StringArray>())),
        DataType::LargeUtf8 => Ok(Arc::new(
            values.iter().map(Option::as_deref).collect::<LargeStringArray>(),
        )),
        DataType::FixedSizeBinary(16) => {
            let mut bytes = Vec::with_capacity(values.len() * 16);
            for value in values {
                let text = value.as_deref().unwrap_or_default();
                let id = parse_uuid(text).ok_or_else(|| RecordsError::BadColumn {
                    name: name.to_owned(),
                    reason: format!("`{text}` is not a UUID"),
                })?;
                bytes.extend_from_slice(&id);
            }
            Ok(Arc::new(FixedSizeBinaryArray::new(
                16,
                Buffer::from_vec(bytes),
                None::<NullBuffer>,
            )))
        }
        other => Err(RecordsError::ColumnType {
            name: name.to_owned(),
            found: "strings".to_owned(),
            wanted: kind_name(other),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let text = "a9c5aee6-21a2-4aeb-a671-7303c992d0df";
        let mut again = String::new();
        push_uuid(&parse_uuid(text).expect("a UUID"), &mut again);
        assert_eq!(again, text);
        assert_eq!(parse_uuid("a9c5"), None);
        assert_eq!(parse_uuid("g9c5aee6-21a2-4aeb-a671-7303c992d0df"), None);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let error = Numbers::Ints(vec![70_000])
            .to_array("status", &DataType::UInt16)
            .expect_err("too large");
        assert_eq!(error.to_string(), "column `status`: 70000 does not fit u16");
        let nulls = Numbers::Floats(vec![f64::NAN, 1.0])
            .to_array("end", &DataType::Int64)
            .expect("fits");
        assert!(nulls.is_null(0) && !nulls.is_null(1));
    }
}

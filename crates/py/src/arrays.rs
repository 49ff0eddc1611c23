//! numpy arrays in and out.

use std::borrow::Cow;

use aiperf_records::Numbers;
use numpy::{Element, PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::errors::CoreError;

/// The values of a borrowed array, copied only if they are not contiguous.
pub(crate) fn values<'a, T: Element + Copy>(array: &'a PyReadonlyArray1<'_, T>) -> Cow<'a, [T]> {
    match array.as_slice() {
        Ok(slice) => Cow::Borrowed(slice),
        Err(_) => Cow::Owned(array.as_array().iter().copied().collect()),
    }
}

/// An array of numbers or flags of any width: integers stay integers, float64 may hold NaN for absent.
pub(crate) fn numbers(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Numbers> {
    fn ints<T: Element + Copy>(object: &Bound<'_, PyAny>, int: impl Fn(T) -> i64) -> Option<Numbers> {
        let array = object.cast::<PyArray1<T>>().ok()?.readonly();
        Some(Numbers::Ints(values(&array).iter().map(|&v| int(v)).collect()))
    }
    if let Ok(array) = object.cast::<PyArray1<f64>>() {
        return Ok(Numbers::Floats(values(&array.readonly()).into_owned()));
    }
    ints::<i64>(object, |v| v)
        .or_else(|| ints::<u32>(object, i64::from))
        .or_else(|| ints::<u8>(object, i64::from))
        .or_else(|| ints::<i32>(object, i64::from))
        .or_else(|| ints::<u16>(object, i64::from))
        .or_else(|| ints::<bool>(object, i64::from))
        .or_else(|| ints::<u64>(object, |v| v as i64))
        .ok_or_else(|| {
            let text = format!("column `{name}`: expected a 1-dimensional numpy array of float64, integers or bool");
            CoreError::Value(text).into()
        })
}

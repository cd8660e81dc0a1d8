//! The distinct canonical texts of a column: text is made once per value instead of once per row.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use sheaf_learn::shard::NULL;
use xxhash_rust::xxh3::xxh3_64;

use crate::features::FitError;
use crate::features::kinds::Type;
use crate::features::render::each_text;

/// The code of every row, and the values of the codes.
type Coded = (Vec<u32>, Vec<Box<[u8]>>);

/// The text of every row as an index into the texts; [`NULL`] is a missing value. Values that differ and have one
/// text (0 and −0) stand as two.
pub(crate) fn distinct_texts(array: &ArrayRef, ty: Type) -> Result<Coded, FitError> {
    let (mut codes, firsts) = match ty {
        Type::Text => {
            let text = array.as_string::<i32>();
            number(array, |row| text.value(row).as_bytes())
        }
        Type::Bool => {
            let values = array.as_boolean();
            number(array, |row| if values.value(row) { &[1] } else { &[0] })
        }
        _ => {
            let data = array.to_data();
            let width = array.data_type().primitive_width().unwrap_or(1);
            let (start, bytes) = (data.offset() * width, data.buffers()[0].as_slice());
            number(array, |row| &bytes[start + row * width..][..width])
        }
    };
    let made = |source| FitError::Arrow { what: "pick distinct values".into(), source };
    let picked = take(array, &UInt32Array::from(firsts), None).map_err(made)?;
    let mut values: Vec<Box<[u8]>> = Vec::with_capacity(picked.len());
    // A NaN is a value of the array and a missing text.
    let mut present = Vec::with_capacity(picked.len());
    each_text(&picked, ty, |_, text| {
        present.push(text.is_some());
        values.push(text.map_or_else(Box::default, |t| t.as_bytes().into()));
    });
    if present.contains(&false) {
        let missing = |code: &u32| present.get(*code as usize) == Some(&false);
        codes.iter_mut().filter(|code| missing(code)).for_each(|code| *code = NULL);
    }
    Ok((codes, values))
}

/// Numbers distinct values in the order in which they come: the code of every row and the first row of every code.
fn number<'a>(array: &ArrayRef, value: impl Fn(usize) -> &'a [u8]) -> (Vec<u32>, Vec<u32>) {
    let mut known = Known { slots: vec![NULL; 64], firsts: Vec::new() };
    let mut codes = Vec::with_capacity(array.len());
    let mut last = None;
    for row in 0..array.len() {
        if array.is_null(row) {
            codes.push(NULL);
            continue;
        }
        let code = match last {
            Some((bytes, code)) if bytes == value(row) => code,
            _ => known.code(row as u32, &value),
        };
        last = Some((value(row), code));
        codes.push(code);
    }
    (codes, known.firsts)
}

/// An open table of codes; values are found by the first row that has them.
struct Known {
    slots: Vec<u32>,
    firsts: Vec<u32>,
}

impl Known {
    fn code<'a>(&mut self, row: u32, value: impl Fn(usize) -> &'a [u8]) -> u32 {
        if self.firsts.len() * 2 > self.slots.len() {
            self.grow(&value);
        }
        let bytes = value(row as usize);
        let at = self.slot(bytes, |code| value(self.firsts[code as usize] as usize) == bytes);
        if self.slots[at] == NULL {
            self.slots[at] = self.firsts.len() as u32;
            self.firsts.push(row);
        }
        self.slots[at]
    }

    /// The slot that holds the value, or the empty one where it belongs.
    fn slot(&self, bytes: &[u8], same: impl Fn(u32) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = xxh3_64(bytes) as usize & mask;
        while self.slots[at] != NULL && !same(self.slots[at]) {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow<'a>(&mut self, value: impl Fn(usize) -> &'a [u8]) {
        self.slots = vec![NULL; self.slots.len() * 4];
        for (code, first) in self.firsts.iter().enumerate() {
            let at = self.slot(value(*first as usize), |_| false);
            self.slots[at] = code as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{BooleanArray, Float32Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn check(array: ArrayRef, ty: Type) {
        let (codes, values) = distinct_texts(&array, ty).unwrap();
        let mut rows = 0;
        each_text(&array, ty, |row, text| {
            let found = values.get(codes[row] as usize).map(|v| String::from_utf8_lossy(v).into_owned());
            assert_eq!(found.as_deref(), text.as_deref(), "{ty:?} row {row}");
            rows += 1;
        });
        assert_eq!((codes.len(), rows), (array.len(), array.len()));
    }

    #[test]
    fn every_row_has_its_text() {
        let texts = |n: usize| (0..n).map(|i| (i % 7 != 3).then(|| format!("v{}", i * i % 1009))).collect::<StringArray>();
        check(Arc::new(texts(3000)), Type::Text);
        check(Arc::new(texts(3000).slice(17, 900)), Type::Text);
        check(Arc::new((0..500i64).map(|i| (i % 5 != 0).then_some(i % 40 - 20)).collect::<Int64Array>()), Type::Int(64));
        check(Arc::new(Int64Array::from_iter_values(0..700).slice(40, 300)), Type::Int(64));
        let floats = [1.0, -0.0, 0.0, f32::NAN, 0.1, -f32::NAN, 1.0];
        check(Arc::new(floats.iter().map(|v| Some(*v)).chain([None]).collect::<Float32Array>()), Type::Float32);
        check(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)])), Type::Bool);
        check(Arc::new(StringArray::new_null(0)), Type::Text);
    }
}

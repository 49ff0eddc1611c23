//! Prometheus' text format once its lines are known: what stands in front of a value says which column it belongs to.
//!
//! A server shows the same thousand lines at every scrape, mostly in the same order: each is compared with the one that had its place the
//! last time, and looked up only where that fails.

use std::collections::HashMap;

use memchr::{memchr_iter, memrchr};

/// Lines of one page by their heads (all up to the value, with the space in front of it).
#[derive(Debug, Default)]
pub struct KnownLines {
    /// `None`: the line is no measurement.
    columns: HashMap<Box<[u8]>, Option<usize>>,
    /// The samples of the last text in their order: where each head ends in `heads`, and its column.
    order: Vec<(usize, Option<usize>)>,
    heads: Vec<u8>,
}

impl KnownLines {
    /// A line with this head (without the space) belongs to that column.
    pub fn learn(&mut self, head: &str, column: Option<usize>) {
        let mut key = head.as_bytes().to_vec();
        key.push(b' ');
        self.columns.insert(key.into_boxed_slice(), column);
    }

    /// The values of a text by column, NaN for those it does not have; `None` if a line is new or a value no number.
    pub fn read(&mut self, text: &str, width: usize) -> Option<Vec<f64>> {
        let mut row = vec![f64::NAN; width];
        let (mut begin, mut seen, mut moved) = (0, 0, false);
        for line in samples(text.as_bytes()) {
            let place = self.order.get(seen);
            let kept = place.filter(|&&(end, _)| line.starts_with(&self.heads[begin..end]));
            let (head, column) = if let Some(&(end, column)) = kept {
                (end - begin, column)
            } else {
                moved = true;
                let head = memrchr(b' ', line)? + 1;
                (head, *self.columns.get(&line[..head])?)
            };
            if let Some(&(end, _)) = place {
                begin = end;
            }
            seen += 1;
            if let Some(column) = column {
                *row.get_mut(column)? = number(&line[head..])?;
            }
        }
        if moved || seen != self.order.len() {
            self.remember(text)?;
        }
        Some(row)
    }

    fn remember(&mut self, text: &str) -> Option<()> {
        self.order.clear();
        self.heads.clear();
        for line in samples(text.as_bytes()) {
            let head = &line[..=memrchr(b' ', line)?];
            self.heads.extend_from_slice(head);
            self.order.push((self.heads.len(), *self.columns.get(head)?));
        }
        Some(())
    }
}

/// Lines that are neither empty nor comments.
fn samples(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    memchr_iter(b'\n', text)
        .chain(std::iter::once(text.len()))
        .filter_map(move |end| {
            let line = &text[begin..end];
            begin = end + 1;
            (!line.is_empty() && line[0] != b'#').then_some(line)
        })
}

fn number(value: &[u8]) -> Option<f64> {
    std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> KnownLines {
        let mut lines = KnownLines::default();
        lines.learn("a{x=\"1 2\"}", Some(1));
        lines.learn("b", Some(0));
        lines.learn("b_created", None);
        lines
    }

    fn read(lines: &mut KnownLines, text: &str) -> Option<Vec<String>> {
        let row = lines.read(text, 2)?;
        Some(row.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_in_any_order_are_values_by_column() {
        let mut lines = known();
        for _ in 0..2 {
            assert_eq!(
                read(&mut lines, "# TYPE a gauge\na{x=\"1 2\"} 5\nb 1e3\nb_created x\n").expect("known"),
                ["1000", "5"]
            );
        }
        assert_eq!(
            read(&mut lines, "b +Inf\na{x=\"1 2\"} NaN").expect("known"),
            ["inf", "NaN"]
        );
        assert_eq!(read(&mut lines, "b -2.5\r\n").expect("known"), ["-2.5", "NaN"]);
        assert_eq!(read(&mut lines, "\n# nothing\n").expect("known"), ["NaN", "NaN"]);
        assert_eq!(read(&mut lines, "a{x=\"1 2\"} 6\nb 2\n").expect("known"), ["2", "6"]);
    }

    #[test]
    fn what_is_new_or_no_number_is_not_guessed() {
        let mut lines = known();
        assert!(read(&mut lines, "b 1\n").is_some());
        for text in [
            "c 1\n",
            "b 1 1700000000\n",
            "b\n",
            "b x\n",
            "b \n",
            "b_total 1\n",
            "b 1_0\n",
        ] {
            assert_eq!(read(&mut lines, text), None, "{text}");
        }
        // What was in order before is still known.
        assert_eq!(read(&mut lines, "b 7\n").expect("known"), ["7", "NaN"]);
        lines.learn("c", Some(5));
        assert_eq!(read(&mut lines, "c 7\n"), None, "a column behind the width");
    }
}

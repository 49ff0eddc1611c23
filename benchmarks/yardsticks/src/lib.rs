//! Shared by the yardsticks: `--name value` arguments and a line of JSON as the answer.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// `--name value` pairs of the command line.
#[derive(Debug)]
pub struct Args(HashMap<String, String>);

impl Args {
    /// Reads the command line; an odd argument is an error that names it.
    pub fn from_env() -> Result<Self, String> {
        let mut pairs = HashMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| format!("expected `--name value`, found `{word}`"))?;
            let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
            pairs.insert(name.to_owned(), value);
        }
        Ok(Self(pairs))
    }

    /// The value of `--name`, or `default` where it is not given.
    pub fn get<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("cannot read `--{name} {text}`")),
        }
    }

    /// The value of `--name`, which must be given.
    pub fn need(&self, name: &str) -> Result<&str, String> {
        self.0
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| format!("`--{name}` is needed"))
    }
}

/// Writes `{"name": number, ...}` to stdout.
pub fn answer(fields: &[(&str, f64)]) -> Result<(), String> {
    let mut line = String::from("{");
    for (i, (name, value)) in fields.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(line, "{comma}\"{name}\": {value}").map_err(|e| e.to_string())?;
    }
    line.push_str("}\n");
    std::io::stdout().write_all(line.as_bytes()).map_err(|e| e.to_string())
}

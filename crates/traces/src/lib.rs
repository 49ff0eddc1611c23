//! Recorded agent sessions ("Weka traces"): files → sessions → streams → prompts as blocks. Pure but for reading files; knows
//! nothing of requests or text.
//!
//! [`source`] documents out of files, folders and archives · [`ids`] lists of block ids as runs · [`weka`] the format.

pub mod ids;
pub mod source;
pub mod weka;

//! The vocabulary of o200k, from `bpe-openai`: its tokens by id, each as a length and bytes, compressed.

use std::path::PathBuf;
use std::{env, fs};

/// Of zstd.
const LEVEL: i32 = 19;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let bpe = &bpe_openai::o200k_base().bpe;
    let mut vocabulary = Vec::new();
    for id in 0..bpe.num_tokens() {
        let bytes = bpe.token_bytes(u32::try_from(id).expect("ids are u32"));
        vocabulary.push(u8::try_from(bytes.len()).expect("the longest has 128 bytes"));
        vocabulary.extend_from_slice(bytes);
    }
    let packed = zstd::bulk::compress(&vocabulary, LEVEL).expect("memory takes all");
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    fs::write(folder.join("o200k.zst"), packed).expect("OUT_DIR can be written");
}

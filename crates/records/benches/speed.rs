//! How fast records become batches, journal, Parquet and JSONL: `cargo bench -p aiperf-records`. Medians of 5, one thread each
//! (the journal's and JSONL's own besides).

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use std::{env, fs, io, process};

use aiperf_records::{
    Cells, Chunk, Journal, JournalOptions, JsonlBatch, JsonlColumn, JsonlErrors, RecordBuilder, Records, RecordsWriter,
    Row, Texts, extend_floats,
};

const ROUNDS: usize = 5;
/// Rows of a batch; a worker hands over twice a second.
const BATCH: u64 = 5_000;

fn median(mut round: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}

fn show(what: &str, value: f64, unit: &str) {
    let _ = writeln!(io::stdout(), "{what:<52} {value:>12.2} {unit}");
}

fn chunks(count: usize, start: i64) -> Vec<Chunk> {
    let gap = |i: usize| 5_000_000 + (i as i64 * 7919) % 100_000;
    let at = |i: usize| start + (0..i).map(gap).sum::<i64>();
    (0..count)
        .map(|i| Chunk {
            at_ns: at(i),
            lag_ns: 9_000 + i as i32,
            bytes: 180,
            text_bytes: 5,
            kind: 1,
        })
        .collect()
}

fn row<'a>(request: u64, chunks: &'a [Chunk], text: &'a str) -> Row<'a> {
    let sent = request as i64 * 50_000;
    Row {
        request,
        session_num: request,
        request_id: [(request % 251) as u8; 16],
        scheduled: sent,
        started: sent + 100,
        sent: sent + 300,
        body_sent: sent + 900,
        headers: sent + 40_000,
        first_byte: sent + 41_000,
        first_content: sent + 42_000,
        first_content_user: sent + 45_000,
        first_output: sent + 42_000,
        last_content: sent + 90_000,
        end: sent + 95_000,
        chunks,
        kernel_stamps: true,
        reused: true,
        status: Some(200),
        bytes_out: 700,
        bytes_in: 900,
        isl: Some(100),
        requested_osl: Some(20),
        usage_prompt: Some(118),
        usage_completion: Some(20),
        finish_reason: Some("length"),
        text: Some(text),
        rtt_ns: 30_000,
        ..Row::default()
    }
}

fn build(rows: u64, chunks: &[Chunk], text: &str, mut each: impl FnMut(arrow_array::RecordBatch)) {
    let mut builder = RecordBuilder::new();
    for request in 0..rows {
        builder.push(&row(request, chunks, text));
        if builder.num_rows() as u64 == BATCH || builder.num_bytes() > 16 << 20 {
            each(builder.finish());
        }
    }
    each(builder.finish());
}

fn journal(dir: &Path, rows: u64, chunks: &[Chunk], text: &str) -> (f64, u64) {
    let _ = fs::remove_dir_all(dir);
    let journal = Journal::start(dir, &JournalOptions::default()).expect("the directory is writable");
    let sender = journal.sender();
    let begin = Instant::now();
    build(rows, chunks, text, |batch| {
        sender.send(batch);
    });
    let stats = journal.finish().expect("the thread lives");
    (rows as f64 / begin.elapsed().as_secs_f64(), stats.bytes)
}

fn parquet(journal: &Path, file: &Path) -> (f64, u64) {
    let records = Records::open(journal).expect("written above");
    let schema = records.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let begin = Instant::now();
    let mut writer = RecordsWriter::create(file, false).expect("the directory is writable");
    for piece in records.pieces(&names).expect("its own columns") {
        writer.append(&piece.expect("whole"), [None, None]).expect("written");
    }
    let rows = writer.finish("{}".to_owned()).expect("written");
    (
        rows as f64 / begin.elapsed().as_secs_f64(),
        fs::metadata(file).expect("written").len(),
    )
}

fn read(file: &Path, names: &[&str]) -> f64 {
    let begin = Instant::now();
    let records = Records::open(file).expect("written above");
    for piece in records.pieces(names).expect("its own columns") {
        let piece = piece.expect("whole");
        if piece.column(0).data_type().is_nested() {
            black_box(piece);
        } else {
            let mut out = Vec::new();
            extend_floats(names[0], piece.column(0), &mut out).expect("numbers");
            black_box(out);
        }
    }
    begin.elapsed().as_secs_f64()
}

fn jsonl(path: &Path, rows: usize, gaps: usize) -> f64 {
    let number = |key: usize, integers| JsonlColumn {
        key: format!("metric_number_{key}"),
        unit: "ms".into(),
        cells: Cells::Numbers {
            values: (0..rows)
                .map(|i| {
                    if integers {
                        i as f64
                    } else {
                        i as f64 / 7.0 + key as f64
                    }
                })
                .collect(),
            integers,
            exact: None,
        },
    };
    let ids = || {
        let mut texts = Texts::default();
        for i in 0..rows {
            texts.push(Some(&format!("a9c5aee6-21a2-4aeb-a671-{i:012}")));
        }
        Cells::Texts(texts)
    };
    let mut metadata: Vec<JsonlColumn<'_>> = (0..4)
        .map(|i| JsonlColumn {
            key: format!("x_{i}_id"),
            unit: String::new(),
            cells: ids(),
        })
        .collect();
    metadata.extend((0..12).map(|i| number(i, true)));
    let mut metrics: Vec<JsonlColumn<'_>> = (0..32).map(|i| number(i, i % 3 == 0)).collect();
    metrics.push(JsonlColumn {
        key: "inter_chunk_latency".into(),
        unit: "ms".into(),
        cells: Cells::Lists {
            values: (0..rows * gaps).map(|i| 5.0 + i as f64 / 1e5).collect(),
            offsets: (0..=rows as i64).map(|i| i * gaps as i64).collect(),
        },
    });
    let batch = JsonlBatch {
        num_rows: rows,
        metadata,
        metrics,
        errors: JsonlErrors::default(),
        extra: vec![],
    };
    let _ = fs::remove_file(path);
    let begin = Instant::now();
    batch.append_to(path, 1, 0).expect("the directory is writable");
    rows as f64 / begin.elapsed().as_secs_f64()
}

fn main() {
    let dir = env::temp_dir().join(format!("aiperf-speed-{}", process::id()));
    fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let (log, file) = (dir.join("journal"), dir.join("records.parquet"));
    let million = |v: f64| v / 1e6;

    let one = chunks(1, 0);
    let rate = median(|| {
        let begin = Instant::now();
        build(500_000, &one, "one", |batch| drop(black_box(batch)));
        500_000.0 / begin.elapsed().as_secs_f64()
    });
    show("build, 1 chunk a row", million(rate), "M rows/s");
    let many = chunks(500, 0);
    let text = "token ".repeat(500);
    let rate = median(|| {
        let begin = Instant::now();
        build(20_000, &many, &text, |batch| drop(black_box(batch)));
        20_000.0 * 500.0 / begin.elapsed().as_secs_f64()
    });
    show("build, 500 chunks a row", million(rate), "M chunks/s");

    let (mut size, mut bytes) = (0, 0);
    let rate = median(|| {
        let (rate, written) = journal(&log, 500_000, &one, "one");
        size = written;
        rate
    });
    show("build and journal, 1 chunk a row", million(rate), "M rows/s");
    show("  journal", size as f64 / 500_000.0, "bytes/row");
    let rate = median(|| {
        let (rate, written) = parquet(&log, &file);
        bytes = written;
        rate
    });
    show("journal to Parquet, 1 chunk a row", million(rate), "M rows/s");
    show("  Parquet", bytes as f64 / 500_000.0, "bytes/row");
    show(
        "read one scalar column of 500,000 rows",
        median(|| read(&file, &["first_content"])) * 1e3,
        "ms",
    );

    let rate = median(|| {
        let (rate, written) = journal(&log, 20_000, &many, &text);
        size = written;
        rate * 500.0
    });
    show("build and journal, 500 chunks a row", million(rate), "M chunks/s");
    show("  journal", size as f64 / 1e7, "bytes/chunk");
    let rate = median(|| {
        let (rate, written) = parquet(&log, &file);
        bytes = written;
        rate * 500.0
    });
    show("journal to Parquet, 500 chunks a row", million(rate), "M chunks/s");
    show("  Parquet", bytes as f64 / 1e7, "bytes/chunk");
    let seconds = median(|| read(&file, &["chunk_ns", "chunk_kind"]));
    show("read chunk_ns and chunk_kind", 10.0 / seconds, "M chunks/s");

    show(
        "JSONL, 48 values a row",
        median(|| jsonl(&dir.join("x.jsonl"), 50_000, 0)) / 1e3,
        "k rows/s",
    );
    show(
        "JSONL, and a list of 100",
        median(|| jsonl(&dir.join("x.jsonl"), 20_000, 100)) / 1e3,
        "k rows/s",
    );
    let _ = fs::remove_dir_all(&dir);
}

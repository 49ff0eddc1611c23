use super::*;

fn float(value: f64) -> String {
    let mut out = Vec::new();
    push_float(value, &mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn floats_are_written_as_python_writes_them() {
    // Right-hand sides: repr() of CPython 3.11.
    let table = [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (28.125_038, "28.125038"),
        (2.727_954_999_999_999_7, "2.7279549999999997"),
        (308.667_845_294_256_04, "308.66784529425604"),
        (1e-4, "0.0001"),
        (9.999e-5, "9.999e-05"),
        (1e-5, "1e-05"),
        (-2.5e-7, "-2.5e-07"),
        (9_999_999_999_999_998.0, "9999999999999998.0"),
        (1e16, "1e+16"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        (123_456_789_012_345.6, "123456789012345.6"),
        (1e15, "1000000000000000.0"),
        (0.000_1, "0.0001"),
        (0.000_101, "0.000101"),
        (0.1 + 0.2, "0.30000000000000004"),
        (5.100_02, "5.10002"),
        (-5.5, "-5.5"),
        (999_999_999.999_999, "999999999.999999"),
        (9.000_001, "9.000001"),
        (10.5, "10.5"),
        (99.12, "99.12"),
        (100.123, "100.123"),
        (999.123_4, "999.1234"),
        (1000.0, "1000.0"),
        (9_999.999_999, "9999.999999"),
        (10_000.000_001, "10000.000001"),
        (1_234_567.1, "1234567.1"),
    ];
    for (value, text) in table {
        assert_eq!(float(value), text);
    }
}

#[test]
fn nanoseconds_in_ms_are_written_as_any_other_float() {
    let mut state = 7_u64;
    for _ in 0..200_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for value in [(state >> (state % 54 + 10)) as f64 / 1e6, f64::from_bits(state)] {
            if (1e-4..1e16).contains(&value) {
                assert_eq!(float(value), zmij::Buffer::new().format_finite(value));
            }
        }
    }
}

fn render(batch: &JsonlBatch<'_>, threads: usize) -> Result<Vec<u8>, JsonlError> {
    let mut out = Vec::new();
    let written = batch.write_to(&mut out, threads, 0)?;
    assert_eq!(written, out.len() as u64);
    Ok(out)
}

fn texts(values: &[Option<&str>]) -> Texts {
    let mut texts = Texts::default();
    for value in values {
        texts.push(*value);
    }
    texts
}

fn batch() -> JsonlBatch<'static> {
    let column = |key: &str, unit: &str, cells| JsonlColumn {
        key: key.into(),
        unit: unit.into(),
        cells,
    };
    let numbers = |values: Vec<f64>, integers| Cells::Numbers {
        values: values.into(),
        integers,
        exact: None,
    };
    JsonlBatch {
        num_rows: 2,
        metadata: vec![
            column("session_num", "", numbers(vec![0.0, 1.0], true)),
            column("x_request_id", "", Cells::Texts(texts(&[Some("a\"b\u{1}ü"), None]))),
            column(
                "request_start_ns",
                "",
                Cells::Numbers {
                    values: vec![1.0, f64::NAN].into(),
                    integers: true,
                    exact: Some(vec![1_795_491_051_204_057_701, 0].into()),
                },
            ),
            column(
                "was_cancelled",
                "",
                Cells::Choices {
                    index: vec![0, 1].into(),
                    json: vec!["false".into(), "true".into()],
                },
            ),
        ],
        metrics: vec![
            column("request_latency", "ms", numbers(vec![64.794_569, f64::NAN], false)),
            column(
                "inter_chunk_latency",
                "ms",
                Cells::Lists {
                    values: vec![0.5, f64::NAN].into(),
                    offsets: vec![0, 2, 2].into(),
                },
            ),
        ],
        errors: JsonlErrors {
            rows: vec![1].into(),
            codes: vec![NO_CODE].into(),
            types: texts(&[Some("Timeout")]),
            messages: texts(&[Some("")]),
        },
        extra: vec![column("trace_data", "", {
            let mut objects = Texts::default();
            objects.push_json(Some("{\"a\": [1]}"));
            objects.push_json(None);
            Cells::Texts(objects)
        })],
    }
}

#[test]
fn absent_cells_leave_their_keys_out() {
    let lines = render(&batch(), 1).expect("fits");
    let expected = concat!(
        r#"{"metadata": {"session_num": 0, "x_request_id": "a\"b\u0001ü", "request_start_ns": 1795491051204057701, "was_cancelled": false}, "#,
        r#""metrics": {"request_latency": {"value": 64.794569, "unit": "ms"}, "inter_chunk_latency": {"value": [0.5, null], "unit": "ms"}}, "trace_data": {"a": [1]}}"#,
        "\n",
        r#"{"metadata": {"session_num": 1, "was_cancelled": true}, "metrics": {}, "error": {"code": null, "type": "Timeout", "message": ""}}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(lines).expect("UTF-8"), expected);
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let mut short = batch();
    short.metrics[0].cells = Cells::Numbers {
        values: vec![1.0].into(),
        integers: false,
        exact: None,
    };
    assert_eq!(
        render(&short, 1).expect_err("too short").to_string(),
        "column `request_latency`: does not fit a batch of 2 rows"
    );
    let mut outside = batch();
    outside.metadata[3].cells = Cells::Choices {
        index: vec![0, 2].into(),
        json: vec!["0".into(), "1".into()],
    };
    assert!(render(&outside, 1).is_err());
    let mut late = batch();
    late.errors.rows = vec![2].into();
    assert!(render(&late, 1).is_err());
}

#[test]
fn threads_do_not_change_the_bytes() {
    // A thread fills each of its blocks several times.
    let rows = 20 * BLOCK_BYTES / LINE_BYTES + 3;
    let values: Vec<f64> = (0..rows)
        .map(|i| if i % 7 == 0 { f64::NAN } else { i as f64 / 3.0 })
        .collect();
    let failed: Vec<i64> = (0..rows as i64).step_by(7).collect();
    let all: Vec<_> = failed.iter().map(|_| Some("Cut")).collect();
    let batch = JsonlBatch {
        num_rows: rows,
        metadata: vec![],
        metrics: vec![JsonlColumn {
            key: "request_latency".into(),
            unit: "ms".into(),
            cells: Cells::Numbers {
                values: values.into(),
                integers: false,
                exact: None,
            },
        }],
        errors: JsonlErrors {
            codes: failed.clone().into(),
            rows: failed.into(),
            types: texts(&all),
            messages: texts(&all),
        },
        extra: vec![],
    };
    let one = render(&batch, 1).expect("fits");
    assert_eq!(render(&batch, 4).expect("fits"), one);
    assert_eq!(one.split(|&b| b == b'\n').count() - 1, rows);
    let mut later = Vec::new();
    batch.write_to(&mut later, 3, rows - 1000).expect("fits");
    assert!(later.len() < one.len() && one.ends_with(&later));
}

/// Takes `room` bytes.
struct Full {
    room: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_all_threads() {
    let rows = 5_000;
    let lists: Vec<f64> = (0..rows * 100).map(f64::from).collect();
    let batch = JsonlBatch {
        num_rows: rows as usize,
        metadata: vec![],
        metrics: vec![JsonlColumn {
            key: "inter_chunk_latency".into(),
            unit: "ms".into(),
            cells: Cells::Lists {
                values: lists.into(),
                offsets: (0..=i64::from(rows)).map(|row| row * 100).collect(),
            },
        }],
        errors: JsonlErrors::default(),
        extra: vec![],
    };
    let size = batch.write_to(&mut Full { room: usize::MAX }, 2, 0).expect("room");
    assert_eq!(size, render(&batch, 1).expect("fits").len() as u64);
    for threads in [1, 2, 3] {
        let mut full = Full { room: 1_000_000 };
        let error = batch.write_to(&mut full, threads, 0).expect_err("no room");
        assert!(matches!(error, JsonlError::Io(e) if e.kind() == io::ErrorKind::StorageFull));
        assert!(
            full.room < 2 * BLOCK_BYTES,
            "blocks are small, with lists too: {}",
            full.room
        );
    }
}

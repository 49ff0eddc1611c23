//! Fields of a form (`multipart/form-data`, RFC 7578).

/// A field: its name, a file's name, its bytes.
pub(crate) type Field<'a> = (&'a str, Option<&'a str>, &'a [u8]);

/// The boundary in a `Content-Type`, if it is a form's.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(rest, "boundary")
}

/// All fields in order; the error says what is wrong.
pub(crate) fn fields<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Field<'a>>, String> {
    let mark = format!("--{boundary}");
    let between = format!("\r\n{mark}");
    let finder = memchr::memmem::Finder::new(between.as_bytes());
    let mut rest = body
        .strip_prefix(mark.as_bytes())
        .ok_or("the form does not begin with its boundary")?;
    let mut fields = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = finder.find(part).ok_or("the form ends without its boundary")?;
        let split = memchr::memmem::find(&part[..end], b"\r\n\r\n").ok_or("a field of the form has no head")?;
        let head = std::str::from_utf8(&part[..split]).map_err(|_| "a field's head is no UTF-8")?;
        let disposition = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))
            .ok_or("a field of the form has no Content-Disposition")?;
        let name = parameter(disposition, "name").ok_or("a field of the form has no name")?;
        fields.push((name, parameter(disposition, "filename"), &part[split + 4..end]));
        rest = &part[end + between.len()..];
    }
    if rest.starts_with(b"--") {
        Ok(fields)
    } else {
        Err("the form ends without its boundary".into())
    }
}

/// A parameter of a header's value: `name="value"` or `name=value`.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(';').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_fields_and_files_are_read() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x\r\ncontent-disposition: form-data; \
            name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\x00\r\n\xff\r\n--x--\r\n";
        let found = fields(body, boundary("multipart/form-data; boundary=\"x\"").expect("a form")).expect("valid");
        assert_eq!(
            found,
            [
                ("model", None, b"m".as_slice()),
                ("file", Some("a.wav"), b"\x00\r\n\xff".as_slice())
            ]
        );
    }

    #[test]
    fn test_a_form_cut_anywhere_is_refused() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--";
        assert!(fields(body, "x").is_ok());
        for cut in 0..body.len() {
            assert!(fields(&body[..cut], "x").is_err(), "cut at {cut}");
        }
        assert_eq!(boundary("application/json"), None);
        assert_eq!(boundary("application/json; boundary=x"), None);
    }
}

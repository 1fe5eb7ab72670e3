//! What an answer to a request for bytes is worth: whole, part, compressed, of the wrong length, or of another version.
//! Pure; no I/O.

use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};

/// How an attempt's bytes are to be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Take {
    /// Forget what is here first.
    pub(super) restart: bool,
    pub(super) gzip: bool,
    pub(super) wrong_length: bool,
}

/// How to take an answer to a request for the bytes from `from` on, of `size` in all; or why not to take it.
pub(super) fn judge_answer(
    status: StatusCode,
    headers: &HeaderMap,
    (from, size): (u64, u64),
    version: Option<&str>,
) -> Result<Take, &'static str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let gzip = match text(header::CONTENT_ENCODING) {
        None | Some("identity") => false,
        Some("gzip" | "x-gzip") => true,
        Some(_) => return Err("the server compresses although asked not to"),
    };
    if status != StatusCode::PARTIAL_CONTENT {
        let length = text(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        let wrong_length = !gzip && length.is_some_and(|length| length != size);
        return Ok(Take { restart: from > 0, gzip, wrong_length });
    }
    let range = text(header::CONTENT_RANGE).and_then(parse_content_range);
    let Some((first, total)) = range else { return Err("a part without a readable Content-Range") };
    if first != from || total.is_some_and(|total| total != size) {
        return Err("another part than asked for");
    }
    if gzip {
        return Err("a part of a compressed body");
    }
    if version.is_some() && strong_etag(headers).is_some_and(|now| Some(now.as_str()) != version) {
        return Err("the object changed between two parts");
    }
    Ok(Take { restart: false, gzip: false, wrong_length: false })
}

/// First byte and total length of `bytes 5-9/10`.
pub(super) fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

/// The ETag, unless it is a weak one, which proves nothing about bytes.
pub(super) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::ETAG)?.to_str().ok()?;
    (text.starts_with('"') && text.len() > 2).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(
        status: u16,
        from: u64,
        version: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<Take, &'static str> {
        let headers = headers.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect();
        judge_answer(StatusCode::from_u16(status).unwrap(), &headers, (from, 10), version)
    }

    #[test]
    fn the_table_of_answers() {
        let plain = Take { restart: false, gzip: false, wrong_length: false };
        assert_eq!(answer(200, 0, None, &[("content-length", "10")]), Ok(plain));
        assert!(answer(200, 4, None, &[]).unwrap().restart);
        assert!(answer(200, 0, None, &[("content-length", "9")]).unwrap().wrong_length);
        assert!(answer(200, 0, None, &[("content-encoding", "gzip"), ("content-length", "9")]).unwrap().gzip);
        let part = |from, range, etag, known| answer(206, from, known, &[("content-range", range), ("etag", etag)]);
        assert_eq!(part(4, "bytes 4-9/10", "\"a\"", Some("\"a\"")).map(|take| take.restart), Ok(false));
        assert_eq!(part(4, "bytes 4-9/*", "\"a\"", None).map(|take| take.restart), Ok(false));
        assert!(part(4, "bytes 4-9/10", "\"b\"", Some("\"a\"")).is_err());
        assert!(part(4, "bytes 3-9/10", "\"a\"", None).is_err());
        assert!(part(4, "bytes 4-10/11", "\"a\"", None).is_err());
        assert!(answer(206, 4, None, &[]).is_err());
        assert!(answer(200, 0, None, &[("content-encoding", "br")]).is_err());
    }

    proptest! {
        #[test]
        fn content_ranges_never_panic(text in "(bytes )?[0-9*/-]{0,12}") {
            let _ = parse_content_range(&text);
        }
    }
}

//! Content in and out over HTTP: streamed, checked against `Content-MD5`, served with ranges.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use rusqlite::{OptionalExtension as _, params};

use crate::digest::{Algorithm, Digest};

use super::blob::{Blob, Incoming};
use super::fault::Fault;
use super::http::{App, Refusal, blocking};
use super::rows::run::Run;
use super::rows::run_file::RunFile;

/// How much is read from or written to a file at once.
const PIECE: usize = 512 * 1024;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

type Outcome = Result<Response, Refusal>;

/// `PUT /storage/upload/{md5}`: content that must have this MD5.
pub(super) async fn put_upload(
    State(app): State<Arc<App>>,
    Path(md5): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Outcome {
    let incoming = receive(&app, &headers, body).await?;
    if incoming.md5() != md5 {
        let found = incoming.md5();
        return Err(Fault::invalid(format!("the content has MD5 {found}, the upload was announced with {md5}")).into());
    }
    let blob = blocking(move || app.services.blobs.keep(&app.services.db, incoming)).await?;
    Ok(stored(&blob.md5))
}

/// `PUT /storage/part/{upload}/{number}`: one part, which must have the MD5 it was announced with.
pub(super) async fn put_part(
    State(app): State<Arc<App>>,
    Path((upload, number)): Path<(String, u64)>,
    headers: HeaderMap,
    body: Body,
) -> Outcome {
    let incoming = receive(&app, &headers, body).await?;
    let md5 = incoming.md5();
    let found = md5.clone();
    blocking(move || {
        let sql = "SELECT json_extract(part.value, '$.hexMD5') FROM multipart, json_each(multipart.parts) AS part
                   WHERE multipart.id = ?1 AND json_extract(part.value, '$.partNumber') = ?2";
        let announced: Option<String> = app
            .services
            .db
            .read(|c| Ok(c.query_row(sql, params![upload, number as i64], |row| row.get(0)).optional()?))?;
        match announced {
            Some(announced) if announced.eq_ignore_ascii_case(&md5) => {
                incoming.keep_as_part(&app.services.blobs.part_path(&upload, number))
            }
            Some(announced) => Err(Fault::invalid(format!("part {number} has MD5 {md5}, not {announced}"))),
            None => Err(Fault::not_found("part of upload", format!("{upload}/{number}"))),
        }
    })
    .await?;
    Ok(stored(&found))
}

/// `PUT /storage/run-file/{id}`.
pub(super) async fn put_run_file(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    body: Body,
) -> Outcome {
    let incoming = receive(&app, &headers, body).await?;
    let blob = blocking(move || {
        let blob = app.services.blobs.keep(&app.services.db, incoming)?;
        app.services.db.write(|db| RunFile::fill(db, id, &blob.sha256))?;
        Ok(blob)
    })
    .await?;
    Ok(stored(&blob.md5))
}

/// `PUT /files/{entity}/{project}/{run}/{name}`, with the key.
pub(super) async fn put_named_run_file(
    State(app): State<Arc<App>>,
    Path((entity, project, run, name)): Path<(String, String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Outcome {
    let incoming = receive(&app, &headers, body).await?;
    let blob = blocking(move || {
        let blob = app.services.blobs.keep(&app.services.db, incoming)?;
        app.services.db.write(|db| {
            let run = Run::by_path(db, [&entity, &project, &run])?;
            RunFile::fill(db, RunFile::ensure(db, run.id, &name)?.id, &blob.sha256)
        })?;
        Ok(blob)
    })
    .await?;
    Ok(stored(&blob.md5))
}

fn stored(md5: &str) -> Response {
    (StatusCode::OK, [(header::ETAG, format!("\"{md5}\""))]).into_response()
}

/// Streams a body to disk. A body that is not what its `Content-MD5` says is refused.
async fn receive(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Incoming, Fault> {
    let announced = match headers.get(CONTENT_MD5) {
        Some(value) => {
            let text = value.to_str().map_err(|_| Fault::invalid("Content-MD5 is not text"))?;
            let digest = Digest::from_base64(Algorithm::Md5, text.trim());
            Some(digest.map_err(|error| Fault::invalid(format!("Content-MD5: {error}")))?)
        }
        None => None,
    };
    let services = Arc::clone(app);
    let mut incoming = blocking(move || services.services.blobs.receive()).await?;
    let mut stream = body.into_data_stream();
    let mut waiting: Vec<Bytes> = Vec::new();
    let mut size = 0;
    loop {
        let piece = stream.next().await.transpose().map_err(|_| Fault::BodyBroken)?;
        let ended = piece.is_none();
        size += piece.as_ref().map_or(0, Bytes::len);
        waiting.extend(piece);
        if ended || size >= PIECE {
            let pieces = std::mem::take(&mut waiting);
            size = 0;
            incoming = blocking(move || {
                pieces.iter().try_for_each(|piece| incoming.write(piece))?;
                Ok(incoming)
            })
            .await?;
        }
        if ended {
            break;
        }
    }
    match announced.map(|digest| digest.to_hex()) {
        Some(announced) if announced != incoming.md5() => {
            Err(Fault::invalid(format!("Content-MD5 is {announced}, but the body has {}", incoming.md5())))
        }
        _ => Ok(incoming),
    }
}

/// `GET /storage/blob/{sha256}/{name}`. The name is for people.
pub(super) async fn get_blob(
    State(app): State<Arc<App>>,
    Path((sha256, _name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Outcome {
    let found = {
        let app = Arc::clone(&app);
        blocking(move || {
            let found = app.services.db.read(|c| Blob::find(c, &sha256))?;
            found.ok_or_else(|| Fault::not_found("content", sha256))
        })
        .await?
    };
    serve(&app, found, &method, &headers).await
}

/// `GET /files/{entity}/{project}/{run}/{name}`, with the key.
pub(super) async fn get_run_file(
    State(app): State<Arc<App>>,
    Path((entity, project, run, name)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Outcome {
    let found = {
        let app = Arc::clone(&app);
        blocking(move || {
            app.services.db.read(|c| {
                let run = Run::by_path(c, [&entity, &project, &run])?;
                let sha256 = RunFile::find(c, run.id, &name)?.and_then(|file| file.sha256);
                let blob = sha256.map(|sha256| Blob::find(c, &sha256)).transpose()?.flatten();
                blob.ok_or_else(|| Fault::not_found("run file", name))
            })
        })
        .await?
    };
    serve(&app, found, &method, &headers).await
}

/// `GET /artifactsV2/…/<hex>/<basename>` and `GET /artifacts/<entity>/<hex>`, with the key. The digest decides; the rest of
/// the path is for people (the last segment is not even escaped by the official client).
pub(super) async fn get_artifact_file(
    State(app): State<Arc<App>>,
    uri: Uri,
    method: Method,
    headers: HeaderMap,
) -> Outcome {
    let is_hex = |segment: &&str| segment.len() == 32 && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut from_end = uri.path().rsplit('/');
    let (last, before) = (from_end.next(), from_end.next());
    let hex = before.filter(is_hex).or(last.filter(is_hex)).map(str::to_ascii_lowercase);
    let hex = hex.ok_or_else(|| Fault::not_found("artifact file", uri.path()))?;
    let found = {
        let app = Arc::clone(&app);
        blocking(move || {
            app.services.db.read(|c| {
                let found = match Blob::find_by_digest(c, Algorithm::Md5, &hex)? {
                    Some(blob) => Some(blob),
                    None => Blob::find_by_digest(c, Algorithm::Xxh128, &hex)?,
                };
                found.ok_or_else(|| Fault::not_found("artifact file", hex))
            })
        })
        .await?
    };
    serve(&app, found, &method, &headers).await
}

/// What part of the content is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Some(Range<u64>),
    Beyond,
}

/// Reads a `Range` header of one range. Several ranges, other units and nonsense mean the whole, as RFC 9110 has it.
fn part_of(range: Option<&str>, size: u64) -> Part {
    let Some(spec) = range.and_then(|range| range.strip_prefix("bytes=")) else { return Part::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Part::Whole };
    let parse = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => match parse(suffix) {
            Some(0) => return Part::Beyond,
            Some(suffix) => size.saturating_sub(suffix)..size,
            None => return Part::Whole,
        },
        (first, "") => match parse(first) {
            Some(first) => first..size,
            None => return Part::Whole,
        },
        (first, last) => match (parse(first), parse(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
            _ => return Part::Whole,
        },
    };
    if range.start < range.end { Part::Some(range) } else { Part::Beyond }
}

async fn serve(app: &Arc<App>, blob: Blob, method: &Method, headers: &HeaderMap) -> Outcome {
    let etag = format!("\"{}\"", blob.md5);
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // A range of another version of the content would be worse than the whole.
    let same = text(header::IF_RANGE).is_none_or(|condition| condition == etag);
    let part = part_of(text(header::RANGE).filter(|_| same), blob.size);
    let (status, range) = match part {
        Part::Whole => (StatusCode::OK, 0..blob.size),
        Part::Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        Part::Beyond => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{}", blob.size))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
    };
    let body = if *method == Method::HEAD { Body::empty() } else { stream(app, &blob, range.clone()).await? };
    let mut response = (status, body).into_response();
    let fields = response.headers_mut();
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        fields.insert(header::ETAG, etag);
    }
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) =
            HeaderValue::from_str(&format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), blob.size))
    {
        fields.insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// The bytes of a range, read as the client takes them.
async fn stream(app: &Arc<App>, blob: &Blob, range: Range<u64>) -> Result<Body, Fault> {
    let path = app.services.blobs.path(&blob.sha256);
    let file = blocking(move || {
        let mut file = File::open(&path).map_err(Fault::io("read", &path))?;
        file.seek(SeekFrom::Start(range.start)).map_err(Fault::io("read", &path))?;
        Ok(file.take(range.end - range.start))
    })
    .await?;
    let pieces = futures_util::stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            // Room that is not cleared first: clearing cost as much as reading.
            let mut piece = Vec::with_capacity(PIECE.min(usize::try_from(file.limit()).unwrap_or(PIECE)));
            file.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
            Ok::<_, std::io::Error>((piece, file))
        });
        let (piece, file) = read.await.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
    });
    Ok(Body::from_stream(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        assert_eq!(part_of(None, 10), Part::Whole);
        assert_eq!(part_of(Some("bytes=0-0"), 10), Part::Some(0..1));
        assert_eq!(part_of(Some("bytes=2-"), 10), Part::Some(2..10));
        assert_eq!(part_of(Some("bytes=-3"), 10), Part::Some(7..10));
        assert_eq!(part_of(Some("bytes=-30"), 10), Part::Some(0..10));
        assert_eq!(part_of(Some("bytes=5-99"), 10), Part::Some(5..10));
        assert_eq!(part_of(Some("bytes=10-"), 10), Part::Beyond);
        assert_eq!(part_of(Some("bytes=-0"), 10), Part::Beyond);
        assert_eq!(part_of(Some("bytes=0-"), 0), Part::Beyond);
        for whole in ["bytes=3-2", "bytes=a-b", "bytes=1-2,4-5", "items=0-1", "bytes=", "bytes=-"] {
            assert_eq!(part_of(Some(whole), 10), Part::Whole, "{whole}");
        }
    }
}

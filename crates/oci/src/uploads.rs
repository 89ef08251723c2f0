use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use postern_access::{Operation, OperationKind, Permit};
use postern_model::{Algorithm, Digest, Reference, RepositoryName, UploadId};
use postern_store::{Repository, StoreError, UploadStatus, UploadWriter};

use crate::blobs::text;
use crate::call::Call;
use crate::error::{Condition, Refusal};
use crate::range::ChunkRange;
use crate::reply::{DOCKER_UPLOAD_UUID, Reply};
use crate::route::UploadStart;

/// A client that lost its connection comes back at once, while the store may still be saving what had arrived.
const BUSY_ATTEMPTS: u32 = 20;
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// end-4a, end-4b, end-4c, end-11: begins an upload, takes a whole blob, or mounts one.
pub(crate) async fn start(call: &Call, permit: &Permit, start: UploadStart, body: Body) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    match start {
        UploadStart::Empty(algorithm) => open(&repository, algorithm).await,
        UploadStart::Whole(digest) => {
            let status = repository.start_upload(digest.algorithm()).await?;
            let mut writer = repository.upload_writer(status.id).await?;
            let taken = match receive(body, &mut writer, None).await {
                Ok(_) => writer.commit(digest).await.map_err(Refusal::from),
                Err(refusal) => {
                    let _ = writer.pause().await;
                    Err(refusal)
                }
            };
            match taken {
                Ok(_) => Ok(created(repository.name(), &digest)),
                Err(refusal) => {
                    // Nobody was told the upload's id, so that nobody can go on with it.
                    let _ = repository.cancel_upload(status.id).await;
                    Err(refusal)
                }
            }
        }
        UploadStart::Mount { digest, from } => {
            if mount(call, &repository, &digest, from).await? {
                return Ok(created(repository.name(), &digest));
            }
            // Whatever kept the mount from happening, the client learns only that it has to send the bytes.
            open(&repository, digest.algorithm()).await
        }
    }
}

/// Whether the blob could be linked from the other repository: it takes a permit of its own to read there.
async fn mount(
    call: &Call,
    repository: &Repository,
    digest: &Digest,
    from: Option<RepositoryName>,
) -> Result<bool, Refusal> {
    let Some(from) = from else { return Ok(false) };
    let operation = Operation::repository(OperationKind::MountBlob, from, Some(Reference::Digest(*digest)));
    let Some(source) = call.permit_for(&operation) else { return Ok(false) };
    match repository.mount_blob(&source, digest).await {
        Ok(()) => Ok(true),
        // A lock of the target shows itself again when the upload is opened.
        Err(StoreError::NotFound(_) | StoreError::Locked(..)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn open(repository: &Repository, algorithm: Algorithm) -> Result<Response, Refusal> {
    let status = repository.start_upload(algorithm).await?;
    Ok(progress(StatusCode::ACCEPTED, repository.name(), &status))
}

/// end-13: how far an upload is.
pub(crate) async fn status(call: &Call, permit: &Permit, upload: UploadId) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let status = repository.upload(upload).await?.ok_or_else(|| Refusal::new(Condition::UploadUnknown))?;
    Ok(progress(StatusCode::NO_CONTENT, repository.name(), &status))
}

/// end-5: takes the next chunk, or with no `Content-Range` the rest of the stream.
pub(crate) async fn append(
    call: &Call,
    permit: &Permit,
    upload: UploadId,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let writer = receive_chunk(&repository, upload, headers, body).await?;
    let status = writer.pause().await?;
    Ok(progress(StatusCode::ACCEPTED, repository.name(), &status))
}

/// end-6: takes the last chunk, if one is left, and closes the upload.
pub(crate) async fn finish(
    call: &Call,
    permit: &Permit,
    upload: UploadId,
    digest: Digest,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let writer = receive_chunk(&repository, upload, headers, body).await?;
    writer.commit(digest).await?;
    Ok(created(repository.name(), &digest))
}

/// end-14: gives an upload up.
pub(crate) async fn cancel(call: &Call, permit: &Permit, upload: UploadId) -> Result<Response, Refusal> {
    call.repository(permit)?.cancel_upload(upload).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).done())
}

/// Takes a request's bytes into an upload. What is wrong with the chunk leaves the upload where it was or, when that only
/// shows on the way, where the bytes ended.
async fn receive_chunk(
    repository: &Repository,
    upload: UploadId,
    headers: &HeaderMap,
    body: Body,
) -> Result<UploadWriter, Refusal> {
    let mut writer = writer(repository, upload).await?;
    let chunk = match headers.get(CONTENT_RANGE).map(|value| value.to_str().ok().and_then(ChunkRange::parse)) {
        None => None,
        Some(Some(chunk)) if chunk.first == writer.offset() => Some(chunk),
        Some(_) => return Err(refused(Condition::ChunkOutOfOrder, repository.name(), writer).await),
    };
    let announced: Option<u64> = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if let (Some(chunk), Some(announced)) = (chunk, announced)
        && chunk.length() != announced
    {
        return Err(refused(Condition::ChunkLength, repository.name(), writer).await);
    }
    let expected = chunk.map(ChunkRange::length);
    match receive(body, &mut writer, expected).await {
        Ok(received) if expected.is_none_or(|expected| expected == received) => Ok(writer),
        Ok(_) => Err(refused(Condition::ChunkLength, repository.name(), writer).await),
        Err(refusal) => match refusal.condition() {
            condition @ (Condition::ChunkLength | Condition::BodyIncomplete) => {
                Err(refused(condition, repository.name(), writer).await)
            }
            _ => Err(refusal),
        },
    }
}

async fn writer(repository: &Repository, upload: UploadId) -> Result<UploadWriter, Refusal> {
    for _ in 1..BUSY_ATTEMPTS {
        match repository.upload_writer(upload).await {
            Err(StoreError::Busy) => tokio::time::sleep(BUSY_WAIT).await,
            result => return Ok(result?),
        }
    }
    Ok(repository.upload_writer(upload).await?)
}

/// Streams a body into the writer; gives how much came. More than `expected` is an error, and is not taken.
async fn receive(mut body: Body, writer: &mut UploadWriter, expected: Option<u64>) -> Result<u64, Refusal> {
    let mut received = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::new(Condition::BodyIncomplete))?;
        let Ok(bytes) = frame.into_data() else { continue };
        received = received.saturating_add(bytes.len() as u64);
        if expected.is_some_and(|expected| received > expected) {
            return Err(Refusal::new(Condition::ChunkLength));
        }
        writer.write(bytes).await?;
    }
    Ok(received)
}

/// A refusal that tells the client where the upload stands.
async fn refused(condition: Condition, name: &RepositoryName, writer: UploadWriter) -> Refusal {
    match writer.pause().await {
        Ok(status) => Refusal::new(condition)
            .with_header(LOCATION, HeaderValue::try_from(upload_path(name, status.id)).ok())
            .with_header(RANGE, HeaderValue::try_from(range(&status)).ok()),
        Err(error) => error.into(),
    }
}

fn progress(code: StatusCode, name: &RepositoryName, status: &UploadStatus) -> Response {
    Reply::empty(code)
        .location(upload_path(name, status.id))
        .header(RANGE, range(status))
        .header(DOCKER_UPLOAD_UUID, status.id.to_string())
        .done()
}

/// `0-<last byte>`; an empty upload is `0-0`, as there is no way to write "nothing".
fn range(status: &UploadStatus) -> String {
    format!("0-{}", status.offset.saturating_sub(1))
}

fn upload_path(name: &RepositoryName, upload: UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{upload}")
}

fn created(name: &RepositoryName, digest: &Digest) -> Response {
    Reply::empty(StatusCode::CREATED).location(format!("/v2/{name}/blobs/{digest}")).digest(digest).done()
}

//! What clients of a registry do.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

use crate::content::{Blob, Blobs};
use crate::load::{Script, Step};
use crate::site::Site;
use crate::wire::{Body, Reply, Request};

/// The same requests again and again; all of them are one operation.
pub(crate) struct Repeat {
    requests: Rc<[Request]>,
    at: Vec<usize>,
}

impl Repeat {
    pub(crate) fn one(request: Request) -> Self {
        Self::all([request])
    }

    pub(crate) fn all(requests: impl IntoIterator<Item = Request>) -> Self {
        Self { requests: requests.into_iter().collect(), at: Vec::new() }
    }
}

impl Script for Repeat {
    fn next(&mut self, connection: usize, reply: Option<Reply>) -> Result<Step> {
        if self.at.len() <= connection {
            self.at.resize(connection + 1, 0);
        }
        let at = self.at.get_mut(connection).context("no such connection")?;
        if reply.is_none() {
            *at = 0;
        }
        let request = self.requests.get(*at).context("nothing to send")?.clone();
        let begins = *at == 0;
        *at = (*at + 1) % self.requests.len();
        Ok(Step { request, begins })
    }
}

/// Another request each time.
pub(crate) struct Fresh<F> {
    make: F,
    number: u64,
}

impl<F: FnMut(usize, u64) -> Request> Fresh<F> {
    /// `make` gets the connection and how many requests there were before.
    pub(crate) fn new(make: F) -> Self {
        Self { make, number: 0 }
    }
}

impl<F: FnMut(usize, u64) -> Request> Script for Fresh<F> {
    fn next(&mut self, connection: usize, _: Option<Reply>) -> Result<Step> {
        let request = (self.make)(connection, self.number);
        self.number += 1;
        Ok(Step { request, begins: true })
    }
}

/// Blob uploads: POST, PATCH for each chunk if there are chunks, PUT.
pub(crate) struct Push {
    site: Site,
    repository: String,
    supply: Supply,
    chunk: Option<usize>,
    uploads: Vec<Option<Upload>>,
}

/// Where blobs come from.
pub(crate) enum Supply {
    /// Ever new ones, which no other supply gives either.
    Endless(Blobs),
    /// These, and then the last of them again.
    List(Vec<Blob>),
}

impl Supply {
    fn take(&mut self) -> Result<Blob> {
        static NUMBER: AtomicU64 = AtomicU64::new(1 << 32);
        match self {
            Self::Endless(blobs) => Ok(blobs.get(NUMBER.fetch_add(1, Ordering::Relaxed))),
            Self::List(list) if list.len() > 1 => list.pop().context("no blob"),
            Self::List(list) => list.first().cloned().context("no blob"),
        }
    }
}

struct Upload {
    blob: Blob,
    sent: usize,
    is_closing: bool,
}

impl Push {
    pub(crate) fn new(site: &Site, repository: &str, supply: Supply, chunk: Option<usize>) -> Self {
        Self { site: site.clone(), repository: repository.to_owned(), supply, chunk, uploads: Vec::new() }
    }

    fn start(&mut self, connection: usize) -> Result<Step> {
        let upload = Upload { blob: self.supply.take()?, sent: 0, is_closing: false };
        if self.uploads.len() <= connection {
            self.uploads.resize_with(connection + 1, || None);
        }
        *self.uploads.get_mut(connection).context("no such connection")? = Some(upload);
        let target = format!("/v2/{}/blobs/uploads/", self.repository);
        Ok(Step { request: self.site.send("POST", &target, "", Body::Empty).expect(202), begins: true })
    }
}

impl Script for Push {
    fn next(&mut self, connection: usize, reply: Option<Reply>) -> Result<Step> {
        let upload = self.uploads.get_mut(connection).and_then(Option::as_mut);
        let (Some(reply), Some(upload)) = (reply, upload) else { return self.start(connection) };
        if upload.is_closing {
            return self.start(connection);
        }
        let location = reply.location.context("no location of the upload")?;
        let size = upload.blob.content.len();
        if let Some(chunk) = self.chunk.filter(|_| upload.sent < size) {
            let end = size.min(upload.sent + chunk);
            let lines = format!(
                "content-type: application/octet-stream\r\ncontent-range: {}-{}\r\n",
                upload.sent,
                end.saturating_sub(1)
            );
            let body = Body::Part(upload.blob.content.clone(), upload.sent, end);
            upload.sent = end;
            return Ok(Step { request: self.site.send("PATCH", &location, &lines, body).expect(202), begins: false });
        }
        upload.is_closing = true;
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest={}", upload.blob.digest);
        let body = Body::Part(upload.blob.content.clone(), upload.sent, size);
        let lines = "content-type: application/octet-stream\r\n";
        Ok(Step { request: self.site.send("PUT", &target, lines, body).expect(201), begins: false })
    }
}

/// Pulls of an image: a token if there is somebody to ask for one, then everything with it.
pub(crate) struct Storm {
    site: Site,
    token: Option<Request>,
    /// Method and target of each request.
    targets: Vec<(&'static str, String)>,
    lines: &'static str,
    clients: Vec<(usize, Site)>,
}

impl Storm {
    pub(crate) fn new(
        site: &Site,
        token: Option<Request>,
        targets: Vec<(&'static str, String)>,
        lines: &'static str,
    ) -> Self {
        Self { site: site.clone(), token: token.map(Request::keep), targets, lines, clients: Vec::new() }
    }
}

impl Script for Storm {
    fn next(&mut self, connection: usize, reply: Option<Reply>) -> Result<Step> {
        if self.clients.len() <= connection {
            self.clients.resize_with(connection + 1, || (0, self.site.clone()));
        }
        let (at, site) = self.clients.get_mut(connection).context("no such connection")?;
        let first = usize::from(self.token.is_some());
        if reply.is_none() || *at == self.targets.len() + first {
            *at = 0;
        }
        let step = match &self.token {
            Some(token) if *at == 0 => token.clone(),
            token => {
                if let (Some(_), Some(reply), 1) = (token, &reply, *at) {
                    *site = self.site.with_authorization(&format!("Bearer {}", access_token(&reply.body)?));
                }
                let (method, target) = self.targets.get(*at - first).context("nothing to send")?;
                site.send(method, target, self.lines, Body::Empty)
            }
        };
        *at += 1;
        Ok(Step { request: step, begins: *at == 1 })
    }
}

/// The token in a token endpoint's answer.
pub(crate) fn access_token(body: &[u8]) -> Result<String> {
    let answer: serde_json::Value = serde_json::from_slice(body)?;
    Ok(answer.get("access_token").and_then(serde_json::Value::as_str).context("no token")?.to_owned())
}

//! CONNECT: the proxy on loopback that maps the server's own names, and the workload gateway's tunnel. Both hand the bytes
//! inside to the same acceptor, with the origin of the connection they came by: a tunnel never becomes the source address.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use postern_identity::PeerCertificate;

use super::Server;
use super::connection::Connection;
use super::names::{Class, split_host};

/// A tunnel may run through the proxy and the gateway, no deeper.
const MAX_TUNNELS: u8 = 2;

impl Server {
    /// Answers a CONNECT request and serves what comes through.
    pub(super) fn connect(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        certificate: PeerCertificate,
        mut request: Request<Incoming>,
    ) -> Response {
        // Inside a tunnel nobody would see to the headers that a proxy writes.
        let may =
            (connection.class == Some(Class::Gateway) && !connection.carries_certificates()) || connection.is_plain();
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let own = self.names.class(split_host(&authority).0);
        if !may || connection.tunnels >= MAX_TUNNELS {
            return refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "CONNECT is for the proxy on this machine and for the workload gateway\n",
            );
        }
        // On HTTP/2 one connection would carry any number of tunnels, and be counted once.
        if request.version() == Version::HTTP_2 {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is for HTTP/1.1 connections\n");
        }
        if own.is_none() {
            return refusal(StatusCode::FORBIDDEN, "this proxy leads to this server's own names only\n");
        }
        let (server, connection) = (Arc::clone(self), Arc::clone(connection));
        tokio::spawn(async move {
            let stream = match hyper::upgrade::on(&mut request).await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(error) => return tracing::debug!(error = %error, "the tunnel did not open"),
            };
            let arrival = connection.arrival.clone();
            let outer = Some((certificate, connection.tunnels + 1));
            let hold = connection.hold.clone();
            if let Err(error) = server.tls(Box::new(stream), arrival, outer, hold).await {
                tracing::debug!(error = %error, "the tunnel ended");
            }
        });
        Response::new(Body::empty())
    }
}

fn refusal(status: StatusCode, why: &'static str) -> Response {
    let mut response = Response::new(Body::from(why));
    *response.status_mut() = status;
    response
}

//! Changing headers: what `request_headers_to_add` and its kin mean.

use http::{HeaderName, HeaderValue};

/// Changes to a set of headers. Most rules change none, and then take one word.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderOps(Option<Box<HeaderChanges>>);

/// What [`HeaderOps`] do: removals first, then additions in order, as Envoy does it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderChanges {
    /// Names whose every value is removed.
    pub remove: Box<[HeaderName]>,
    /// Values to set or to add.
    pub add: Box<[HeaderAdd]>,
    /// A new authority, when the rule sets `:authority` or `host`.
    pub authority: Option<HeaderTemplate>,
}

impl HeaderOps {
    /// What there is to do, if anything.
    pub fn changes(&self) -> Option<&HeaderChanges> {
        self.0.as_deref()
    }
}

impl From<HeaderChanges> for HeaderOps {
    fn from(changes: HeaderChanges) -> Self {
        let nothing = changes.remove.is_empty() && changes.add.is_empty() && changes.authority.is_none();
        Self((!nothing).then(|| Box::new(changes)))
    }
}

/// One header to set or to add.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderAdd {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderTemplate,
    /// What happens when the header is there already.
    pub mode: AddMode,
    /// Whether a value that comes out empty is kept; otherwise the header is left alone.
    pub keep_empty: bool,
}

/// What adding a header does to one that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddMode {
    /// Adds another value.
    Append,
    /// Replaces what is there, or adds it.
    Overwrite,
    /// Adds it only when there is none.
    IfAbsent,
    /// Replaces what is there; adds nothing when there is none.
    OverwriteIfExists,
}

/// A header's value, fixed in most cases.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderTemplate {
    /// Always the same.
    Fixed(HeaderValue),
    /// Put together for each request.
    Pieces(Box<[HeaderPiece]>),
}

/// One part of a [`HeaderTemplate`]; a command of Envoy's substitution format or plain text.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderPiece {
    /// Plain text.
    Text(Box<str>),
    /// `%REQ(name)%`: the request's header.
    RequestHeader(HeaderName),
    /// `%RESP(name)%`: the response's header.
    ResponseHeader(HeaderName),
    /// `%DOWNSTREAM_REMOTE_ADDRESS%` and `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`.
    DownstreamRemoteAddress {
        /// Whether the port is part of it.
        port: bool,
    },
    /// `%DOWNSTREAM_LOCAL_ADDRESS%` and `%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%`.
    DownstreamLocalAddress {
        /// Whether the port is part of it.
        port: bool,
    },
    /// `%UPSTREAM_REMOTE_ADDRESS%`, also written `%UPSTREAM_HOST%`.
    UpstreamRemoteAddress,
    /// `%DOWNSTREAM_PEER_URI_SAN%`: the peer's identity.
    DownstreamPeerUriSan,
    /// `%PROTOCOL%`.
    Protocol,
    /// `%RESPONSE_CODE%`.
    ResponseCode,
    /// `%RESPONSE_FLAGS%`.
    ResponseFlags,
    /// `%ROUTE_NAME%`.
    RouteName,
    /// `%HOSTNAME%`.
    Hostname,
    /// `%START_TIME%`, RFC 3339 with milliseconds.
    StartTime,
}

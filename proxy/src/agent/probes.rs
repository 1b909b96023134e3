//! The application's probes, made from inside its pod: the kubelet has no certificate of the mesh.
//!
//! What comes in: a path that injection wrote (`/app-health/<container>/{livez|readyz|startupz}`,
//! `/app-lifecycle/<container>/{prestopz|poststartz}`) and the original probes. What goes out: the application's status.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::tls::{identity::provider, verify::ChainVerifier};

/// Kubernetes' default.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The most of an answer that is passed on.
const LARGEST_BODY: usize = 10 * 1024;
/// The most redirects, all on the same host.
const MOST_REDIRECTS: usize = 10;
/// Where probes come from: redirection lets traffic from here to the application pass.
const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// All probes of a pod, by path.
#[derive(Clone, Debug, Default)]
pub struct Probes(Arc<HashMap<String, Probe>>);

#[derive(Clone, Debug)]
struct Probe {
    kind: Kind,
    address: SocketAddr,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Kind {
    Http { tls: bool, path: String, headers: HeaderMap, host: Option<HeaderValue> },
    Tcp,
    Grpc { service: String },
}

/// A probe as injection writes it: Kubernetes' own form, ports as numbers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocketAction>,
    grpc: Option<GrpcAction>,
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct TcpSocketAction {
    port: u16,
}

#[derive(Deserialize)]
struct GrpcAction {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error("no answer in {0:?}")]
    Timeout(Duration),
    #[error("gRPC health status is not SERVING")]
    NotServing,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Reads `ISTIO_KUBE_APP_PROBERS`. Probes go to the pod's own address, or to loopback where the application listens
/// only there.
pub fn parse(text: &str, pod_ip: IpAddr, to_localhost: bool) -> Result<Probes, String> {
    let written: HashMap<String, Written> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let ip = match (to_localhost, pod_ip) {
        (false, ip) => ip,
        (true, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
        (true, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
    };
    let mut probes = HashMap::new();
    for (path, probe) in written {
        let probe = read(probe, ip).map_err(|reason| format!("{path}: {reason}"))?;
        probes.insert(path, probe);
    }
    Ok(Probes(Arc::new(probes)))
}

fn read(probe: Written, ip: IpAddr) -> Result<Probe, String> {
    // Zero is Kubernetes' "not set".
    let timeout = probe.timeout_seconds.filter(|seconds| *seconds > 0).map_or(TIMEOUT, Duration::from_secs);
    let (kind, port) = match (probe.http_get, probe.tcp_socket, probe.grpc) {
        (Some(get), None, None) => {
            let (headers, host) = headers(get.http_headers)?;
            let path = if get.path.starts_with('/') { get.path } else { format!("/{}", get.path) };
            (Kind::Http { tls: get.scheme.eq_ignore_ascii_case("https"), path, headers, host }, get.port)
        }
        (None, Some(socket), None) => (Kind::Tcp, socket.port),
        (None, None, Some(grpc)) => (Kind::Grpc { service: grpc.service.unwrap_or_default() }, grpc.port),
        _ => return Err("must have exactly one of httpGet, tcpSocket and grpc".to_owned()),
    };
    Ok(Probe { kind, address: SocketAddr::new(ip, port), timeout })
}

fn headers(list: Vec<Header>) -> Result<(HeaderMap, Option<HeaderValue>), String> {
    let mut headers = HeaderMap::new();
    let mut host = None;
    for Header { name, value } in list {
        // As in Go, any byte but control characters.
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| format!("{value:?} is no header value"))?;
        if name.eq_ignore_ascii_case("host") {
            host = Some(value);
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))?;
        headers.append(name, value);
    }
    Ok((headers, host))
}

impl Probes {
    /// Makes the probe of `asked`'s path; `None` when there is none. The kubelet's own headers go along.
    pub async fn answer(&self, asked: &Parts) -> Option<Response<Full<Bytes>>> {
        let probe = self.0.get(asked.uri.path())?;
        let made = tokio::time::timeout(probe.timeout, probe.make(&asked.headers));
        let outcome = made.await.unwrap_or(Err(Failed::Timeout(probe.timeout)));
        let (status, body) = outcome.unwrap_or_else(|failed| {
            tracing::debug!(path = asked.uri.path(), address = %probe.address, "probe failed: {failed}");
            (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from(failed.to_string()))
        });
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        Some(response)
    }
}

impl Probe {
    async fn make(&self, asked: &HeaderMap) -> Result<(StatusCode, Bytes), Failed> {
        match &self.kind {
            Kind::Tcp => {
                connect(self.address).await?;
                Ok((StatusCode::OK, Bytes::new()))
            }
            Kind::Http { tls, path, headers, host } => self.http(*tls, path, headers, host.as_ref(), asked).await,
            Kind::Grpc { service } => grpc(self.address, service).await,
        }
    }

    async fn http(
        &self,
        tls: bool,
        path: &str,
        headers: &HeaderMap,
        host: Option<&HeaderValue>,
        asked: &HeaderMap,
    ) -> Result<(StatusCode, Bytes), Failed> {
        let own_host = self.address.to_string();
        let mut target = path.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = Request::get(&target).body(Full::<Bytes>::default())?;
            *request.headers_mut() = asked.clone();
            for name in headers.keys() {
                request.headers_mut().remove(name);
            }
            request.headers_mut().extend(headers.clone());
            let host = host.cloned().or_else(|| HeaderValue::from_str(&own_host).ok());
            if let Some(host) = host {
                request.headers_mut().insert(header::HOST, host);
            }
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            let response = exchange(self.address, tls, request).await?;
            match redirect(&response, &own_host) {
                Some(next) => target = next,
                None => return Ok(body(response).await),
            }
        }
        Ok((StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(b"too many redirects")))
    }
}

/// Where a redirect leads to, if it stays on the host. One to another host is the answer itself, which Kubernetes
/// takes for a success.
fn redirect(response: &Response<Incoming>, own_host: &str) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location: Uri = response.headers().get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
    let same_host = location.authority().is_none_or(|authority| authority.as_str() == own_host);
    let path = location.path_and_query()?.as_str();
    (same_host && path.starts_with('/')).then(|| path.to_owned())
}

/// Status and body. A body that is too long is cut off: only the status counts.
async fn body(response: Response<Incoming>) -> (StatusCode, Bytes) {
    let status = response.status();
    let mut limited = Limited::new(response.into_body(), LARGEST_BODY);
    let mut kept = BytesMut::new();
    while let Some(Ok(frame)) = limited.frame().await {
        if let Some(data) = frame.data_ref() {
            kept.extend_from_slice(data);
        }
    }
    (status, kept.freeze())
}

async fn exchange(address: SocketAddr, tls: bool, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
    let tcp = connect(address).await?;
    if tls {
        let stream = TlsConnector::from(Arc::new(unverified()?))
            .connect(ServerName::IpAddress(address.ip().into()), tcp)
            .await
            .map_err(Failed::Connect)?;
        send(TokioIo::new(stream), request).await
    } else {
        send(TokioIo::new(tcp), request).await
    }
}

async fn send<I>(io: I, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    // It ends with the response's body, or when the sender is dropped.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// The kubelet does not verify an application's certificate either.
fn unverified() -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(ChainVerifier::any())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Failed> {
    let (socket, source): (_, IpAddr) = match address {
        SocketAddr::V4(_) => (TcpSocket::new_v4(), SOURCE_V4.into()),
        SocketAddr::V6(_) => (TcpSocket::new_v6(), SOURCE_V6.into()),
    };
    let socket = socket.map_err(Failed::Connect)?;
    // Without the address (no `::6` on the machine) the probe is still right, only redirected like other traffic.
    if let Err(error) = socket.bind(SocketAddr::new(source, 0)) {
        tracing::debug!(%source, "probes do not come from their own address: {error}");
    }
    socket.connect(address).await.map_err(Failed::Connect)
}

/// `grpc.health.v1.Health/Check`, written out: one message of one field in each direction.
async fn grpc(address: SocketAddr, service: &str) -> Result<(StatusCode, Bytes), Failed> {
    let tcp = connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(check_request(service)))?;
    let response = sender.send_request(request).await?;
    let (_, answer) = body(response).await;
    if is_serving(&answer) { Ok((StatusCode::OK, Bytes::new())) } else { Err(Failed::NotServing) }
}

/// The request in gRPC's frame: `HealthCheckRequest { service }`.
fn check_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        prost::encoding::string::encode(1, &service.to_owned(), &mut message);
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    frame.into()
}

/// Whether the answer's frame holds `HealthCheckResponse { status: SERVING }`.
fn is_serving(frame: &[u8]) -> bool {
    // Not compressed, two bytes: field 1, value 1.
    frame == [0, 0, 0, 0, 2, 0x08, 1]
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{Request, Response, StatusCode, header};
    use tokio::net::TcpListener;

    use super::{check_request, is_serving, parse};
    use crate::agent::serve::{self, text};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn probe(written: &str, path: &str) -> Option<StatusCode> {
        let probes = parse(written, LOOPBACK, false).expect("valid");
        let (asked, ()) = Request::get(path).body(()).expect("a path").into_parts();
        probes.answer(&asked).await.map(|answer| answer.status())
    }

    #[test]
    fn a_probe_that_cannot_be_made_is_refused_with_its_path() {
        for (written, reason) in [
            (
                r#"{"/app-health/a/livez":{}}"#,
                "/app-health/a/livez: must have exactly one of httpGet, tcpSocket and grpc",
            ),
            (
                r#"{"/p":{"tcpSocket":{"port":1},"grpc":{"port":1}}}"#,
                "/p: must have exactly one of httpGet, tcpSocket and grpc",
            ),
            (r#"{"/p":{"httpGet":{"port":1,"httpHeaders":[{"name":"a b"}]}}}"#, r#"/p: "a b" is no header name"#),
        ] {
            assert_eq!(parse(written, LOOPBACK, false).err().as_deref(), Some(reason));
        }
        for written in ["", "[]", r#"{"/p":{"httpGet":{"port":"http"}}}"#, r#"{"/p":{"exec":{}}}"#] {
            assert!(parse(written, LOOPBACK, false).is_err(), "{written}");
        }
    }

    #[tokio::test]
    async fn probes_tell_what_the_application_says() {
        let application = TcpListener::bind((LOOPBACK, 0)).await.expect("a port");
        let port = application.local_addr().expect("bound").port();
        tokio::spawn(serve::serve(application, move |request, _| {
            let named = request.headers().get("x-probe").is_some_and(|value| value == "yes");
            let hosted = request.headers().get(header::HOST).is_some_and(|host| host == "app.example.org");
            let mut answer = match request.uri().path() {
                "/healthz" if named && hosted => text(StatusCode::OK, "fine"),
                "/moved" | "/away" | "/round" => text(StatusCode::FOUND, ""),
                "/long" => text(StatusCode::OK, vec![b'a'; 100_000]),
                _ => text(StatusCode::SERVICE_UNAVAILABLE, "not yet"),
            };
            let location = match request.uri().path() {
                "/moved" => Some("/long".to_owned()),
                "/away" => Some("http://example.org/".to_owned()),
                "/round" => Some(format!("http://127.0.0.1:{port}/round")),
                _ => None,
            };
            if let Some(location) = location {
                answer.headers_mut().insert(header::LOCATION, location.parse().expect("a location"));
            }
            std::future::ready(answer)
        }));
        let free = TcpListener::bind((LOOPBACK, 0)).await.expect("a port").local_addr().expect("bound").port();
        let get = |path: &str| format!(r#"{{"/p":{{"httpGet":{{"path":"{path}","port":{port}}}}}}}"#);
        let headers = format!(
            r#"{{"/p":{{"httpGet":{{"path":"healthz","port":{port},"httpHeaders":[{{"name":"Host","value":"app.example.org"}},{{"name":"X-Probe","value":"yes"}}]}}}}}}"#
        );
        for (name, written, expected) in [
            ("headers and host of the probe", headers, StatusCode::OK),
            ("not ready", get("/healthz"), StatusCode::SERVICE_UNAVAILABLE),
            ("a redirect on the same host is followed", get("/moved"), StatusCode::OK),
            ("a redirect to another host is the answer", get("/away"), StatusCode::FOUND),
            ("redirects without end", get("/round"), StatusCode::INTERNAL_SERVER_ERROR),
            (
                "nobody listens",
                format!(r#"{{"/p":{{"httpGet":{{"port":{free}}}}}}}"#),
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
            ("TCP", format!(r#"{{"/p":{{"tcpSocket":{{"port":{port}}}}}}}"#), StatusCode::OK),
            (
                "TCP, nobody listens",
                format!(r#"{{"/p":{{"tcpSocket":{{"port":{free}}}}}}}"#),
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
        ] {
            assert_eq!(probe(&written, "/p").await, Some(expected), "{name}");
        }
        assert_eq!(probe("{}", "/p").await, None);
    }

    #[tokio::test]
    async fn grpc_health_is_asked_for_the_service() {
        use hyper::service::service_fn;
        let listener = TcpListener::bind((LOOPBACK, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                    use http_body_util::BodyExt;
                    let asked = request.into_body().collect().await.expect("whole").to_bytes();
                    // 1 is SERVING, 2 is NOT_SERVING.
                    let status = if asked == check_request("a") { 1 } else { 2 };
                    let body = bytes::Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                    Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Full::new(body)))
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
                );
            }
        });
        let written = |service: &str| format!(r#"{{"/p":{{"grpc":{{"port":{port},"service":{service}}}}}}}"#);
        assert_eq!(probe(&written("\"a\""), "/p").await, Some(StatusCode::OK));
        assert_eq!(probe(&written("null"), "/p").await, Some(StatusCode::INTERNAL_SERVER_ERROR));
        assert!(!is_serving(&[]));
    }
}

//! What is on the wire, and who may speak to whom.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::{SOON, STARTED, Visitor, pod, sample};
use forestay_e2e::kube_box::KubeBox;

/// A capture on the node while pages are served holds TLS and no HTTP.
pub(crate) async fn on_the_wire(kube: &KubeBox) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("between-sidecars.pcap");
    let mut capture = tokio::process::Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", kube.init()))
        .args(["--", "tcpdump", "-i", "any", "-Z", "root", "-U", "-s", "0", "-w"])
        .arg(&file)
        .args(["tcp", "port", "9080"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("run tcpdump")?;
    // tcpdump writes the file's head once it listens.
    kube.eventually("tcpdump listening", SOON, || async {
        ensure!(std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24), "no capture yet");
        Ok(())
    })
    .await?;
    let visitor = Visitor::anonymous(kube).await?;
    kube.eventually("TLS between sidecars", SOON, || async {
        visitor.page().await?;
        let bytes = std::fs::read(&file)?;
        // A handshake record of TLS: content type 22, version 3.1 or 3.3, then a ClientHello.
        let hello = bytes.windows(6).any(|bytes| bytes[..2] == [22, 3] && bytes[5] == 1);
        ensure!(hello || has(&bytes, &[23, 3, 3]), "no TLS record in {} bytes", bytes.len());
        Ok(())
    })
    .await?;
    capture.kill().await.ok();
    let bytes = std::fs::read(&file)?;
    for text in ["HTTP/1.1", "GET /reviews", "GET /details", "Simple Bookstore App"] {
        ensure!(!has(&bytes, text.as_bytes()), "{text:?} crosses the node in the clear");
    }
    Ok(())
}

pub(crate) fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The identities at either end: in the server's certificate, and in what the application is told of its client.
pub(crate) async fn identities(kube: &KubeBox) -> Result<()> {
    let reviews = pod(kube, "app=reviews,version=v1").await?;
    let address = kube.kubectl_ok(&["get", "pod", &reviews, "-o", "jsonpath={.status.podIP}"]).await?;
    let certificate = server_certificate(kube, &format!("{address}:9080")).await?;
    let identity = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
    ensure!(has(&certificate, identity.as_bytes()), "the certificate of {reviews} does not say {identity}");

    kube.apply_file("default", &sample("httpbin/httpbin.yaml")?).await?;
    kube.apply_file("default", &sample("curl/curl.yaml")?).await?;
    for deployment in ["httpbin", "curl"] {
        kube.wait_for("default", &format!("deployment/{deployment}"), "condition=Available", STARTED).await?;
    }
    let curl = pod(kube, "app=curl").await?;
    let ask = ["curl", "-sS", "http://httpbin:8000/headers"];
    kube.eventually("httpbin told of its client", SOON, || async {
        let headers = kube.exec_ok("default", &curl, Some("curl"), &ask).await?;
        let lower = headers.to_ascii_lowercase();
        ensure!(lower.contains("x-forwarded-client-cert"), "no x-forwarded-client-cert in {headers}");
        for part in ["By=spiffe://cluster.local/ns/default/sa/httpbin", "URI=spiffe://cluster.local/ns/default/sa/curl"]
        {
            ensure!(headers.contains(part), "x-forwarded-client-cert does not say {part}: {headers}");
        }
        Ok(())
    })
    .await
}

/// Plaintext from outside the mesh: let through while PERMISSIVE, refused once STRICT.
pub(crate) async fn strict(kube: &KubeBox) -> Result<()> {
    let outsider = "jsonpath={.items[0].metadata.name}";
    let outsider = kube.kubectl_ok(&["-n", "plain", "get", "pod", "-l", "app=curl", "-o", outsider]).await?;
    let ask = [
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--max-time",
        "10",
        "http://details.default:9080/details/0",
    ];
    let answer = kube.exec_ok("plain", &outsider, Some("curl"), &ask).await?;
    ensure!(answer == "200", "while PERMISSIVE an outsider was answered {answer}");

    kube.apply(
        "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: default}, spec: {mtls: {mode: STRICT}}}",
    )
    .await?;
    let outcome = async {
        kube.eventually("an outsider refused under STRICT", SOON, || async {
            let output = kube.exec("plain", &outsider, Some("curl"), &ask).await?;
            ensure!(!output.status.success(), "still answered {}", String::from_utf8_lossy(&output.stdout));
            Ok(())
        })
        .await?;
        let page = Visitor::anonymous(kube).await?.page().await?;
        ensure!(page.reviews().is_some(), "under STRICT the mesh's own pages have no reviews");
        anyhow::Ok(())
    }
    .await;
    kube.kubectl_ok(&["-n", "default", "delete", "peerauthentication", "default"]).await?;
    outcome?;
    kube.eventually("an outsider let through again", SOON, || async {
        let answer = kube.exec_ok("plain", &outsider, Some("curl"), &ask).await?;
        ensure!(answer == "200", "answered {answer}");
        Ok(())
    })
    .await
}

/// A token for somebody else's audience gets no certificate, and the control plane counts the attempt.
pub(crate) async fn wrong_token(kube: &KubeBox) -> Result<()> {
    let image = names::images::reference(names::images::HUB, names::images::PROXY, names::VERSION);
    kube.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: impostor, namespace: plain}}
spec:
  containers:
  - name: istio-proxy
    image: {image}
    args: [proxy, sidecar, --domain, $(POD_NAMESPACE).svc.cluster.local]
    env:
    - {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: POD_NAMESPACE, valueFrom: {{fieldRef: {{fieldPath: metadata.namespace}}}}}}
    - {{name: INSTANCE_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: SERVICE_ACCOUNT, valueFrom: {{fieldRef: {{fieldPath: spec.serviceAccountName}}}}}}
    - {{name: CA_ADDR, value: "istiod.istio-system.svc:15012"}}
    - {{name: PROXY_CONFIG, value: "{{}}"}}
    readinessProbe: {{httpGet: {{path: /healthz/ready, port: 15021}}, periodSeconds: 1}}
    volumeMounts:
    - {{name: istio-token, mountPath: /var/run/secrets/tokens}}
    - {{name: istiod-ca-cert, mountPath: /var/run/secrets/istio}}
    - {{name: istio-envoy, mountPath: /etc/istio/proxy}}
  volumes:
  - name: istio-token
    projected: {{sources: [{{serviceAccountToken: {{audience: somebody-else, expirationSeconds: 3600, path: istio-token}}}}]}}
  - {{name: istiod-ca-cert, configMap: {{name: istio-ca-root-cert}}}}
  - {{name: istio-envoy, emptyDir: {{medium: Memory}}}}
"#
    ))
    .await?;
    let istiod = "jsonpath={.items[0].status.podIP}";
    let istiod = kube.kubectl_ok(&["-n", "istio-system", "get", "pod", "-l", "app=istiod", "-o", istiod]).await?;
    kube.eventually("the control plane refusing the token", STARTED, || async {
        let metrics = kube.http_get(&format!("http://{istiod}:15014/metrics")).await?;
        let metrics = String::from_utf8_lossy(metrics.body()).into_owned();
        let refused = metrics.lines().find(|line| line.starts_with("citadel_server_authentication_failure_count"));
        let count = refused.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse::<f64>().ok());
        ensure!(count.is_some_and(|count| count > 0.0), "no refusal counted: {refused:?}");
        Ok(())
    })
    .await?;
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    let ready = kube.kubectl_ok(&["-n", "plain", "get", "pod", "impostor", "-o", ready]).await?;
    ensure!(ready != "True", "a proxy with a token for another audience became ready");
    kube.kubectl_ok(&["-n", "plain", "delete", "pod", "impostor", "--grace-period=0", "--force"]).await?;
    Ok(())
}

/// The certificate that a TLS server shows, whatever it thinks of a client without one.
pub(crate) async fn server_certificate(kube: &KubeBox, address: &str) -> Result<Vec<u8>> {
    let seen = Arc::new(Seen::default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"istio".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("outbound_.9080_._.reviews.default.svc.cluster.local")?;
    let tcp = kube.connect(address.parse()?).await?;
    let handshake = tokio::time::timeout(Duration::from_secs(20), connector.connect(name, tcp)).await;
    let shown = seen.certificate.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    match shown {
        Some(certificate) => Ok(certificate),
        None => bail!("{address} showed no certificate: {:?}", handshake.map(|outcome| outcome.map(drop))),
    }
}

/// A verifier that only looks: what it sees is what the test is about.
#[derive(Debug, Default)]
struct Seen {
    certificate: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.certificate.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(certificate.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

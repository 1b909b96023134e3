//! The certificate authority that an Istio left in the namespace: identities survive the move.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::resources::{CA_SECRET, MESH_NAMESPACE, ROOT_CERT_CONFIG_MAP};

use super::{condition, in_force, says};
use crate::scenarios::mesh::security::server_certificate;
use crate::scenarios::mesh::{STARTED, Visitor, apply_sample, config, inject, operator_installed, pod};

/// Runs openssl in a folder.
fn openssl(folder: &std::path::Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().context("run openssl")?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The Secret as istiod makes it: five keys, the last three empty, RSA 2048 in PKCS#1, organisation = trust domain.
async fn put(kube: &KubeBox, cert: &str, key: &str) -> Result<()> {
    let encoded = |text: &str| serde_json::to_string(text);
    let secret = format!(
        "{{apiVersion: v1, kind: Secret, type: istio.io/ca-root, metadata: {{name: {CA_SECRET}, namespace: {MESH_NAMESPACE}}}, \
         stringData: {{ca-cert.pem: {}, ca-key.pem: {}, cert-chain.pem: '', root-cert.pem: '', key.pem: ''}}}}",
        encoded(cert)?,
        encoded(key)?
    );
    kube.apply(&secret).await.map(drop)
}

/// A key that is none is told by Secret and key, and left as it is; the whole authority becomes the mesh's.
pub(crate) async fn takeover(kube: &KubeBox) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let request = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 3650 -subj /O=cluster.local";
    let extensions =
        "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature";
    let arguments: Vec<&str> = request.split(' ').chain(extensions.split(' ')).collect();
    openssl(folder.path(), &arguments)?;
    let key = openssl(folder.path(), &["rsa", "-in", "key.pem", "-traditional"])?;
    ensure!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----"), "openssl gave no key in PKCS#1");
    let cert = std::fs::read_to_string(folder.path().join("cert.pem"))?;

    kube.kubectl_ok(&["create", "namespace", MESH_NAMESPACE]).await?;
    let damaged = key.get(..400).context("a short key")?;
    put(kube, &cert, damaged).await?;
    operator_installed(kube).await?;
    kube.kubectl_ok(&["apply", "-f", &config("samples/meshinstall.yaml").display().to_string()]).await?;
    let words = format!("Secret {MESH_NAMESPACE}/{CA_SECRET}, key ca-key.pem");
    says(kube, "default", "ControlPlaneReady", "False AuthorityUnusable", &words).await?;
    let left = secret_key(kube, "ca-key.pem").await?;
    ensure!(left == damaged, "the damaged key was overwritten");

    put(kube, &cert, &key).await?;
    in_force(kube, "default", names::VERSION).await?;
    let authority = condition(kube, "default", "ControlPlaneReady").await?;
    ensure!(authority.starts_with("True Available"), "{authority}");
    ensure!(secret_key(kube, "ca-key.pem").await? == key, "the key was written anew");
    let path = "jsonpath={.data.root-cert\\.pem}";
    kube.eventually("the root in every namespace", STARTED, || async {
        for namespace in ["default", MESH_NAMESPACE] {
            let root = kube.kubectl_ok(&["-n", namespace, "get", "cm", ROOT_CERT_CONFIG_MAP, "-o", path]).await?;
            ensure!(root.trim() == cert.trim(), "{ROOT_CERT_CONFIG_MAP} of {namespace} has another root");
        }
        Ok(())
    })
    .await
}

async fn secret_key(kube: &KubeBox, key: &str) -> Result<String> {
    let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", "secret", CA_SECRET, "-o", &template]).await
}

/// Bookinfo by this version; its certificates chain to the root that was taken over.
pub(crate) async fn bookinfo(kube: &KubeBox) -> Result<()> {
    inject::bookinfo(kube).await?;
    apply_sample(kube, "bookinfo/networking/bookinfo-gateway.yaml").await?;
    kube.eventually("the page", STARTED, || async { Visitor::anonymous(kube).await?.page().await.map(drop) }).await?;

    let folder = tempfile::tempdir()?;
    let name = pod(kube, "app=details").await?;
    let address = kube.kubectl_ok(&["-n", "default", "get", "pod", &name, "-o", "jsonpath={.status.podIP}"]).await?;
    let leaf = server_certificate(kube, &format!("{address}:9080")).await?;
    std::fs::write(folder.path().join("leaf.der"), leaf)?;
    std::fs::write(folder.path().join("root.pem"), secret_key(kube, "ca-cert.pem").await?)?;
    openssl(folder.path(), &["x509", "-inform", "der", "-in", "leaf.der", "-out", "leaf.pem"])?;
    let verified = openssl(folder.path(), &["verify", "-CAfile", "root.pem", "leaf.pem"])?;
    ensure!(verified.contains("OK"), "{verified}");
    Ok(())
}

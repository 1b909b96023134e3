//! The box's certificates and kubeconfigs: what `kubeadm` would have made.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::json;

use super::layout::{API_PORT, CLUSTER_DOMAIN, Layout, NODE_ADDRESS, NODE_NAME};

/// Who a certificate is for: common name and organisation, which Kubernetes reads as user and group.
struct Subject {
    file: &'static str,
    user: &'static str,
    group: Option<&'static str>,
}

const CLIENTS: [Subject; 6] = [
    Subject { file: "admin", user: "admin", group: Some("system:masters") },
    Subject { file: "kcm", user: "system:kube-controller-manager", group: None },
    Subject { file: "scheduler", user: "system:kube-scheduler", group: None },
    Subject { file: "proxy", user: "system:kube-proxy", group: None },
    Subject { file: "kubelet", user: "system:node:node1", group: Some("system:nodes") },
    Subject { file: "apiserver-kubelet-client", user: "apiserver-kubelet-client", group: Some("system:masters") },
];

/// The clients that get a kubeconfig; the API server's own client certificate is named by flags.
const KUBECONFIGS: [&str; 5] = ["admin", "kcm", "scheduler", "proxy", "kubelet"];

/// Writes `pki/` and the kubeconfigs of the box.
pub(crate) fn write(layout: &Layout) -> Result<()> {
    let ca = Authority::new("kubernetes")?;
    save(&layout.pki("ca.crt"), &ca.certificate)?;
    save(&layout.pki("ca.key"), &ca.issuer.key().serialize_pem())?;

    let node = IpAddr::V4(NODE_ADDRESS);
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let api_server_names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        .into_iter()
        .map(ToOwned::to_owned)
        .chain([format!("kubernetes.default.svc.{CLUSTER_DOMAIN}")]);
    let service = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
    ca.serving(layout, "apiserver", "kube-apiserver", api_server_names, &[service, node, loopback])?;
    ca.serving(layout, "kubelet-serving", NODE_NAME, [NODE_NAME.to_owned()], &[node])?;
    for subject in &CLIENTS {
        ca.client(layout, subject)?;
    }

    let front_proxy = Authority::new("front-proxy-ca")?;
    save(&layout.pki("front-proxy-ca.crt"), &front_proxy.certificate)?;
    let front_proxy_client = Subject { file: "front-proxy-client", user: "front-proxy-client", group: None };
    front_proxy.client(layout, &front_proxy_client)?;

    // Service account tokens: an EC key serves as well as the RSA one that kubeadm makes (ES256), and is made at once.
    let tokens = KeyPair::generate()?;
    save(&layout.pki("sa.key"), &tokens.serialize_pem())?;
    save(&layout.pki("sa.pub"), &tokens.public_key_pem())?;

    for user in KUBECONFIGS {
        let text = kubeconfig(layout, user, &format!("https://{NODE_ADDRESS}:{API_PORT}"));
        save(&layout.kubeconfig(user), &text)?;
    }
    Ok(())
}

/// JSON is YAML: a kubeconfig that names its files instead of carrying them.
fn kubeconfig(layout: &Layout, user: &str, server: &str) -> String {
    let name = format!("forestay-{}", layout.name());
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": server, "certificate-authority": layout.pki("ca.crt"),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate": layout.pki(&format!("{user}.crt")),
            "client-key": layout.pki(&format!("{user}.key")),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    });
    format!("{value:#}\n")
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new(name: &str) -> Result<Authority> {
        let mut params = params(name, None, Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), certificate })
    }

    fn serving(
        &self,
        layout: &Layout,
        file: &str,
        user: &str,
        names: impl IntoIterator<Item = String>,
        addresses: &[IpAddr],
    ) -> Result<()> {
        let mut params = params(user, None, names)?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(layout, file, params)
    }

    fn client(&self, layout: &Layout, subject: &Subject) -> Result<()> {
        let mut params = params(subject.user, subject.group, Vec::<String>::new())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(layout, subject.file, params)
    }

    fn issue(&self, layout: &Layout, file: &str, mut params: CertificateParams) -> Result<()> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        save(&layout.pki(&format!("{file}.crt")), &certificate.pem())?;
        save(&layout.pki(&format!("{file}.key")), &key.serialize_pem())
    }
}

fn params(user: &str, group: Option<&str>, names: impl IntoIterator<Item = String>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.into_iter().collect::<Vec<_>>())?;
    params.distinguished_name.remove(DnType::CommonName);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, user);
    Ok(params)
}

/// Keys and kubeconfigs are for root alone.
fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(|| format!("chmod {}", path.display()))
}

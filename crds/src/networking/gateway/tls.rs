//! What is wrong with the TLS settings of a server, of a Gateway or of a Sidecar.

use std::collections::HashSet;

use super::{ServerTlsMode, ServerTlsSettings, TlsProtocol};
use crate::check::Checker;

/// Cipher suites by OpenSSL's names, as Envoy takes them for TLS 1.2 and below.
const CIPHER_SUITES: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// The rules that Gateways and Sidecars share.
pub(in crate::networking) fn server_tls(c: &mut Checker, tls: &ServerTlsSettings) {
    versions_and_ciphers(c, tls);
    c.at_most_one(&[
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("serverCertificate", !tls.server_certificate.is_empty() && !tls.private_key.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ]);
    match tls.mode {
        ServerTlsMode::IstioMutual => {
            for (name, set) in files_and_secrets(tls) {
                match name {
                    _ if !set => {}
                    // Istio takes these two, and takes no notice of them.
                    "caCrl" | "caCertCredentialName" => {
                        c.warn(name, "has no effect for mode ISTIO_MUTUAL, which uses the mesh's own certificates");
                    }
                    _ => {
                        c.error(name, "must be left out for mode ISTIO_MUTUAL, which uses the mesh's own certificates");
                    }
                }
            }
        }
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            for (name, set) in files_and_secrets(tls) {
                if set {
                    c.warn(name, "has no effect, since its mode passes TLS through");
                }
            }
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => terminating(c, tls),
    }
}

fn terminating(c: &mut Checker, tls: &ServerTlsSettings) {
    if tls.tls_certificates.len() > 2 {
        c.warn("tlsCertificates", "has more than two: only the first two, an RSA and an ECDSA certificate, are used");
    }
    c.each("tlsCertificates", &tls.tls_certificates, |c, files| {
        c.required("serverCertificate", &files.server_certificate);
        c.required("privateKey", &files.private_key);
    });
    if !tls.credential_name.is_empty() || !tls.credential_names.is_empty() {
        return;
    }
    if tls.tls_certificates.is_empty() {
        for (name, file) in [("serverCertificate", &tls.server_certificate), ("privateKey", &tls.private_key)] {
            if file.is_empty() {
                c.error(name, "must be set for its mode, unless credentialName is");
            }
        }
    }
    let asks_clients = tls.mode != ServerTlsMode::Simple;
    if asks_clients && tls.ca_certificates.is_empty() && tls.ca_cert_credential_name.is_empty() {
        c.error("caCertificates", "must be set for its mode, unless credentialName is: clients are verified by them");
    }
    if !asks_clients && !tls.ca_crl.is_empty() {
        c.error("caCrl", "needs mode MUTUAL or OPTIONAL_MUTUAL: other modes ask clients for no certificate");
    }
}

/// Groups for the exchange of keys, by the names that BoringSSL takes.
const CURVES: [&str; 6] = ["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768", "P-224"];

fn versions_and_ciphers(c: &mut Checker, tls: &ServerTlsSettings) {
    let (low, high) = (tls.min_protocol_version, tls.max_protocol_version);
    if low != TlsProtocol::TlsAuto && high != TlsProtocol::TlsAuto && low > high {
        c.error("minProtocolVersion", "is above maxProtocolVersion");
    }
    if matches!(low, TlsProtocol::V1_0 | TlsProtocol::V1_1) && tls.cipher_suites.is_empty() {
        c.warn("cipherSuites", "must name suites of TLS 1.0 or 1.1: by default there are none left");
    }
    let mut seen = HashSet::new();
    for (index, suite) in tls.cipher_suites.iter().enumerate() {
        let name = format!("cipherSuites[{index}]");
        let is_new = seen.insert(suite);
        // `[A|B]` and `-ALL` are BoringSSL's own notation.
        let notation = !suite.starts_with(|first: char| first.is_alphanumeric());
        if !notation && suite != "ALL" && !CIPHER_SUITES.contains(&suite.as_str()) {
            c.warn(&name, format!("\"{suite}\" is not a cipher suite and is left out: use OpenSSL's names"));
        } else if !is_new {
            c.warn(&name, format!("\"{suite}\" is listed twice"));
        }
    }
    seen.clear();
    for (index, curve) in tls.ecdh_curves.iter().enumerate() {
        let name = format!("ecdhCurves[{index}]");
        let is_new = seen.insert(curve);
        if !CURVES.contains(&curve.as_str()) {
            c.warn(&name, format!("\"{curve}\" is not one of {}", CURVES.join(", ")));
        } else if !is_new {
            c.warn(&name, format!("\"{curve}\" is listed twice"));
        }
    }
}

fn files_and_secrets(tls: &ServerTlsSettings) -> [(&'static str, bool); 8] {
    [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("caCrl", !tls.ca_crl.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("caCertCredentialName", !tls.ca_cert_credential_name.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ]
}

#[cfg(test)]
mod tests {
    use super::{ServerTlsSettings, server_tls};
    use crate::check::Checker;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("passed through", "{}", &[]),
            ("from files", "{mode: SIMPLE, serverCertificate: a, privateKey: b}", &[]),
            ("from a Secret", "{mode: MUTUAL, credentialName: a}", &[]),
            ("from two Secrets", "{mode: MUTUAL, credentialNames: [a, b]}", &[]),
            (
                "with authorities",
                "{mode: MUTUAL, serverCertificate: a, privateKey: b, caCertificates: c, caCrl: d}",
                &[],
            ),
            (
                "the mesh's own",
                "{mode: ISTIO_MUTUAL, caCrl: a, caCertCredentialName: b, ecdhCurves: [X25519, P-256, X25519, P-1]}",
                &[
                    "spec.ecdhCurves[2]: \"X25519\" is listed twice",
                    "spec.ecdhCurves[3]: \"P-1\" is not one of P-256, P-384, P-521, X25519, X25519MLKEM768, P-224",
                    "spec.caCrl: has no effect for mode ISTIO_MUTUAL, which uses the mesh's own certificates",
                    "spec.caCertCredentialName: has no effect for mode ISTIO_MUTUAL, which uses the mesh's own certificates",
                ],
            ),
            (
                "the mesh's own, and others",
                "{mode: ISTIO_MUTUAL, credentialNames: [a]}",
                &[
                    "spec.credentialNames: must be left out for mode ISTIO_MUTUAL, which uses the mesh's own certificates",
                ],
            ),
            (
                "no certificate",
                "{mode: SIMPLE}",
                &[
                    "spec.serverCertificate: must be set for its mode, unless credentialName is",
                    "spec.privateKey: must be set for its mode, unless credentialName is",
                ],
            ),
            (
                "two ways",
                "{mode: SIMPLE, credentialName: a, tlsCertificates: [{serverCertificate: a, privateKey: b}]}",
                &["spec: has credentialName and tlsCertificates, of which only one can be"],
            ),
            (
                "no key",
                "{mode: SIMPLE, tlsCertificates: [{serverCertificate: a}]}",
                &["spec.tlsCertificates[0].privateKey: must be set"],
            ),
            (
                "no authorities",
                "{mode: OPTIONAL_MUTUAL, serverCertificate: a, privateKey: b}",
                &[
                    "spec.caCertificates: must be set for its mode, unless credentialName is: clients are verified by them",
                ],
            ),
            (
                "revocations without authorities",
                "{mode: SIMPLE, serverCertificate: a, privateKey: b, caCrl: c}",
                &["spec.caCrl: needs mode MUTUAL or OPTIONAL_MUTUAL: other modes ask clients for no certificate"],
            ),
            ("what is not used", "{caCrl: a}", &["spec.caCrl: has no effect, since its mode passes TLS through"]),
            (
                "the mesh's own certificate and another",
                "{mode: ISTIO_MUTUAL, privateKey: a}",
                &["spec.privateKey: must be left out for mode ISTIO_MUTUAL, which uses the mesh's own certificates"],
            ),
            (
                "cipher suites",
                "{mode: SIMPLE, credentialName: a, cipherSuites: [AES128-SHA, TLS_AES, '[AES128-SHA|AES256-SHA]', AES128-SHA]}",
                &[
                    "spec.cipherSuites[1]: \"TLS_AES\" is not a cipher suite and is left out: use OpenSSL's names",
                    "spec.cipherSuites[3]: \"AES128-SHA\" is listed twice",
                ],
            ),
            (
                "old versions",
                "{mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_1}",
                &["spec.cipherSuites: must name suites of TLS 1.0 or 1.1: by default there are none left"],
            ),
            (
                "no version",
                "{mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}",
                &["spec.minProtocolVersion: is above maxProtocolVersion"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let tls: ServerTlsSettings = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let mut c = Checker::of_spec();
            server_tls(&mut c, &tls);
            let problems: Vec<_> = c.finish().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}

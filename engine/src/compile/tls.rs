//! TLS contexts.

use xds::{
    any,
    types::{core, google, tls},
};

use super::{At, Checked, Invalid, Shared, absent, each, part};
use crate::ir::{
    text::TextMatch,
    tls::{
        Certificate, DownstreamTls, NameKind, NameMatch, Roots, TlsVersion, UpstreamTls, UpstreamTransport, Validation,
    },
};

/// The name of the proxy's own certificate.
const WORKLOAD: &str = "default";
/// The name of the mesh's roots.
const MESH_ROOTS: &str = "ROOTCA";

/// A filter chain's transport socket; `None` is plaintext.
pub(crate) fn downstream(socket: &core::TransportSocket) -> Checked<Option<DownstreamTls>> {
    let config = typed_config(socket)?;
    match part::type_name(Some(config)) {
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => Ok(None),
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" => {
            let context: tls::DownstreamTlsContext = any::unpack(config).map_err(Invalid::from).at("typed_config")?;
            terminate(&context).at("typed_config").map(Some)
        }
        other => Err(unknown(other)),
    }
}

/// A cluster's transport socket.
pub(crate) fn upstream(socket: &core::TransportSocket, shared: &Shared) -> Checked<UpstreamTransport> {
    let config = typed_config(socket)?;
    match part::type_name(Some(config)) {
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => Ok(UpstreamTransport::Plaintext),
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" => {
            let context: tls::UpstreamTlsContext = any::unpack(config).map_err(Invalid::from).at("typed_config")?;
            Ok(UpstreamTransport::Tls(originate(&context, shared).at("typed_config")?.into()))
        }
        other => Err(unknown(other)),
    }
}

fn unknown(type_name: &str) -> Invalid {
    Invalid::new(format!("transport sockets of type {type_name} are not supported by this proxy"))
}

fn typed_config(socket: &core::TransportSocket) -> Checked<&google::Any> {
    match &socket.config_type {
        Some(core::transport_socket::ConfigType::TypedConfig(config)) => Ok(config),
        None => Err(Invalid::missing("typed_config")),
    }
}

fn terminate(context: &tls::DownstreamTlsContext) -> Checked<DownstreamTls> {
    absent(context.require_sni.is_none_or(|require| !require.value), "require_sni")?;
    let require_client_certificate = context.require_client_certificate.is_some_and(|require| require.value);
    let common = context.common_tls_context.as_ref().ok_or_else(|| Invalid::missing("common_tls_context"))?;
    let inside = || -> Checked<DownstreamTls> {
        let validation = validation(common)?;
        if require_client_certificate && validation.is_none() {
            return Err(Invalid::new("a client certificate is required, but nothing says what it must chain to"))
                .at("validation_context_type");
        }
        let (min_version, max_version) = versions(common).at("tls_params")?;
        Ok(DownstreamTls {
            certificate: certificate(common)?.ok_or_else(|| Invalid::missing("tls_certificate_sds_secret_configs"))?,
            validation,
            require_client_certificate,
            alpn: alpn(common),
            min_version,
            max_version,
        })
    };
    inside().at("common_tls_context")
}

fn originate(context: &tls::UpstreamTlsContext, shared: &Shared) -> Checked<UpstreamTls> {
    let default = tls::CommonTlsContext::default();
    let common = context.common_tls_context.as_ref().unwrap_or(&default);
    let inside = || -> Checked<UpstreamTls> {
        let (min_version, max_version) = versions(common).at("tls_params")?;
        Ok(UpstreamTls {
            sni: (!context.sni.is_empty()).then(|| context.sni.as_str().into()),
            auto_sni: context.auto_host_sni,
            auto_san_validation: context.auto_sni_san_validation,
            certificate: certificate(common)?,
            validation: validation(common)?,
            alpn: shared.alpn.get(alpn(common)),
            min_version,
            max_version,
        })
    };
    inside().at("common_tls_context")
}

fn alpn(common: &tls::CommonTlsContext) -> Box<[Box<str>]> {
    common.alpn_protocols.iter().map(|protocol| protocol.as_str().into()).collect()
}

fn versions(common: &tls::CommonTlsContext) -> Checked<(Option<TlsVersion>, Option<TlsVersion>)> {
    use tls::tls_parameters::TlsProtocol;
    // Cipher suites, curves and signature algorithms are passed over: what this proxy offers is a fixed, modern set.
    let Some(params) = &common.tls_params else { return Ok((None, None)) };
    let min = match TlsProtocol::try_from(params.tls_minimum_protocol_version) {
        Ok(TlsProtocol::TlSv13) => Some(TlsVersion::V1_3),
        // Older ones are not spoken at all; a stricter proxy keeps the promise.
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11 | TlsProtocol::TlSv12) => Some(TlsVersion::V1_2),
        Ok(TlsProtocol::TlsAuto) => None,
        Err(_) => return Err(Invalid::unsupported("tls_minimum_protocol_version")),
    };
    let max = match TlsProtocol::try_from(params.tls_maximum_protocol_version) {
        Ok(TlsProtocol::TlSv13) => Some(TlsVersion::V1_3),
        Ok(TlsProtocol::TlSv12) => Some(TlsVersion::V1_2),
        Ok(TlsProtocol::TlsAuto) => None,
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) | Err(_) => {
            return Err(Invalid::unsupported("tls_maximum_protocol_version"));
        }
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(Invalid::new("is below the minimum version")).at("tls_maximum_protocol_version");
    }
    Ok((min, max))
}

fn certificate(common: &tls::CommonTlsContext) -> Checked<Option<Certificate>> {
    match (common.tls_certificate_sds_secret_configs.as_slice(), common.tls_certificates.as_slice()) {
        ([], []) => Ok(None),
        ([secret], []) => Ok(Some(match secret.name.as_str() {
            WORKLOAD => Certificate::Workload,
            "" => return Err(Invalid::missing("name")).at_index("tls_certificate_sds_secret_configs", 0),
            name => Certificate::Named(name.into()),
        })),
        ([], [certificate]) => {
            let inside = || -> Checked<Certificate> {
                let chain = file(certificate.certificate_chain.as_ref()).at("certificate_chain")?;
                // A key in the configuration would stand in every dump and log.
                let key = file(certificate.private_key.as_ref()).at("private_key")?;
                Ok(Certificate::Files { chain, key })
            };
            inside().at_index("tls_certificates", 0).map(Some)
        }
        ([_, _, ..], _) => {
            Err(Invalid::new("only one certificate is supported")).at("tls_certificate_sds_secret_configs")
        }
        _ => Err(Invalid::new("only one certificate is supported")).at("tls_certificates"),
    }
}

fn file(source: Option<&core::DataSource>) -> Checked<Box<str>> {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(core::data_source::Specifier::Filename(path)) => Ok(path.as_str().into()),
        _ => Err(Invalid::new("must be the name of a file")),
    }
}

fn validation(common: &tls::CommonTlsContext) -> Checked<Option<Validation>> {
    use tls::common_tls_context::ValidationContextType as Type;
    match &common.validation_context_type {
        None => Ok(None),
        Some(Type::ValidationContext(context)) => inline(context).at("validation_context"),
        Some(Type::ValidationContextSdsSecretConfig(secret)) => {
            let roots = named(&secret.name).at("validation_context_sds_secret_config")?;
            Ok(Some(Validation { roots, subject_alt_names: Box::default() }))
        }
        Some(Type::CombinedValidationContext(combined)) => {
            let inside = || -> Checked<Option<Validation>> {
                let empty = tls::CertificateValidationContext::default();
                let context = combined.default_validation_context.as_ref().unwrap_or(&empty);
                understood(context).at("default_validation_context")?;
                let subject_alt_names = names(context).at("default_validation_context")?;
                let Some(secret) = &combined.validation_context_sds_secret_config else {
                    return inline(context).at("default_validation_context");
                };
                let roots = named(&secret.name).at("validation_context_sds_secret_config")?;
                Ok(Some(Validation { roots, subject_alt_names }))
            };
            inside().at("combined_validation_context")
        }
        Some(_) => Err(Invalid::unsupported("validation_context_type")),
    }
}

fn named(name: &str) -> Checked<Roots> {
    match name {
        MESH_ROOTS => Ok(Roots::Mesh),
        "" => Err(Invalid::missing("name")),
        // Istio's name for a file in the pod.
        name => Ok(name
            .strip_prefix("file-root:")
            .map_or_else(|| Roots::Named(name.into()), |path| Roots::File(path.into()))),
    }
}

/// What would make a certificate be judged otherwise than we judge it.
fn understood(context: &tls::CertificateValidationContext) -> Checked<()> {
    absent(context.verify_certificate_hash.is_empty(), "verify_certificate_hash")?;
    absent(context.verify_certificate_spki.is_empty(), "verify_certificate_spki")?;
    absent(context.crl.is_none(), "crl")?;
    absent(!context.allow_expired_certificate, "allow_expired_certificate")?;
    absent(context.trust_chain_verification == 0, "trust_chain_verification")?;
    absent(context.custom_validator_config.is_none(), "custom_validator_config")
}

fn inline(context: &tls::CertificateValidationContext) -> Checked<Option<Validation>> {
    use core::data_source::Specifier;
    understood(context)?;
    let subject_alt_names = names(context)?;
    let roots = match context.trusted_ca.as_ref().and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::Filename(path)) => Roots::File(path.as_str().into()),
        Some(Specifier::InlineString(pem)) => Roots::Inline(pem.as_str().into()),
        Some(Specifier::InlineBytes(pem)) => {
            let pem = std::str::from_utf8(pem).map_err(|_| Invalid::new("is not PEM")).at("trusted_ca")?;
            Roots::Inline(pem.into())
        }
        Some(Specifier::EnvironmentVariable(_)) => return Err(Invalid::unsupported("trusted_ca.environment_variable")),
        None if context.system_root_certs.is_some() => Roots::System,
        // Envoy checks names only against a trusted chain.
        None if subject_alt_names.is_empty() => return Ok(None),
        None => return Err(Invalid::missing("trusted_ca")),
    };
    Ok(Some(Validation { roots, subject_alt_names }))
}

fn names(context: &tls::CertificateValidationContext) -> Checked<Box<[NameMatch]>> {
    use tls::subject_alt_name_matcher::SanType;
    let mut names = each("match_typed_subject_alt_names", &context.match_typed_subject_alt_names, |name| {
        let kind = match SanType::try_from(name.san_type) {
            Ok(SanType::Uri) => NameKind::Uri,
            Ok(SanType::Dns) => NameKind::Dns,
            Ok(SanType::IpAddress) => NameKind::Address,
            _ => return Err(Invalid::unsupported("san_type")),
        };
        let matcher = name.matcher.as_ref().ok_or_else(|| Invalid::missing("matcher"))?;
        let text = part::text(matcher).at("matcher")?;
        let text = if kind == NameKind::Address { address(text).at("matcher")? } else { text };
        Ok(NameMatch { kind: Some(kind), text })
    })?;
    names.extend(each("match_subject_alt_names", &context.match_subject_alt_names, |matcher| {
        Ok(NameMatch { kind: None, text: part::text(matcher)? })
    })?);
    Ok(names.into())
}

/// An exact address, as it is compared: `::0:1` is `::1`.
fn address(text: TextMatch) -> Checked<TextMatch> {
    let TextMatch::Exact { value, .. } = text else { return Ok(text) };
    let address: std::net::IpAddr =
        value.parse().map_err(|_| Invalid::new(format!("{value:?} is no IP address"))).at("exact")?;
    Ok(TextMatch::Exact { value: address.to_string().into(), ignore_case: false })
}

//! Forwarding, and what comes with it: clusters, rewrites, mirrors, hashing, faults, cross-origin policies.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::HeaderValue;
use xds::{
    any,
    types::{cors as http_cors, fault as http_fault, fault_common, google, route as message},
};

use super::{At, Checked, Invalid, Shared, absent, each, header, part, retry};
use crate::ir::{
    Fraction,
    fault::{AbortFault, AbortStatus, DelayFault, Fault},
    header::HeaderOps,
    retry::RetryPolicy,
    route::{Clusters, Cors, Forward, HashPolicy, HashSource, HostRewrite, Mirror, PathRewrite, WeightedCluster},
};

/// Envoy's time for an answer where a route does not say.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What a virtual host says for routes that say nothing.
pub(super) struct Defaults<'a> {
    pub(super) shared: &'a Shared,
    retry: Option<Arc<RetryPolicy>>,
    mirrors: Box<[Mirror]>,
    pub(super) overrides: Overrides,
}

impl<'a> Defaults<'a> {
    pub(super) fn of_host(host: &message::VirtualHost, shared: &'a Shared) -> Checked<Self> {
        let mut overrides = Overrides::read(&host.typed_per_filter_config)?;
        if let (None, Some(policy)) = (&overrides.cors, &host.cors) {
            overrides.cors = Some(Arc::new(cors(policy).at("cors")?));
        }
        Ok(Self {
            shared,
            retry: retry_policy(host.retry_policy.as_ref(), shared)?,
            mirrors: each("request_mirror_policies", &host.request_mirror_policies, |policy| mirror(policy, shared))?
                .into(),
            overrides,
        })
    }
}

/// `typed_per_filter_config`.
#[derive(Default)]
pub(super) struct Overrides {
    pub(super) fault: Option<Arc<Fault>>,
    pub(super) cors: Option<Arc<Cors>>,
}

impl Overrides {
    pub(super) fn read(configs: &HashMap<String, google::Any>) -> Checked<Self> {
        let mut overrides = Self::default();
        for (name, config) in configs {
            overrides.add(name, config).at(&format!("typed_per_filter_config[{name:?}]"))?;
        }
        Ok(overrides)
    }

    fn add(&mut self, name: &str, config: &google::Any) -> Checked<()> {
        match part::type_name(Some(config)) {
            "envoy.extensions.filters.http.fault.v3.HTTPFault" => {
                let message: http_fault::HttpFault = any::unpack(config)?;
                self.fault = Some(Arc::new(fault(&message)?));
            }
            "envoy.extensions.filters.http.cors.v3.CorsPolicy" => {
                let message: http_cors::CorsPolicy = any::unpack(config)?;
                self.cors = Some(Arc::new(filter_cors(&message)?));
            }
            // They only observe.
            _ if matches!(name, "istio.stats" | "istio.metadata_exchange" | "envoy.filters.http.grpc_stats") => {}
            other => return Err(Invalid::new(format!("settings of type {other} are not supported by this proxy"))),
        }
        Ok(())
    }
}

pub(super) fn forward(action: &message::RouteAction, defaults: &Defaults<'_>) -> Checked<Forward> {
    absent(action.metadata_match.is_none(), "metadata_match")?;
    absent(action.path_rewrite_policy.is_none(), "path_rewrite_policy")?;
    absent(action.path_rewrite.is_empty(), "path_rewrite")?;
    absent(action.early_data_policy.is_none(), "early_data_policy")?;
    absent(action.retry_policy_typed_config.is_none(), "retry_policy_typed_config")?;
    absent(action.rate_limits.is_empty(), "rate_limits")?;
    absent(action.internal_redirect_policy.is_none(), "internal_redirect_policy")?;
    absent(action.internal_redirect_action == 0, "internal_redirect_action")?;
    absent(action.hedge_policy.is_none(), "hedge_policy")?;
    let streams = action.max_stream_duration.as_ref();
    absent(streams.is_none_or(|streams| streams.grpc_timeout_header_offset.is_none()), "max_stream_duration")?;
    let max_grpc_timeout =
        streams.and_then(|streams| streams.grpc_timeout_header_max.as_ref()).or(action.max_grpc_timeout.as_ref());
    let timeout = action.timeout.as_ref();
    let shared = defaults.shared;
    let own_retry = retry_policy(action.retry_policy.as_ref(), shared)?;
    let mirrors = each("request_mirror_policies", &action.request_mirror_policies, |policy| mirror(policy, shared))?;
    let upgrades = action.upgrade_configs.iter().map(|upgrade| {
        let enabled = upgrade.enabled.as_ref().is_none_or(|enabled| enabled.value);
        (upgrade.upgrade_type.to_ascii_lowercase().into_boxed_str(), enabled)
    });
    Ok(Forward {
        clusters: clusters(action, shared)?,
        timeout: part::limit(timeout, "timeout", Some(TIMEOUT))?,
        max_grpc_timeout: part::optional_duration(max_grpc_timeout, "max_grpc_timeout")?,
        idle_timeout: part::optional_duration(action.idle_timeout.as_ref(), "idle_timeout")?,
        retry: if action.retry_policy.is_some() { own_retry } else { defaults.retry.clone() },
        rewrite: rewrite(action)?,
        host_rewrite: host_rewrite(action)?,
        append_x_forwarded_host: action.append_x_forwarded_host,
        mirrors: if mirrors.is_empty() { defaults.mirrors.clone() } else { mirrors.into() },
        hash: each("hash_policy", &action.hash_policy, hash_policy)?.into(),
        cluster_not_found_status: match action.cluster_not_found_response_code {
            0 => 503,
            1 => 404,
            2 => 500,
            _ => return Err(Invalid::unsupported("cluster_not_found_response_code")),
        },
        upgrades: upgrades.collect(),
    })
}

fn retry_policy(policy: Option<&message::RetryPolicy>, shared: &Shared) -> Checked<Option<Arc<RetryPolicy>>> {
    let policy = policy.map(|policy| retry::policy(policy).at("retry_policy")).transpose()?;
    Ok(policy.flatten().map(|policy| shared.retries.get(policy)))
}

fn clusters(action: &message::RouteAction, shared: &Shared) -> Checked<Clusters> {
    use message::route_action::ClusterSpecifier;
    let members = match action.cluster_specifier.as_ref().ok_or_else(|| Invalid::missing("cluster_specifier"))? {
        ClusterSpecifier::Cluster(name) if name.is_empty() => return Err(Invalid::missing("cluster")),
        ClusterSpecifier::Cluster(name) => vec![WeightedCluster {
            name: shared.texts.get(name.as_str()),
            weight: 1,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            host_rewrite: None,
        }],
        ClusterSpecifier::WeightedClusters(weighted) => {
            absent(weighted.random_value_specifier.is_none(), "weighted_clusters.random_value_specifier")?;
            each("weighted_clusters.clusters", &weighted.clusters, |weighted| member(weighted, shared))?
        }
        ClusterSpecifier::ClusterHeader(_) => return Err(Invalid::unsupported("cluster_header")),
        ClusterSpecifier::ClusterSpecifierPlugin(_) => return Err(Invalid::unsupported("cluster_specifier_plugin")),
        ClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            return Err(Invalid::unsupported("inline_cluster_specifier_plugin"));
        }
    };
    let total = members.iter().map(|member| u64::from(member.weight)).sum();
    if total == 0 {
        return Err(Invalid::new("the weights add up to nothing")).at("weighted_clusters");
    }
    Ok(Clusters { members: members.into(), total })
}

fn member(member: &message::weighted_cluster::ClusterWeight, shared: &Shared) -> Checked<WeightedCluster> {
    use message::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    absent(member.cluster_header.is_empty(), "cluster_header")?;
    absent(member.metadata_match.is_none(), "metadata_match")?;
    absent(member.typed_per_filter_config.is_empty(), "typed_per_filter_config")?;
    if member.name.is_empty() {
        return Err(Invalid::missing("name"));
    }
    let host_rewrite = match &member.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(Box::new(value(host).at("host_rewrite_literal")?)),
        None => None,
    };
    Ok(WeightedCluster {
        name: shared.texts.get(member.name.as_str()),
        weight: member.weight.as_ref().map_or(1, |weight| weight.value),
        request_headers: header::ops("request", &member.request_headers_to_add, &member.request_headers_to_remove)?,
        response_headers: header::ops("response", &member.response_headers_to_add, &member.response_headers_to_remove)?,
        host_rewrite,
    })
}

fn value(text: &str) -> Checked<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Invalid::new(format!("{text:?} is no host")))
}

fn rewrite(action: &message::RouteAction) -> Checked<Option<Box<PathRewrite>>> {
    match (action.prefix_rewrite.as_str(), &action.regex_rewrite) {
        ("", None) => Ok(None),
        ("", Some(rule)) => {
            let (pattern, substitution) = part::substitution(rule).at("regex_rewrite")?;
            Ok(Some(Box::new(PathRewrite::Regex { pattern, substitution })))
        }
        (prefix, None) => Ok(Some(Box::new(PathRewrite::Prefix(prefix.into())))),
        (_, Some(_)) => Err(Invalid::new("cannot stand beside prefix_rewrite")).at("regex_rewrite"),
    }
}

fn host_rewrite(action: &message::RouteAction) -> Checked<Option<Box<HostRewrite>>> {
    use message::route_action::HostRewriteSpecifier as Specifier;
    let rewrite = match &action.host_rewrite_specifier {
        None => None,
        Some(Specifier::HostRewriteLiteral(host) | Specifier::HostRewrite(host)) => {
            Some(HostRewrite::Literal(value(host).at("host_rewrite_literal")?))
        }
        Some(Specifier::AutoHostRewrite(auto)) => auto.value.then_some(HostRewrite::Endpoint),
        Some(Specifier::HostRewriteHeader(name)) => {
            Some(HostRewrite::Header(header::name(name).at("host_rewrite_header")?))
        }
        Some(Specifier::HostRewritePathRegex(_)) => return Err(Invalid::unsupported("host_rewrite_path_regex")),
    };
    Ok(rewrite.map(Box::new))
}

fn mirror(policy: &message::route_action::RequestMirrorPolicy, shared: &Shared) -> Checked<Mirror> {
    absent(policy.cluster_header.is_empty(), "cluster_header")?;
    absent(policy.request_headers_mutations.is_empty(), "request_headers_mutations")?;
    absent(policy.host_rewrite_literal.is_empty(), "host_rewrite_literal")?;
    if policy.cluster.is_empty() {
        return Err(Invalid::missing("cluster"));
    }
    let share = policy.runtime_fraction.as_ref().map_or(Ok(Fraction::ALWAYS), part::runtime_fraction);
    Ok(Mirror {
        cluster: shared.texts.get(policy.cluster.as_str()),
        share: share.at("runtime_fraction")?,
        shadow_suffix: !policy.disable_shadow_host_suffix_append,
    })
}

fn hash_policy(policy: &message::route_action::HashPolicy) -> Checked<HashPolicy> {
    use message::route_action::hash_policy::PolicySpecifier as Specifier;
    let source = match policy.policy_specifier.as_ref().ok_or_else(|| Invalid::missing("policy_specifier"))? {
        Specifier::Header(header) => {
            absent(header.regex_rewrite.is_none(), "header.regex_rewrite")?;
            HashSource::Header(header::name(&header.header_name).at("header.header_name")?)
        }
        Specifier::Cookie(cookie) => {
            absent(cookie.attributes.is_empty(), "cookie.attributes")?;
            HashSource::Cookie {
                name: cookie.name.as_str().into(),
                ttl: part::optional_duration(cookie.ttl.as_ref(), "cookie.ttl")?,
                path: cookie.path.as_str().into(),
            }
        }
        Specifier::ConnectionProperties(_) => HashSource::SourceIp,
        Specifier::QueryParameter(parameter) => HashSource::Query(parameter.name.as_str().into()),
        Specifier::FilterState(_) => return Err(Invalid::unsupported("filter_state")),
    };
    Ok(HashPolicy { source, terminal: policy.terminal })
}

/// A fault.
pub(super) fn fault(message: &http_fault::HttpFault) -> Checked<Fault> {
    absent(message.upstream_cluster.is_empty(), "upstream_cluster")?;
    absent(message.downstream_nodes.is_empty(), "downstream_nodes")?;
    absent(message.response_rate_limit.is_none(), "response_rate_limit")?;
    absent(message.max_active_faults.is_none(), "max_active_faults")?;
    Ok(Fault {
        delay: message.delay.as_ref().map(|delay| self::delay(delay).at("delay")).transpose()?,
        abort: message.abort.as_ref().map(|abort| self::abort(abort).at("abort")).transpose()?,
        headers: each("headers", &message.headers, header::matcher)?.into(),
    })
}

/// A fault without a percentage never happens, as in Envoy.
const NEVER: Fraction = Fraction { numerator: 0, denominator: 100 };

fn delay(delay: &fault_common::FaultDelay) -> Checked<DelayFault> {
    use fault_common::fault_delay::FaultDelaySecifier as Specifier;
    let duration = match delay.fault_delay_secifier.as_ref().ok_or_else(|| Invalid::missing("fixed_delay"))? {
        Specifier::FixedDelay(duration) => part::duration(duration).at("fixed_delay")?,
        Specifier::HeaderDelay(_) => return Err(Invalid::unsupported("header_delay")),
    };
    let share = delay.percentage.as_ref().map_or(Ok(NEVER), part::fraction).at("percentage")?;
    Ok(DelayFault { duration, share })
}

fn abort(abort: &http_fault::FaultAbort) -> Checked<AbortFault> {
    use http_fault::fault_abort::ErrorType;
    absent(abort.response_body.is_empty(), "response_body")?;
    let status = match abort.error_type.as_ref().ok_or_else(|| Invalid::missing("error_type"))? {
        ErrorType::HttpStatus(status) => u16::try_from(*status)
            .ok()
            .filter(|status| (200..=599).contains(status))
            .map(AbortStatus::Http)
            .ok_or_else(|| Invalid::new(format!("{status} is no status of a response")).within("http_status"))?,
        ErrorType::GrpcStatus(status) => AbortStatus::Grpc(*status),
        ErrorType::HeaderAbort(_) => return Err(Invalid::unsupported("header_abort")),
    };
    let share = abort.percentage.as_ref().map_or(Ok(NEVER), part::fraction).at("percentage")?;
    Ok(AbortFault { status, share })
}

/// The cross-origin policy of a route or virtual host.
pub(super) fn cors(policy: &message::CorsPolicy) -> Checked<Cors> {
    Ok(Cors {
        allow_origins: each("allow_origin_string_match", &policy.allow_origin_string_match, part::text)?.into(),
        allow_methods: policy.allow_methods.as_str().into(),
        allow_headers: policy.allow_headers.as_str().into(),
        expose_headers: policy.expose_headers.as_str().into(),
        max_age: policy.max_age.as_str().into(),
        allow_credentials: policy.allow_credentials.as_ref().is_some_and(|allow| allow.value),
        forward_not_matching_preflights: policy.forward_not_matching_preflights.as_ref().is_none_or(|on| on.value),
    })
}

/// The same policy, as the filter's own message has it.
fn filter_cors(policy: &http_cors::CorsPolicy) -> Checked<Cors> {
    Ok(Cors {
        allow_origins: each("allow_origin_string_match", &policy.allow_origin_string_match, part::text)?.into(),
        allow_methods: policy.allow_methods.as_str().into(),
        allow_headers: policy.allow_headers.as_str().into(),
        expose_headers: policy.expose_headers.as_str().into(),
        max_age: policy.max_age.as_str().into(),
        allow_credentials: policy.allow_credentials.as_ref().is_some_and(|allow| allow.value),
        forward_not_matching_preflights: policy.forward_not_matching_preflights.as_ref().is_none_or(|on| on.value),
    })
}

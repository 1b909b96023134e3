//! Listeners and filter chains.

use std::{sync::Arc, time::Duration};

use xds::{
    any,
    types::{core, google, http_connection_manager, listener as message, original_src, tcp_proxy},
};

use super::{At, Checked, Invalid, Proxy, Refused, absent, access_log, each, http_chain, part, tls};
use crate::ir::listener::{
    Chain, ChainAction, ChainMatch, Direction, Listener, Sniff, SourceType, TcpChain, TcpCluster, Transport,
};

/// Envoy's wait for a sniffer.
const SNIFF_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's idle time of a TCP connection.
const TCP_IDLE: Duration = Duration::from_hours(1);

/// A listener.
pub(crate) fn compile(message: &message::Listener, proxy: &Proxy) -> Result<Listener, Refused> {
    listener(message, proxy).map_err(|invalid| invalid.of("Listener", &message.name))
}

fn listener(message: &message::Listener, proxy: &Proxy) -> Checked<Listener> {
    absent(message.fcds_config.is_none(), "fcds_config")?;
    absent(message.filter_chain_matcher.is_none(), "filter_chain_matcher")?;
    absent(message.udp_listener_config.is_none(), "udp_listener_config")?;
    absent(message.api_listener.is_none(), "api_listener")?;
    let direction = match core::TrafficDirection::try_from(message.traffic_direction) {
        _ if proxy.gateway => Direction::Gateway,
        Ok(core::TrafficDirection::Inbound) => Direction::Inbound,
        Ok(core::TrafficDirection::Outbound | core::TrafficDirection::Unspecified) => Direction::Outbound,
        Err(_) => return Err(Invalid::unsupported("traffic_direction")),
    };
    let deprecated = message.deprecated_v1.as_ref().and_then(|v1| v1.bind_to_port.as_ref());
    let chains =
        each("filter_chains", &message.filter_chains, |message| chain(message, direction, proxy).map(Arc::new))?;
    unambiguous(&chains)?;
    let default_chain = message
        .default_filter_chain
        .as_ref()
        .map(|message| chain(message, direction, proxy).map(Arc::new).at("default_filter_chain"))
        .transpose()?;
    if chains.is_empty() && default_chain.is_none() {
        return Err(Invalid::new("there is no filter chain")).at("filter_chains");
    }
    let additional = each("additional_addresses", &message.additional_addresses, |additional| {
        part::socket_address(additional.address.as_ref()).at("address")
    })?;
    let (sniff, client_address_mark) = filters(message)?;
    Ok(Listener {
        name: message.name.as_str().into(),
        address: part::socket_address(message.address.as_ref()).at("address")?,
        additional_addresses: additional.into(),
        bind: message.bind_to_port.as_ref().or(deprecated).is_none_or(|bind| bind.value),
        use_original_dst: message.use_original_dst.as_ref().is_some_and(|original| original.value),
        transparent: message.transparent.as_ref().is_some_and(|transparent| transparent.value),
        client_address_mark,
        direction,
        sniff,
        chains: chains.into(),
        default_chain,
        provenance: part::provenance(message.metadata.as_ref()),
    })
}

/// The listener filters, and the mark of `original_src`.
fn filters(message: &message::Listener) -> Checked<(Sniff, Option<u32>)> {
    let mut mark = None;
    let mut sniff = Sniff {
        original_dst: false,
        tls: false,
        http: false,
        timeout: part::optional_duration(message.listener_filters_timeout.as_ref(), "listener_filters_timeout")?
            .unwrap_or(SNIFF_TIMEOUT),
        continue_on_timeout: message.continue_on_listener_filters_timeout,
    };
    for (index, filter) in message.listener_filters.iter().enumerate() {
        let config = match &filter.config_type {
            Some(message::listener_filter::ConfigType::TypedConfig(config)) => Some(config),
            Some(message::listener_filter::ConfigType::ConfigDiscovery(_)) => {
                return Err(Invalid::unsupported("config_discovery")).at_index("listener_filters", index);
            }
            None => None,
        };
        match (part::type_name(config), filter.name.as_str()) {
            ("envoy.extensions.filters.listener.original_dst.v3.OriginalDst", _)
            | ("", "envoy.filters.listener.original_dst") => sniff.original_dst = true,
            ("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", _)
            | ("", "envoy.filters.listener.tls_inspector") => sniff.tls = true,
            // `filter_disabled` only saves work on ports whose chains do not ask for the protocol.
            ("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", _)
            | ("", "envoy.filters.listener.http_inspector") => sniff.http = true,
            ("envoy.extensions.filters.listener.original_src.v3.OriginalSrc", _)
            | ("", "envoy.filters.listener.original_src") => {
                let original = || -> Checked<u32> {
                    let config: original_src::OriginalSrc =
                        config.map_or_else(|| Ok(original_src::OriginalSrc::default()), any::unpack)?;
                    absent(!config.bind_port, "bind_port")?;
                    Ok(config.mark)
                };
                mark = Some(original().at("typed_config").at_index("listener_filters", index)?);
            }
            (_, name) => {
                let reason = format!("the listener filter {name:?} is not supported by this proxy");
                return Err(Invalid::new(reason)).at_index("listener_filters", index);
            }
        }
    }
    Ok((sniff, mark))
}

/// Two chains for the very same connections: one of them would never serve any. Envoy refuses that too.
fn unambiguous(chains: &[Arc<Chain>]) -> Checked<()> {
    let mut seen: std::collections::HashMap<&ChainMatch, usize> = std::collections::HashMap::new();
    for (index, chain) in chains.iter().enumerate() {
        if let Some(other) = seen.insert(&chain.matches, index) {
            let reason = format!("matches the same connections as filter_chains[{other}]");
            return Err(Invalid::new(reason)).at("filter_chain_match").at_index("filter_chains", index);
        }
    }
    Ok(())
}

fn chain(message: &message::FilterChain, direction: Direction, proxy: &Proxy) -> Checked<Chain> {
    absent(message.use_proxy_proto.is_none_or(|proxy| !proxy.value), "use_proxy_proto")?;
    let empty = message::FilterChainMatch::default();
    let tls = match &message.transport_socket {
        Some(socket) => tls::downstream(socket).at("transport_socket")?.map(Arc::new),
        None => None,
    };
    Ok(Chain {
        name: message.name.as_str().into(),
        matches: matches(message.filter_chain_match.as_ref().unwrap_or(&empty)).at("filter_chain_match")?,
        tls,
        tls_handshake_timeout: part::limit(
            message.transport_socket_connect_timeout.as_ref(),
            "transport_socket_connect_timeout",
            None,
        )?,
        action: action(&message.filters, direction, proxy)?,
        provenance: part::provenance(message.metadata.as_ref()),
    })
}

fn matches(message: &message::FilterChainMatch) -> Checked<ChainMatch> {
    use message::filter_chain_match::ConnectionSourceType;
    absent(message.address_suffix.is_empty(), "address_suffix")?;
    absent(message.suffix_len.is_none(), "suffix_len")?;
    let transport = match message.transport_protocol.as_str() {
        "" => None,
        "tls" => Some(Transport::Tls),
        "raw_buffer" => Some(Transport::Plaintext),
        other => {
            return Err(Invalid::new(format!("{other:?} is not supported by this proxy"))).at("transport_protocol");
        }
    };
    let server_names = each("server_names", &message.server_names, |name| {
        if name.strip_prefix("*.").unwrap_or(name).contains('*') {
            return Err(Invalid::new(format!("{name:?}: a wildcard must be the first label")));
        }
        Ok(name.to_ascii_lowercase().into_boxed_str())
    })?;
    Ok(ChainMatch {
        destination_port: message
            .destination_port
            .as_ref()
            .map(|port| part::port(port.value).at("destination_port"))
            .transpose()?,
        destination: each("prefix_ranges", &message.prefix_ranges, part::network)?.into(),
        server_names: server_names.into(),
        transport,
        application_protocols: message.application_protocols.iter().map(|protocol| protocol.as_str().into()).collect(),
        direct_source: each("direct_source_prefix_ranges", &message.direct_source_prefix_ranges, part::network)?.into(),
        source_type: match ConnectionSourceType::try_from(message.source_type) {
            Ok(ConnectionSourceType::Any) => SourceType::Any,
            Ok(ConnectionSourceType::SameIpOrLoopback) => SourceType::SameIpOrLoopback,
            Ok(ConnectionSourceType::External) => SourceType::External,
            Err(_) => return Err(Invalid::unsupported("source_type")),
        },
        source: each("source_prefix_ranges", &message.source_prefix_ranges, part::network)?.into(),
        source_ports: each("source_ports", &message.source_ports, |port| part::port(*port))?.into(),
    })
}

/// Network filters: some of Istio's that only observe, then one that serves.
fn action(filters: &[message::Filter], direction: Direction, proxy: &Proxy) -> Checked<ChainAction> {
    let mut action = None;
    for (index, filter) in filters.iter().enumerate() {
        if action.is_some() {
            return Err(Invalid::new("comes after the filter that serves the connection")).at_index("filters", index);
        }
        action = network_filter(filter, direction, proxy).at_index("filters", index)?;
    }
    action.ok_or_else(|| Invalid::new("must end with tcp_proxy or http_connection_manager")).at("filters")
}

fn network_filter(filter: &message::Filter, direction: Direction, proxy: &Proxy) -> Checked<Option<ChainAction>> {
    let config = match &filter.config_type {
        Some(message::filter::ConfigType::TypedConfig(config)) => Some(config),
        Some(message::filter::ConfigType::ConfigDiscovery(_)) => return Err(Invalid::unsupported("config_discovery")),
        None => None,
    };
    match (part::type_name(config), config) {
        ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", Some(config)) => {
            tcp(config).at("typed_config").map(|chain| Some(ChainAction::Tcp(chain.into())))
        }
        ("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", Some(config)) => {
            let inside = || -> Checked<ChainAction> {
                let manager: http_connection_manager::HttpConnectionManager = any::unpack(config)?;
                Ok(ChainAction::Http(http_chain::compile(&manager, direction, proxy)?.into()))
            };
            inside().at("typed_config").map(Some)
        }
        // They observe, or exchange metadata in a way that this proxy does by its own means.
        _ if matches!(filter.name.as_str(), "istio.metadata_exchange" | "istio.stats" | "istio_authn") => Ok(None),
        (type_name, _) => {
            let name = &filter.name;
            Err(Invalid::new(format!("the network filter {name:?} ({type_name}) is not supported by this proxy")))
        }
    }
}

fn tcp(config: &google::Any) -> Checked<TcpChain> {
    use tcp_proxy::tcp_proxy::ClusterSpecifier;
    let message: tcp_proxy::TcpProxy = any::unpack(config)?;
    absent(message.tunneling_config.is_none(), "tunneling_config")?;
    absent(message.on_demand.is_none(), "on_demand")?;
    absent(message.metadata_match.is_none(), "metadata_match")?;
    absent(message.upstream_connect_mode == 0, "upstream_connect_mode")?;
    let clusters = match message.cluster_specifier.as_ref().ok_or_else(|| Invalid::missing("cluster_specifier"))? {
        ClusterSpecifier::Cluster(name) => vec![TcpCluster { name: name.as_str().into(), weight: 1 }],
        ClusterSpecifier::WeightedClusters(weighted) => {
            each("weighted_clusters.clusters", &weighted.clusters, |member| {
                absent(member.metadata_match.is_none(), "metadata_match")?;
                Ok(TcpCluster { name: member.name.as_str().into(), weight: member.weight })
            })?
        }
    };
    if clusters.iter().all(|cluster| cluster.weight == 0 || cluster.name.is_empty()) {
        return Err(Invalid::new("names no cluster with a weight")).at("cluster_specifier");
    }
    Ok(TcpChain {
        clusters: clusters.into(),
        idle_timeout: part::limit(message.idle_timeout.as_ref(), "idle_timeout", Some(TCP_IDLE))?,
        max_connect_attempts: message.max_connect_attempts.as_ref().map_or(1, |attempts| attempts.value.max(1)),
        access_logs: each("access_log", &message.access_log, access_log::compile)?.into(),
        stat_prefix: message.stat_prefix.into(),
    })
}

//! EnvoyFilter: patches of the configuration that Envoy gets.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde_json::{Map, Value};

use crate::message::message;
use crate::schema::at_most_one_of;
use crate::selector::LabelSelector;
use crate::status::IstioStatus;
use crate::target::PolicyTargetReference;

mod check;

message! {
    /// Patches of the configuration of some workloads' proxies.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1alpha3", kind = "EnvoyFilter", namespaced, schema = "disabled",
        status = "IstioStatus", derive = "PartialEq", derive = "Default",
        category = "istio-io", category = "networking-istio-io",
    )]
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "only one of targetRefs or workloadSelector can be set",
        "rule": "(has(self.workloadSelector) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    }]))]
    pub struct EnvoyFilterSpec {
        /// The workloads; all of the namespace (of the mesh, in the root namespace) when absent.
        pub workload_selector: Option<LabelSelector>,
        /// Waypoints and Gateways, instead of workloads.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Patches, in order.
        pub config_patches: Vec<ConfigPatch>,
        /// The order among several EnvoyFilters: lower first.
        pub priority: i32,
    }
}

message! {
    /// One patch, and where it belongs.
    pub struct ConfigPatch {
        /// What kind of thing is patched.
        pub apply_to: ApplyTo,
        /// Which of them; all when absent.
        #[serde(rename = "match")]
        pub matches: Option<ConfigMatch>,
        /// The patch.
        pub patch: Option<Patch>,
    }
}

message! {
    /// What kind of thing is patched.
    pub enum ApplyTo {
        /// Nothing: must be set.
        #[default]
        Invalid,
        /// A listener.
        Listener,
        /// A filter chain of a listener.
        FilterChain,
        /// A network filter of a filter chain.
        NetworkFilter,
        /// A filter of HTTP.
        HttpFilter,
        /// A route configuration.
        RouteConfiguration,
        /// A virtual host of a route configuration.
        VirtualHost,
        /// A route of a virtual host.
        HttpRoute,
        /// A cluster.
        Cluster,
        /// An extension's configuration.
        ExtensionConfig,
        /// The configuration that a proxy starts with.
        Bootstrap,
        /// A filter of a listener.
        ListenerFilter,
    }
}

message! {
    /// Which things are patched: all of these must hold.
    #[schemars(extend(
        "oneOf" = at_most_one_of(&["listener", "routeConfiguration", "cluster", "waypoint"]),
        "x-kubernetes-validations" = [{
            "message": "only support waypointMatch when context is WAYPOINT",
            "rule": "has(self.context) ? ((self.context == \"WAYPOINT\") ? has(self.waypoint) : !has(self.waypoint)) : !has(self.waypoint)",
        }],
    ))]
    pub struct ConfigMatch {
        /// What the configuration is for.
        pub context: PatchContext,
        /// Whose configuration it is.
        pub proxy: Option<ProxyMatch>,
        /// Which listener.
        pub listener: Option<ListenerMatch>,
        /// Which route configuration.
        pub route_configuration: Option<RouteConfigurationMatch>,
        /// Which cluster.
        pub cluster: Option<ClusterMatch>,
        /// Which part of a waypoint.
        pub waypoint: Option<WaypointMatch>,
    }
}

message! {
    /// What a configuration is for.
    pub enum PatchContext {
        /// Any of the following.
        #[default]
        Any,
        /// Connections to a sidecar's application.
        SidecarInbound,
        /// Connections of a sidecar's application.
        SidecarOutbound,
        /// A gateway.
        Gateway,
        /// A waypoint.
        Waypoint,
    }
}

message! {
    /// Whose configuration is patched.
    pub struct ProxyMatch {
        /// A regular expression (RE2) for the proxy's version.
        pub proxy_version: String,
        /// Metadata that the proxy must have.
        pub metadata: BTreeMap<String, String>,
    }
}

message! {
    /// Which listener is patched.
    pub struct ListenerMatch {
        /// The port of a Service or a gateway.
        pub port_number: u32,
        /// Not implemented, by Istio neither.
        pub port_name: String,
        /// Which filter chain.
        pub filter_chain: Option<FilterChainMatch>,
        /// The name of a listener filter.
        pub listener_filter: String,
        /// The listener's name.
        pub name: String,
    }
}

message! {
    /// Which filter chain is patched.
    pub struct FilterChainMatch {
        /// Its name.
        pub name: String,
        /// The server name it matches.
        pub sni: String,
        /// The transport protocol it matches: `raw_buffer` or `tls`.
        pub transport_protocol: String,
        /// The application protocols it matches, comma-separated.
        pub application_protocols: String,
        /// A network filter in it.
        pub filter: Option<FilterMatch>,
        /// The destination port it matches.
        pub destination_port: u32,
        /// The name of its transport socket.
        pub transport_socket: String,
    }
}

message! {
    /// Which network filter is meant.
    pub struct FilterMatch {
        /// Its name.
        pub name: String,
        /// A filter inside it.
        pub sub_filter: Option<SubFilterMatch>,
    }
}

message! {
    /// Which filter inside a network filter is meant.
    pub struct SubFilterMatch {
        /// Its name.
        pub name: String,
    }
}

message! {
    /// Which route configuration is patched.
    pub struct RouteConfigurationMatch {
        /// The port of a Service or a gateway.
        pub port_number: u32,
        /// The name of a gateway's port.
        pub port_name: String,
        /// A Gateway, as `namespace/name`.
        pub gateway: String,
        /// Which virtual host.
        pub vhost: Option<VirtualHostMatch>,
        /// The route configuration's name.
        pub name: String,
    }
}

message! {
    /// Which virtual host is patched.
    pub struct VirtualHostMatch {
        /// Its name, `host:port`.
        pub name: String,
        /// One of its domains.
        pub domain_name: String,
        /// Which route.
        pub route: Option<RouteMatch>,
    }
}

message! {
    /// Which route is patched.
    pub struct RouteMatch {
        /// Its name.
        pub name: String,
        /// What it does.
        pub action: RouteAction,
    }
}

message! {
    /// What a route does.
    pub enum RouteAction {
        /// Any of the following.
        #[default]
        Any,
        /// Forwards.
        Route,
        /// Redirects.
        Redirect,
        /// Answers.
        DirectResponse,
    }
}

message! {
    /// Which cluster is patched.
    pub struct ClusterMatch {
        /// The port of a Service.
        pub port_number: u32,
        /// The service's host in full.
        pub service: String,
        /// The subset.
        pub subset: String,
        /// The cluster's name.
        pub name: String,
    }
}

message! {
    /// Which part of a waypoint is patched.
    pub struct WaypointMatch {
        /// A filter.
        pub filter: Option<FilterMatch>,
        /// The port of a Service.
        #[schemars(schema_with = "crate::schema::port")]
        pub port_number: u32,
        /// A route.
        pub route: Option<WaypointRouteMatch>,
    }
}

message! {
    /// Which route of a waypoint is patched.
    pub struct WaypointRouteMatch {
        /// Its name.
        pub name: String,
    }
}

message! {
    /// What is done.
    pub struct Patch {
        /// How.
        pub operation: PatchOperation,
        /// With what: Envoy's own configuration.
        #[schemars(schema_with = "schema::free_form")]
        pub value: Option<Map<String, Value>>,
        /// Where among others a filter is added.
        pub filter_class: FilterClass,
    }
}

message! {
    /// How a patch is applied.
    pub enum PatchOperation {
        /// Not at all: must be set.
        #[default]
        Invalid,
        /// Merged into what is there.
        Merge,
        /// Added at the end.
        Add,
        /// What is there is removed.
        Remove,
        /// Inserted before what is there.
        InsertBefore,
        /// Inserted after what is there.
        InsertAfter,
        /// Inserted before all others.
        InsertFirst,
        /// In place of what is there.
        Replace,
        /// Merged, with lists in place of lists.
        MergeAndReplaceList,
    }
}

message! {
    /// Where among others a filter is added.
    pub enum FilterClass {
        /// By the operation alone.
        #[default]
        Unspecified,
        /// Behind the filters of authentication.
        Authn,
        /// Behind the filters of authorization.
        Authz,
        /// Before the filters of statistics.
        Stats,
    }
}

/// The parts of the schema that attributes cannot say.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(super) fn free_form(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

//! Type URLs of the resources that control plane and proxy exchange.

/// `envoy.config.cluster.v3.Cluster`
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// `envoy.config.endpoint.v3.ClusterLoadAssignment`
pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// `envoy.config.listener.v3.Listener`
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// `envoy.config.route.v3.RouteConfiguration`
pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// `envoy.config.route.v3.VirtualHost`
pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";

/// All of them, in the order in which additions must reach a proxy: what is named before what names it.
pub const PUSH_ORDER: [&str; 5] = [CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST];

/// The short name of a type as Istio's metrics and `syncz` say it.
pub fn short(type_url: &str) -> &'static str {
    match type_url {
        CLUSTER => "cds",
        ENDPOINTS => "eds",
        LISTENER => "lds",
        ROUTES => "rds",
        VIRTUAL_HOST => "vhds",
        _ => "unknown",
    }
}

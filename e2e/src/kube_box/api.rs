//! Clients of the box's API server.

use std::time::Duration;

use anyhow::{Context, Result};
use http::Uri;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::ServiceBuilder;

use super::layout::{API_PORT, Layout, NODE_ADDRESS};
use super::netns::NetworkNamespace;

pub(crate) async fn config(layout: &Layout) -> Result<Config> {
    let path = layout.kubeconfig("admin");
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("read {}", path.display()))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use {}", path.display()))
}

/// A client for processes that are in the box's network namespace.
pub(crate) async fn client_inside(layout: &Layout) -> Result<Client> {
    Client::try_from(config(layout).await?).context("make a client of the API server")
}

/// A client that works from anywhere on the machine: its connections are made in the box. It belongs to the runtime that
/// this is called on.
pub(crate) fn client_outside(config: &Config, network: &NetworkNamespace) -> Result<Client> {
    let network = network.clone();
    let connect = tower::service_fn(move |_: Uri| {
        let network = network.clone();
        async move { network.connect((NODE_ADDRESS, API_PORT).into()).await.map(TokioIo::new) }
    });
    let connector = config.rustls_https_connector_with_connector(connect).context("prepare TLS to the API server")?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new().layer(config.base_uri_layer()).service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// Waits until `/readyz` says ok.
pub(crate) async fn wait_ready(client: &Client) {
    while !is_ready(client).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn is_ready(client: &Client) -> bool {
    match http::Request::get("/readyz").body(Vec::new()) {
        Ok(request) => client.request_text(request).await.is_ok(),
        Err(_) => false,
    }
}

//! Which cluster, and which namespaces of it: the flags that people's verbs share.

use std::path::PathBuf;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use names::resources;

/// Kubernetes' own name for the namespace of who names none.
const DEFAULT_NAMESPACE: &str = "default";

/// The cluster and its namespaces, by the names that `istioctl` gives these flags.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
#[group(skip)]
pub(crate) struct Args {
    /// The file with clusters and credentials; $KUBECONFIG, ~/.kube/config or the pod's own account unless given
    #[arg(short = 'c', long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; its current one unless given
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace of what is asked about; the context's, else `default`, unless given
    #[arg(short, long)]
    namespace: Option<String>,
    /// The namespace of the control plane
    #[arg(short = 'i', long = "istioNamespace", alias = "istio-namespace", value_name = "NAMESPACE",
          default_value = resources::MESH_NAMESPACE)]
    pub(crate) istio_namespace: String,
}

impl Args {
    /// A client for the cluster.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match self.explicit()? {
            Some(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .with_context(|| format!("kubeconfig{}", self.chosen()))?,
            None => Config::infer().await.context("no Kubernetes API to talk to: is KUBECONFIG set?")?,
        };
        Client::try_from(config).context("no client for the Kubernetes API")
    }

    /// The namespace that was asked for: the flag's, the context's, else `default`. Needs no cluster; a kubeconfig that
    /// nobody named may be absent or broken.
    pub(crate) fn namespace(&self) -> anyhow::Result<String> {
        if let Some(namespace) = self.namespace.as_ref().filter(|namespace| !namespace.is_empty()) {
            return Ok(namespace.clone());
        }
        let kubeconfig = match self.explicit()? {
            Some(kubeconfig) => Some(kubeconfig),
            None => Kubeconfig::read().ok(),
        };
        let namespace = kubeconfig.as_ref().and_then(|kubeconfig| of_context(kubeconfig, self.context.as_deref()));
        Ok(namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned())
    }

    /// The kubeconfig, when file or context are named.
    fn explicit(&self) -> anyhow::Result<Option<Kubeconfig>> {
        Ok(match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let read = Kubeconfig::read_from(path);
                Some(read.with_context(|| format!("kubeconfig {}", path.display()))?)
            }
            (None, Some(_)) => Some(Kubeconfig::read().context("kubeconfig")?),
            (None, None) => None,
        })
    }

    fn chosen(&self) -> String {
        let file = self.kubeconfig.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
        let context = self.context.as_ref().map(|context| format!(", context {context}")).unwrap_or_default();
        file + &context
    }
}

fn of_context<'a>(kubeconfig: &'a Kubeconfig, context: Option<&str>) -> Option<&'a str> {
    let name = context.or(kubeconfig.current_context.as_deref())?;
    let named = kubeconfig.contexts.iter().find(|named| named.name == name)?;
    named.context.as_ref()?.namespace.as_deref().filter(|namespace| !namespace.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Kubeconfig, of_context};

    #[test]
    fn a_context_has_a_namespace() {
        let kubeconfig = Kubeconfig::from_yaml(
            "{apiVersion: v1, kind: Config, current-context: a, contexts: [\
             {name: a, context: {cluster: x, user: u, namespace: prod}}, {name: b, context: {cluster: x, user: u}}]}",
        )
        .unwrap();
        let rows =
            [("the current one", None, Some("prod")), ("by name", Some("b"), None), ("unknown", Some("c"), None)];
        for (name, context, expected) in rows {
            assert_eq!(of_context(&kubeconfig, context), expected, "{name}");
        }
    }
}

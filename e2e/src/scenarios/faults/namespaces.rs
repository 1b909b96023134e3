//! Namespaces that vanish under a mesh, and a node that is emptied.

use std::time::{Duration, Instant};

use anyhow::Result;
use forestay_e2e::kube_box::{KubeBox, NODE_NAME};

use super::{condition, installed, mesh_install, operator_available, ready, says};
use crate::scenarios::mesh::STARTED;

const WITH_EDGE: &str = r"
apiVersion: install.forestay.dev/v1alpha1
kind: MeshInstall
metadata: {name: default}
spec:
  profile: default
  webhook: {autoscaling: {minReplicas: 1, maxReplicas: 3}}
  gateways: [{name: edge-gateway, namespace: edge, type: ClusterIP}]
";

/// A gateway's namespace vanishes: the condition names the field, everything else goes on, and the gateway is back with it.
pub(crate) async fn of_a_gateway(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    kube.kubectl_ok(&["create", "namespace", "edge"]).await?;
    kube.apply(WITH_EDGE).await?;
    ready(kube, "default").await?;
    kube.kubectl_ok(&["delete", "namespace", "edge", "--timeout=240s"]).await?;
    let field = "spec.gateways[0].namespace";
    says(kube, "default", "Reconciled", "False", "NamespaceUnavailable", &[field, "does not exist; create it"]).await?;
    let install = mesh_install(kube, "default").await?;
    for part in ["ControlPlaneReady", "WebhookReady"] {
        let said = condition(&install, part);
        anyhow::ensure!(said["status"] == "True", "what ran before does not run on: {said}");
    }
    kube.kubectl_ok(&["create", "namespace", "edge"]).await?;
    ready(kube, "default").await?;
    kube.wait_for("edge", "deployment/edge-gateway", "condition=Available", STARTED).await?;
    installed(kube).await?;
    // Without it in the spec the gateway goes, and then its namespace is nobody's concern.
    kube.wait_for("edge", "deployment/edge-gateway", "delete", STARTED).await?;
    kube.kubectl_ok(&["delete", "namespace", "edge", "--timeout=240s"]).await.map(drop)
}

/// The mesh's own namespace is deleted: told while it goes, and installed again once it is gone. Then both are deleted at
/// once.
pub(crate) async fn of_the_mesh(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    // Something keeps it for as long as we look.
    let held = "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, namespace: istio-system, finalizers: [example.org/held]}}";
    kube.apply(held).await?;
    kube.kubectl_ok(&["delete", "namespace", "istio-system", "--wait=false"]).await?;
    says(kube, "default", "Reconciled", "False", "NamespaceUnavailable", &["spec.namespace", "is being deleted"])
        .await?;
    let release = r#"{"metadata":{"finalizers":null}}"#;
    kube.kubectl_ok(&["-n", "istio-system", "patch", "configmap", "held", "--type=merge", "-p", release]).await?;
    let gone = Instant::now();
    ready(kube, "default").await?;
    println!("    the mesh is back {:.1} s after its namespace may go", gone.elapsed().as_secs_f64());

    kube.apply(held).await?;
    kube.kubectl_ok(&["delete", "namespace", "istio-system", "--wait=false"]).await?;
    kube.kubectl_ok(&["delete", "mi", "default", "--timeout=240s"]).await?;
    kube.kubectl_ok(&["-n", "istio-system", "patch", "configmap", "held", "--type=merge", "-p", release]).await?;
    kube.wait_for("default", "namespace/istio-system", "delete", Duration::from_mins(3)).await
}

/// A node with one replica of each part is drained: the budgets let them go, one after the other.
pub(crate) async fn drain(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    // Of two pods one may go at a time, and on a single node it does not come back elsewhere.
    let one = ["-n", "istio-system", "scale", "deployment/istio-sidecar-injector", "--replicas=1"];
    kube.kubectl_ok(&one).await?;
    ready(kube, "default").await?;
    let begun = Instant::now();
    let flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s"];
    let drained = kube.kubectl_ok(&[&["drain", NODE_NAME], &flags[..]].concat()).await;
    let took = begun.elapsed();
    kube.kubectl_ok(&["uncordon", NODE_NAME]).await?;
    drained?;
    println!("    drained after {:.1} s", took.as_secs_f64());
    operator_available(kube).await?;
    ready(kube, "default").await
}

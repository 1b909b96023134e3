//! `forestay x check-inject`: whether a pod gets a sidecar, from which revision, why, and what to do if it should not be
//! so.
//!
//! * `subject`: what is asked about
//! * `hooks`: which webhook the API server asks, by its selectors
//! * `report`: what the webhook answers, by its own decision; notes for the user
//! * here: the reading of the cluster

mod hooks;
mod report;
mod subject;
#[cfg(test)]
mod tests;

use anyhow::Context as _;
use crds::install::MeshRevisionTag;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, ListParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use names::resources;
use webhook::inject::settings::Config;

use self::report::{Cluster, Injector, Subject};
use self::subject::Target;
use crate::cluster;
use crate::exit::{Code, Failure};

/// What to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `<pod>[.<namespace>]`, `<kind>/<name>[.<namespace>]` or `namespace/<name>`; without it a pod without labels
    #[arg(value_name = "[KIND/]NAME[.NAMESPACE]")]
    what: Option<String>,
    /// The labels of a pod that is not there yet: `app=a,version=v1`
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "what")]
    labels: Option<String>,
    #[command(flatten)]
    cluster: cluster::Args,
}

/// Prints the report. That a pod is not injected is no failure: the question was answered.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let namespace = args.cluster.namespace()?;
    let target = Target::of(args.what.as_deref(), args.labels.as_deref(), &namespace)
        .map_err(|error| Failure::new(Code::Usage, error))?;
    let client = args.cluster.client().await?;
    let subject = find(&client, target).await?;
    let cluster = look(&client, &subject, &args.cluster.istio_namespace).await?;
    print!("{}", report::report(&subject, &cluster, &args.cluster.istio_namespace).text());
    Ok(())
}

async fn find(client: &Client, target: Target) -> anyhow::Result<Subject> {
    let name = target.namespace();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = namespaces.get(name).await.with_context(|| format!("namespace {name}"))?;
    let namespace_labels = namespace.metadata.labels.unwrap_or_default();
    Ok(match target {
        Target::Namespace { name, labels } => Subject::of_namespace(&name, namespace_labels, &labels),
        Target::Object { kind, namespace, name } => {
            let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind.resource());
            let object = objects.get(&name).await.with_context(|| format!("{} {namespace}/{name}", kind.name))?;
            let object = serde_json::to_value(object).context("an object that is no JSON")?;
            Subject::of_object(kind, &namespace, namespace_labels, &name, &object)
        }
    })
}

/// Reads all webhook configurations, and of those that would be asked the settings and whether somebody answers.
async fn look(client: &Client, subject: &Subject, mesh_namespace: &str) -> anyhow::Result<Cluster> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let configurations = configurations.list(&ListParams::default()).await.context("webhook configurations")?.items;
    let hooks = hooks::analyze(&configurations, &subject.namespace_labels, &subject.labels);
    let mut cluster = Cluster { configurations, tags: tags(client).await, ..Cluster::default() };
    for hook in &hooks {
        for webhook in &hook.matching {
            let injector = report::injector(hook, webhook, mesh_namespace);
            let config = config(client, &injector).await.map_err(|error| format!("{error:#}"));
            cluster.injectors.insert(injector, config);
            if let Some((namespace, name)) = &webhook.service {
                match answers(client, namespace, name).await {
                    Ok(answers) => {
                        cluster.answering.insert((namespace.clone(), name.clone()), answers);
                    }
                    // Whoever may not read endpoints still gets the decision.
                    Err(error) => eprintln!("whether a webhook runs is not known: Service {namespace}/{name}: {error}"),
                }
            }
        }
    }
    Ok(cluster)
}

/// The tags that there are: none where Istio made them, or where they may not be read.
async fn tags(client: &Client) -> Vec<MeshRevisionTag> {
    let tags: Api<DeserializeGuard<MeshRevisionTag>> = Api::all(client.clone());
    match tags.list(&ListParams::default()).await {
        // One that cannot be read is a newer operator's.
        Ok(tags) => tags.items.into_iter().filter_map(|tag| tag.0.ok()).collect(),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Vec::new(),
        Err(error) => {
            eprintln!("whether a label names a tag is not known: MeshRevisionTags: {error}");
            Vec::new()
        }
    }
}

async fn config(client: &Client, (namespace, revision): &Injector) -> anyhow::Result<Config> {
    let name = resources::injector(revision);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = maps.get(&name).await.with_context(|| format!("ConfigMap {namespace}/{name}"))?;
    let text = map.data.as_ref().and_then(|data| data.get("config"));
    let text = text.with_context(|| format!("ConfigMap {namespace}/{name} has no key config"))?;
    crds::yaml::from_str(text).with_context(|| format!("ConfigMap {namespace}/{name}, key config"))
}

async fn answers(client: &Client, namespace: &str, service: &str) -> Result<bool, kube::Error> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = slices.list(&of_service).await?;
    // An unknown readiness counts as ready, as Kubernetes says.
    let ready = |slice: &EndpointSlice| {
        let mut endpoints = slice.endpoints.iter();
        endpoints.any(|endpoint| endpoint.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true))
    };
    Ok(slices.iter().any(ready))
}

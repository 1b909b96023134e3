//! Configuration from a folder of YAML, looked at again and again.
//!
//! The folder holds the objects that a cluster would (Services, EndpointSlices, Pods, Istio's kinds), in any number of
//! files and sub-folders; other kinds in them are passed over. The MeshConfig is in a ConfigMap, as in a cluster. A
//! file that cannot be read leaves everything that it said before in place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::yaml::Document;
use tokio_util::sync::CancellationToken;
use translate::model::change::{Key, Kind};
use translate::model::mesh::Mesh;
use translate::model::object::{self, ObjectError};

use super::Intake;
use super::kubernetes::KINDS;

/// How often the folder is looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// Folders in folders, at most; a symbolic link that goes round in a circle ends here.
const DEPTH: usize = 16;

/// What tells that a file changed without reading it.
type Stamp = (SystemTime, u64);

/// A folder of YAML as a source of objects.
pub(crate) struct Files {
    folder: PathBuf,
    mesh_config_map: String,
    intake: Arc<Intake>,
    stamps: BTreeMap<PathBuf, Stamp>,
    /// What each file said when it was last read.
    said: BTreeMap<PathBuf, BTreeSet<(Kind, Key)>>,
    /// What has been remarked on each file, so that nothing is told twice.
    told: BTreeMap<PathBuf, BTreeSet<String>>,
    epoch: u64,
}

impl Files {
    pub(crate) fn new(folder: &Path, revision: &str, intake: Arc<Intake>) -> Self {
        Self {
            folder: folder.to_owned(),
            mesh_config_map: names::resources::mesh_config(revision),
            intake,
            stamps: BTreeMap::new(),
            said: BTreeMap::new(),
            told: BTreeMap::new(),
            epoch: 0,
        }
    }

    /// Reads the folder now and whenever something in it changed, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.look();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// One look at the folder.
    pub(crate) fn look(&mut self) {
        let mut files = BTreeMap::new();
        list(&self.folder, DEPTH, &mut files);
        let epoch = *self.intake.epoch().borrow();
        if files == self.stamps && epoch == self.epoch && !self.stamps.is_empty() {
            return;
        }
        // The mesh's settings come first: the other objects are reduced under them.
        let texts: Vec<(&PathBuf, Option<String>)> = files.keys().map(|path| (path, read(path))).collect();
        let base = self.intake.mesh().borrow().clone();
        self.mesh(&base, &texts);
        let mesh = self.intake.mesh().borrow().clone();

        let mut said = BTreeMap::new();
        let mut owners: BTreeMap<(Kind, Key), PathBuf> = BTreeMap::new();
        for (path, text) in &texts {
            let found = match text {
                Some(text) => {
                    self.remark(path, text);
                    self.file(path, text, &mesh, &mut owners)
                }
                None => self.said.get(*path).cloned().unwrap_or_default(),
            };
            said.insert((*path).clone(), found);
        }
        for kind in KINDS {
            let of_kind = |(found, key): &(Kind, Key)| (*found == kind).then(|| key.clone());
            self.intake.listed(kind, &said.values().flatten().filter_map(of_kind).collect());
        }
        self.intake.arrived(Kind::Mesh);
        self.told.retain(|path, _| said.contains_key(path));
        self.said = said;
        self.epoch = *self.intake.epoch().borrow();
        self.stamps = files;
    }

    fn mesh(&self, base: &Mesh, texts: &[(&PathBuf, Option<String>)]) {
        let mut found = None;
        for (path, text) in texts {
            for document in crds::yaml::documents(text.as_deref().unwrap_or_default()).into_iter().flatten() {
                if document.kind() == "ConfigMap" && document.name() == self.mesh_config_map {
                    let text = document.value.pointer("/data/mesh").and_then(serde_json::Value::as_str);
                    found = Some((path, text.map(ToOwned::to_owned)));
                }
            }
        }
        let text = found.as_ref().and_then(|(_, text)| text.as_deref());
        match super::mesh(base, text) {
            Ok(mesh) => self.intake.set_mesh(mesh),
            Err(error) => {
                let path = found.map(|(path, _)| path.display().to_string()).unwrap_or_default();
                tracing::warn!("{path}: the MeshConfig cannot be read: {error}; the last good one stays in use");
            }
        }
    }

    /// Tells what an API server would have told the author of a file, once.
    fn remark(&mut self, path: &Path, text: &str) {
        let documents = crds::yaml::documents(text).into_iter().flatten();
        let remarks: BTreeSet<String> = documents.flat_map(|document| remarks(&document)).collect();
        let told = self.told.entry(path.to_owned()).or_default();
        for remark in remarks.difference(told) {
            tracing::warn!("{}: {remark}", path.display());
        }
        *told = remarks;
    }

    /// Reads one file; what it says, or what it said before where it cannot be read.
    fn file(
        &self,
        path: &Path,
        text: &str,
        mesh: &Mesh,
        owners: &mut BTreeMap<(Kind, Key), PathBuf>,
    ) -> BTreeSet<(Kind, Key)> {
        let mut found = BTreeSet::new();
        let mut broken = false;
        for document in crds::yaml::documents(text) {
            let document = match document {
                Ok(document) => document,
                Err(error) => {
                    tracing::warn!(
                        "{}:{}: {error}; what the file said before stays in use",
                        path.display(),
                        error.line
                    );
                    broken = true;
                    continue;
                }
            };
            let Some(kind) = KINDS.into_iter().find(|kind| kind.as_str() == document.kind()) else { continue };
            let key = Key::new(document.namespace().unwrap_or("default"), document.name());
            let name = (kind, key.clone());
            if let Some(other) = owners.insert(name.clone(), path.to_owned()) {
                tracing::warn!(
                    "{} {}/{} stands in {} and again in {}; the latter counts",
                    kind.as_str(),
                    key.namespace,
                    key.name,
                    other.display(),
                    path.display(),
                );
            }
            match object::from_document(document.value, mesh) {
                Ok(object) => {
                    self.intake.apply(object);
                    found.insert(name);
                }
                Err(ObjectError::Parse { source, .. }) => {
                    self.intake.reject(kind, &key, &source.to_string());
                    found.insert(name);
                }
                // Of another group (a Gateway of the Gateway API), or of no meaning here.
                Err(ObjectError::Kind { .. } | ObjectError::Meaningless { .. }) => {}
            }
        }
        if broken {
            found.extend(self.said.get(path).cloned().unwrap_or_default());
        }
        found
    }
}

/// What admission would have said about an object: that its kind is not in force, that it has fields which the kind does
/// not have, or that it does not fit the schema.
fn remarks(document: &Document) -> Vec<String> {
    let Some(kind) = crds::kinds::Kind::of(document.group(), document.kind()) else { return Vec::new() };
    let of = format!("{} {}/{}", kind.name(), document.namespace().unwrap_or("default"), document.name());
    let in_force = kind.not_in_force().map(ToOwned::to_owned);
    let unknown = kind.unknown(&document.value).into_iter().map(|field| field.to_string());
    let misfits = kind.schema_problems(&document.value).into_iter().map(|problem| problem.to_string());
    in_force.into_iter().chain(unknown).chain(misfits).map(|remark| format!("{of}: {remark}")).collect()
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path)
        .inspect_err(|error| tracing::warn!("{}: {error}; what it said before stays in use", path.display()))
        .ok()
}

fn list(folder: &Path, depth: usize, files: &mut BTreeMap<PathBuf, Stamp>) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!("{}: {error}", folder.display());
            return;
        }
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() && depth > 0 {
            list(&path, depth - 1, files);
        } else if metadata.is_file()
            && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            files.insert(path, (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::push::queue::Queue;

    struct Folder {
        path: tempfile::TempDir,
        files: Files,
        intake: Arc<Intake>,
        metrics: Arc<Metrics>,
        writes: u64,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let metrics = Arc::new(Metrics::new());
            let (queue, _) = Queue::new();
            let awaited = KINDS.into_iter().chain([Kind::Mesh]);
            let intake = Arc::new(Intake::new(Mesh::default(), awaited, queue, Arc::clone(&metrics)));
            let files = Files::new(folder.path(), "default", Arc::clone(&intake));
            Self { path: folder, files, intake, metrics, writes: 0 }
        }

        fn write(&mut self, name: &str, text: &str) {
            let path = self.path.path().join(name);
            std::fs::write(&path, text).unwrap();
            // Two writes within one tick of the file system's clock differ too.
            self.writes += 1;
            let stamp = SystemTime::UNIX_EPOCH + Duration::from_secs(self.writes);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(stamp).unwrap();
            self.files.look();
        }

        fn virtual_services(&self) -> Vec<String> {
            let inputs = self.intake.take().inputs;
            inputs.virtual_services.values().map(|it| format!("{} {:?}", it.name, it.spec.hosts)).collect()
        }
    }

    fn rule(name: &str, host: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
             spec: {{hosts: [{host}], http: [{{route: [{{destination: {{host: {host}}}}}]}}]}}\n---\n"
        )
    }

    #[test]
    fn a_folder_is_followed() {
        let mut folder = Folder::new();
        assert!(!*folder.intake.synced().borrow());
        folder.write("a.yaml", &(rule("a", "a.example") + &rule("b", "b.example") + "kind: Deployment\n"));
        assert!(*folder.intake.synced().borrow());
        assert_eq!(folder.virtual_services(), ["a [\"a.example\"]", "b [\"b.example\"]"]);
        folder.write("a.yaml", &rule("b", "c.example"));
        assert_eq!(folder.virtual_services(), ["b [\"c.example\"]"]);
        std::fs::remove_file(folder.path.path().join("a.yaml")).unwrap();
        folder.write("other.yaml", "");
        assert!(folder.virtual_services().is_empty());
    }

    #[test]
    fn what_cannot_be_read_leaves_the_last_good_version() {
        let mut folder = Folder::new();
        folder.write("a.yaml", &(rule("a", "a.example") + &rule("b", "b.example")));
        let bad = rule("a", "z.example").replace("http: [", "http: [{timeout: soon}, ");
        folder.write("a.yaml", &(bad + &rule("b", "c.example")));
        assert_eq!(folder.virtual_services(), ["a [\"a.example\"]", "b [\"c.example\"]"]);
        let unreadable = folder.intake.unreadable();
        assert_eq!(unreadable.len(), 1);
        assert!(unreadable[0].2.contains("spec.http[0].timeout"), "{unreadable:?}");
        let rejected = "pilot_total_rejected_configs{type=\"VirtualService\",name=\"default/a\"} 1";
        assert!(folder.metrics.text().contains(rejected));

        folder.write("a.yaml", "{ not: [ yaml");
        assert_eq!(folder.virtual_services(), ["a [\"a.example\"]", "b [\"c.example\"]"]);
        folder.write("a.yaml", &rule("a", "y.example"));
        assert_eq!(folder.virtual_services(), ["a [\"y.example\"]"]);
        assert!(!folder.metrics.text().contains(rejected), "it can be read again");
    }

    #[test]
    fn what_an_api_server_would_have_told_is_told() {
        let mut folder = Folder::new();
        let misspelt = rule("a", "a.example").replace("spec: {", "spec: {exportsTo: ['.'], gateways: [null], ");
        let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: n}\n";
        folder.write("a.yaml", &(misspelt + policy));
        let told = |folder: &Folder| folder.files.told.values().flatten().cloned().collect::<Vec<_>>();
        let remarks = told(&folder);
        assert_eq!(remarks.len(), 3, "{remarks:#?}");
        assert!(
            remarks[0].starts_with("AuthorizationPolicy n/p: AuthorizationPolicy is NOT ENFORCED"),
            "{}",
            remarks[0]
        );
        assert_eq!(remarks[1], "VirtualService default/a: spec.exportsTo: unknown field; did you mean exportTo?");
        assert_eq!(remarks[2], "VirtualService default/a: spec.gateways[0]: is null: leave the field out instead");
        folder.write("a.yaml", &rule("a", "a.example"));
        assert!(told(&folder).is_empty(), "mended");
    }

    #[test]
    fn the_mesh_config_is_in_a_config_map() {
        let mut folder = Folder::new();
        let map = |text: &str| {
            format!("kind: ConfigMap\napiVersion: v1\nmetadata: {{name: istio}}\ndata: {{mesh: {text:?}}}\n")
        };
        folder.write("mesh.yaml", &map("trustDomain: example.org"));
        assert_eq!(folder.intake.mesh().borrow().config.trust_domain, "example.org");
        folder.write("mesh.yaml", &map("trustDomain: [1"));
        assert_eq!(folder.intake.mesh().borrow().config.trust_domain, "example.org", "the last good one");
        folder.write("rule.yaml", &rule("a", "a.example"));
        folder.write("mesh.yaml", &map("defaultVirtualServiceExportTo: [.]"));
        let inputs = folder.intake.take().inputs;
        assert!(inputs.virtual_services.values().all(|it| !it.visibility.allows("other")), "reduced again");
    }
}

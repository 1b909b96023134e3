//! The statuses that this process has written last. The watch may be behind them, and what it still has is not to be taken
//! for what is there: a status that goes back to it would not be written, and since a status brings up no reconciliation the
//! wrong one would stay.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crds::install::{MeshInstall, MeshInstallStatus};
use kube::ResourceExt as _;
use tokio::time::Instant;

/// No watch that works is behind by more. Whatever is older then is what is there, as after etcd was restored from a backup,
/// whose versions begin again.
const BEHIND: Duration = Duration::from_mins(5);

/// By the name of the MeshInstall.
#[derive(Default)]
pub(crate) struct Written(Mutex<HashMap<String, Last>>);

struct Last {
    uid: Option<String>,
    version: u64,
    status: Option<MeshInstallStatus>,
    at: Instant,
}

impl Written {
    /// The API server has answered a write of the status with this.
    pub(crate) fn note(&self, written: &MeshInstall) {
        let Some(version) = version(written) else { return };
        let last = Last { uid: written.uid(), version, status: written.status.clone(), at: Instant::now() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(written.name_any(), last);
    }

    /// What the watch has, with the status that was written since, if one was.
    pub(crate) fn over<'a>(&self, watched: &'a MeshInstall) -> Cow<'a, MeshInstall> {
        self.over_at(watched, Instant::now())
    }

    fn over_at<'a>(&self, watched: &'a MeshInstall, now: Instant) -> Cow<'a, MeshInstall> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = all.get(&watched.name_any()).filter(|last| {
            last.uid == watched.uid()
                && version(watched).is_some_and(|version| version < last.version)
                && now.duration_since(last.at) < BEHIND
        });
        match newer {
            Some(last) => Cow::Owned(MeshInstall { status: last.status.clone(), ..watched.clone() }),
            None => Cow::Borrowed(watched),
        }
    }

    pub(super) fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Of two versions of one object the greater is the newer (Kubernetes' API concepts, "Resource versions").
fn version(of: &MeshInstall) -> Option<u64> {
    of.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use crds::install::MeshInstall;
    use serde_json::json;

    use tokio::time::Instant;

    use super::{BEHIND, Written};

    fn install(uid: &str, version: &str, state: &str) -> MeshInstall {
        serde_json::from_value(json!({
            "apiVersion": "install.forestay.dev/v1alpha1", "kind": "MeshInstall", "spec": {},
            "metadata": {"name": "default", "uid": uid, "resourceVersion": version}, "status": {"state": state},
        }))
        .expect("a MeshInstall")
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_it() {
        let written = Written::default();
        for (name, watched, state) in [
            ("behind", install("a", "9", "Healthy"), "Progressing"),
            ("as written", install("a", "10", "Progressing"), "Progressing"),
            ("newer", install("a", "11", "Healthy"), "Healthy"),
            ("another of its name", install("b", "9", "Healthy"), "Healthy"),
            ("versions that are no numbers", install("a", "x", "Healthy"), "Healthy"),
        ] {
            assert_eq!(written.over(&watched).as_ref(), &watched, "{name}: nothing was written yet");
            written.note(&install("a", "10", "Progressing"));
            let over = written.over(&watched);
            assert_eq!(over.status.as_ref().and_then(|status| status.state.as_deref()), Some(state), "{name}");
            let later = written.over_at(&watched, Instant::now() + BEHIND);
            assert_eq!(later.as_ref(), &watched, "{name}: no watch is behind for so long");
            written.forget("default");
        }
    }
}

//! `istio-init`, which redirects the pod's traffic, or `istio-validation`, which looks whether a CNI plugin did.

use crds::meshconfig::InterceptionMode;
use serde_json::{Value, json};

use crate::inject::subject::{Subject, insert_unless_empty};
use crate::inject::{INIT, VALIDATION};

impl Subject<'_> {
    /// None with interception mode NONE, where an application speaks to the proxy's ports itself.
    pub(crate) fn init_container(&self) -> Option<Value> {
        if self.interception == InterceptionMode::None {
            return None;
        }
        let global = self.global();
        let image = if global.proxy_init.image.contains('/') { global.proxy_init.image.clone() } else { self.image() };
        let mut container = json!({
            "name": if self.by_cni() { VALIDATION } else { INIT },
            "image": image,
            "args": self.redirection_arguments(),
            "resources": self.resources(),
            "securityContext": self.init_security_context(),
        });
        insert_unless_empty(&mut container, "env", &self.proxy_metadata());
        Some(self.with_pull_policy(container))
    }

    fn init_security_context(&self) -> Value {
        let privileged = self.global().proxy.privileged;
        let mut context = json!({
            "allowPrivilegeEscalation": privileged,
            "privileged": privileged,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": false,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
        });
        if self.by_cni() {
            // It is let out like the proxy itself, and so has to be the same user.
            let transparent = self.interception == InterceptionMode::Tproxy;
            let uid = self.run_as_user().filter(|_| !transparent).unwrap_or_else(|| self.proxy_uid());
            let gid = self.run_as_group().filter(|_| !transparent).unwrap_or_else(|| self.proxy_gid());
            context = json!({
                "allowPrivilegeEscalation": privileged,
                "privileged": privileged,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
                "runAsGroup": gid,
                "runAsNonRoot": true,
                "runAsUser": uid,
            });
        }
        let seccomp = &self.global().proxy.seccomp_profile;
        if let (Value::Object(context), false) = (&mut context, seccomp.is_empty()) {
            context.insert("seccompProfile".to_owned(), Value::Object(seccomp.clone()));
        }
        context
    }
}

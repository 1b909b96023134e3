//! `forestay kube-inject`.

use std::path::Path;

use super::{forestay, forestay_reading, samples};

/// Settings that need no cluster: those of the sample installation.
const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/samples/meshinstall.yaml");

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a}]}\n";

fn inject(arguments: &[&str], stdin: &str) -> super::Ended {
    forestay_reading(&[&["kube-inject", "--operatorFileName", INSTALL], arguments].concat(), stdin)
}

#[test]
fn bookinfo_gets_its_sidecars() {
    let Some(folder) = samples("bookinfo/platform/kube") else { return };
    let file = folder.join("bookinfo.yaml");
    let ended = forestay(&["kube-inject", "--operatorFileName", INSTALL, "-f", file.to_str().unwrap()]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.err);
    let before: Vec<_> = documents(&std::fs::read_to_string(&file).unwrap());
    let after = documents(&ended.out);
    assert_eq!(after.len(), before.len());
    let mut injected = 0;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before["kind"].as_str(), &before["metadata"]), (after["kind"].as_str(), &after["metadata"]));
        if before["kind"] == "Deployment" {
            let names: Vec<_> = after["spec"]["template"]["spec"]["initContainers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|container| container["name"].as_str().unwrap())
                .collect();
            assert_eq!(names, ["istio-init", "istio-proxy"]);
            injected += 1;
        } else {
            assert_eq!(before, after, "what has no pods stays as it is");
        }
    }
    assert_eq!(injected, 6, "the walkthrough's Deployments");
}

fn documents(text: &str) -> Vec<serde_json::Value> {
    crds::yaml::documents(text).into_iter().map(|document| document.unwrap().value).collect()
}

#[test]
fn input_and_output_go_where_they_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let service = "# kept\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n";
    std::fs::write(path("service.yaml"), service).unwrap();
    let ended = inject(&["-f", &path("service.yaml"), "-f", "-", "-o", &path("out.yaml")], POD);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "", ""), "{ended:?}");
    let written = std::fs::read_to_string(path("out.yaml")).unwrap();
    assert!(written.starts_with(service), "{written}");
    assert!(written.contains("name: istio-proxy\n"), "{written}");
    assert_eq!(documents(&written).len(), 2);
    // Injected again, nothing changes.
    let again = inject(&["-f", &path("out.yaml")], "");
    assert_eq!(documents(&again.out), documents(&written));
}

#[test]
fn what_is_passed_over_is_said_in_istios_words() {
    let text = POD.replace("spec: {", "spec: {hostNetwork: true, ");
    let ended = inject(&["-f", "-"], &text);
    assert_eq!((ended.code, ended.out.as_str()), (0, text.as_str()));
    assert_eq!(ended.err, "===> Skipping injection because Pod \"a\" has host networking enabled\n");
    let text = POD.replace("{name: a}\nspec", "{name: a, labels: {sidecar.istio.io/inject: \"false\"}}\nspec");
    let ended = inject(&["-f", "-"], &text);
    assert_eq!(ended.err, "===> Skipping injection because Pod \"a\" has sidecar injection disabled\n");
}

#[test]
fn a_mistake_names_file_document_line_and_object_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.yaml");
    let bad = POD.replace("{name: a}\nspec", "{name: b, annotations: {sidecar.istio.io/proxyCPU: many}}\nspec");
    let ended = inject(&["-f", "-", "-o", output.to_str().unwrap()], &format!("{POD}---\n{bad}"));
    assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
    assert!(ended.err.starts_with("standard input:5 (document 2): Pod \"b\""), "{}", ended.err);
    assert!(ended.err.contains("sidecar.istio.io/proxyCPU"), "{}", ended.err);
    assert!(!Path::new(&output).exists());
    let ended = inject(&["-f", "-"], "a: [\n");
    assert_eq!((ended.code, ended.out.as_str()), (65, ""), "{ended:?}");
    let ended = inject(&["-f", "/nonexistent/app.yaml"], "");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("/nonexistent/app.yaml"), "{}", ended.err);
}

#[test]
fn settings_come_from_files_or_from_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mesh = path("mesh.yaml", "defaultConfig: {discoveryAddress: \"istiod.mesh.svc:15012\"}\n");
    let config = path("config.yaml", "policy: enabled\ndefaultTemplates: [sidecar]\n");
    let values = path("values.json", r#"{"global": {"hub": "example.org/mesh", "tag": "9.9"}}"#);
    let files =
        ["kube-inject", "-f", "-", "--meshConfigFile", &mesh, "--injectConfigFile", &config, "--valuesFile", &values];
    let ended = forestay_reading(&files, POD);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(ended.out.contains("image: example.org/mesh/proxyv2:9.9\n"), "{}", ended.out);
    let ended = forestay_reading(&[&files[..], &["--nativeSidecars", "false"]].concat(), POD);
    let pod = &documents(&ended.out)[0];
    assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), 2, "a classic sidecar");

    // Without one of them the cluster is asked, and there is none.
    let ended = forestay_reading(&files[..7], POD);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("--valuesFile"), "{}", ended.err);

    let broken = path("mesh.yaml", "enableTracing: 7\n");
    let ended = forestay_reading(&files, POD);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert!(ended.err.contains(&format!("{broken}: enableTracing: invalid type")), "{}", ended.err);
}

/// The cluster's ConfigMaps of a revision, in the namespace that `-i` names.
#[test]
fn a_revisions_settings_are_read_from_its_config_maps() {
    use super::api_server::{ApiServer, list};
    use serde_json::json;
    let map = |data: serde_json::Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": data});
    let node = |version: &str| {
        json!({
            "metadata": {"name": version},
            "status": {"nodeInfo": {
                "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": version, "machineID": "", "operatingSystem": "linux",
                "osImage": "", "systemUUID": "",
            }},
        })
    };
    let values = r#"{"global": {"hub": "example.org/canary", "tag": "1"}}"#;
    let cluster = ApiServer::with(&[
        ("/api/v1/namespaces/mesh/configmaps/istio-canary", map(json!({"mesh": "trustDomain: example.org\n"}))),
        (
            "/api/v1/namespaces/mesh/configmaps/istio-sidecar-injector-canary",
            map(json!({"config": "defaultTemplates: [sidecar]\n", "values": values})),
        ),
        ("/api/v1/nodes", list("v1", "NodeList", &[node("v1.33.1"), node("v1.32.0")])),
    ]);
    let kubeconfig = cluster.kubeconfig();
    let arguments = ["kube-inject", "-f", "-", "-r", "canary", "-i", "mesh", "-c", kubeconfig.to_str().unwrap()];
    let ended = forestay_reading(&arguments, POD);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    let pod = &documents(&ended.out)[0];
    assert_eq!(pod["spec"]["containers"][1]["image"], "example.org/canary/proxyv2:1", "classic: one kubelet is old");
    let ended = forestay_reading(&[&arguments[..4], &["other"], &arguments[5..]].concat(), POD);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("ConfigMap mesh/istio-other"), "{}", ended.err);
}

//! `forestay validate`.

use serde_json::{Value, json};

use super::{forestay, forestay_reading, samples};

const REVIEWS: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec:\n  \
                       hosts: [reviews]\n  http: [{route: [{destination: {host: reviews}}]}]\n";

#[test]
fn upstreams_rules_are_valid() {
    let Some(folder) = samples("bookinfo/networking") else { return };
    let ended = forestay(&["validate", "-f", folder.to_str().unwrap()]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    let file = folder.join("virtual-service-all-v1.yaml");
    assert!(ended.out.contains(&format!("{file:?} is valid\n")), "{}", ended.out);
    // By its short name, several at once.
    let gateway = folder.join("bookinfo-gateway.yaml");
    let arguments = ["v", "-f", file.to_str().unwrap(), "-f", gateway.to_str().unwrap()];
    let ended = forestay(&arguments);
    assert_eq!((ended.code, ended.out.lines().count()), (0, 2), "{ended:?}");
}

#[test]
fn standard_input_has_no_name() {
    let ended = forestay_reading(&["validate", "-f", "-"], REVIEWS);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "validation succeeded\n", ""));
}

#[test]
fn a_mistake_names_file_document_line_object_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let misspelt = path("reviews.yaml", &format!("{REVIEWS}---\n{}", REVIEWS.replace("{route:", "{rout:")));
    let ended = forestay(&["validate", "-f", &misspelt, "-n", "shop"]);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
    let expected = format!(
        "{misspelt}:7 (document 2): VirtualService shop/reviews: spec.http[0].rout: unknown field; did you mean route?\n"
    );
    assert!(ended.err.contains(&expected), "{}", ended.err);
    assert!(ended.err.ends_with("occurred\n"), "{}", ended.err);

    let broken = path("broken.yaml", "a: [\n");
    let ended = forestay(&["validate", "-f", &misspelt, &broken]);
    assert_eq!(ended.code, 65, "text that is no YAML is the more basic mistake: {ended:?}");
    assert!(ended.err.contains(&format!("{broken}:")) && ended.err.contains("not YAML: "), "{}", ended.err);

    let ended = forestay(&["validate", "-f", "/nonexistent.yaml"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("/nonexistent.yaml"), "{}", ended.err);
}

#[test]
fn machines_get_a_list() {
    let text = format!("{}---\n{}", REVIEWS.replace("hosts:", "host:"), "apiVersion: v1\nkind: Service\n");
    let ended = forestay_reading(&["validate", "-f", "-", "-o", "json"], &text);
    assert_eq!((ended.code, ended.err.as_str()), (1, ""), "{ended:?}");
    let read: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(read[0]["valid"], json!(false));
    let finding = &read[0]["findings"][0];
    assert_eq!(finding["level"], "Error");
    assert_eq!((&finding["document"], &finding["line"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&finding["kind"], &finding["namespace"], &finding["name"]),
        (&json!("VirtualService"), &json!("default"), &json!("reviews"))
    );
    let yaml = forestay_reading(&["validate", "-f", "-", "-o", "yaml"], &text);
    assert_eq!(crds::yaml::value(&yaml.out).unwrap(), read);
}

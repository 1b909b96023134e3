//! `forestay completion`.

use super::forestay;

#[test]
fn every_shell_gets_a_script() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = forestay(&["completion", shell]);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{shell}");
        assert!(ended.out.contains("kube-inject") && ended.out.contains("istioNamespace"), "{shell}");
    }
}

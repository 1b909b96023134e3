//! `spec.addons`: which are deployed, which run elsewhere, and which an older MeshInstall of the namespace has.

use crds::install::AddonSpec;
use url::Url;

use super::{Invalid, RelatedImages, overlays, pods, syntax};
use crate::addons::{Addon, AddonKind, Addons};
use crate::meshinstall::dereference::Dereferenced;

/// What the rules of the schema say is said here again: a definition of another version may lack them, and files have no
/// API server before them.
pub(super) fn addons(read: &Dereferenced, related: &RelatedImages) -> Result<Addons, Invalid> {
    let Some(spec) = &read.spec.addons else { return Ok(Addons::default()) };
    let mut addons = Addons::default();
    let wanted = |kind: AddonKind| kind.of(spec).filter(|addon| addon.enabled);
    if wanted(AddonKind::Jaeger).is_some() && wanted(AddonKind::Zipkin).is_some() {
        let message = "excludes jaeger, both are the Services tracing and zipkin; set enabled: false on one of them";
        return Err(Invalid::spec("spec.addons.zipkin", message));
    }
    for kind in AddonKind::ALL {
        let Some(own) = wanted(kind) else { continue };
        let field = format!("spec.addons.{}", kind.as_str());
        fits(&field, kind, own)?;
        if let Some(url) = &own.external_url {
            addons.external.insert(kind, address(&field, url)?);
            continue;
        }
        overlays::check(&field, &own.overlays)?;
        syntax::resources(&format!("{field}.resources"), own.resources.as_ref())?;
        if let Some(image) = &own.image {
            syntax::image(&format!("{field}.image"), image)?;
        }
        let image = own.image.as_ref().or_else(|| related.addons.get(&kind));
        let addon = Addon {
            image: image.cloned().unwrap_or_else(|| kind.image().to_owned()),
            resources: own.resources.clone().unwrap_or_else(|| kind.resources()),
            persistence: own.persistence.clone(),
            pods: pods::settings(&field, own.pod.as_ref())?,
            overlays: own.overlays.clone(),
        };
        addons.deployed.insert(kind, addon);
        let older = read.others.iter().find(|other| {
            other.older
                && other.namespace == read.spec.namespace
                && other.addons.iter().any(|theirs| theirs.collides_with(kind))
        });
        if let Some(older) = older {
            addons.contested.insert(kind, older.name.clone());
        }
    }
    Ok(addons)
}

/// Whether the fields fit each other and the addon.
fn fits(field: &str, kind: AddonKind, own: &AddonSpec) -> Result<(), Invalid> {
    if own.persistence.is_some() && matches!(kind, AddonKind::Kiali | AddonKind::Zipkin) {
        let message = format!("{} keeps no data on a volume; remove it", kind.as_str());
        return Err(Invalid::spec(format!("{field}.persistence"), message));
    }
    if own.external_url.is_none() {
        return Ok(());
    }
    if kind == AddonKind::Kiali {
        let message = "nothing asks Kiali for anything; to use one elsewhere leave spec.addons.kiali out";
        return Err(Invalid::spec(format!("{field}.externalURL"), message));
    }
    let deploys = [
        ("image", own.image.is_some()),
        ("resources", own.resources.is_some()),
        ("persistence", own.persistence.is_some()),
        ("pod", own.pod.is_some()),
        ("overlays", !own.overlays.is_empty()),
    ];
    match deploys.into_iter().find(|(_, is_there)| *is_there) {
        Some((name, _)) => {
            Err(Invalid::spec(format!("{field}.{name}"), "with externalURL nothing is deployed; remove one of the two"))
        }
        None => Ok(()),
    }
}

/// An address that Grafana and Kiali can be configured with, without a slash at its end.
fn address(field: &str, url: &str) -> Result<String, Invalid> {
    let is_address = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !is_address {
        let message = format!("{url:?} is not an address such as https://prometheus.example.org:9090");
        return Err(Invalid::spec(format!("{field}.externalURL"), message));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

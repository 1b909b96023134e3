//! Every scenario, group by group.

mod addons;
mod admission;
mod boxes;
mod bundle;
mod faults;
pub(crate) mod footprint;
mod mesh;
mod probe;
mod scale;
mod upgrade;

use crate::runner::Group;

pub(crate) use boxes::{HOLD_WORD, hold};

/// The table of all scenarios.
pub(crate) fn all() -> Vec<Group> {
    let mut groups = vec![boxes::group(), bundle::group(), admission::group(), faults::group(), scale::group()];
    let samples = mesh::samples();
    if samples.exists() {
        groups.push(mesh::group());
        groups.push(addons::group());
        groups.push(upgrade::group());
    } else {
        eprintln!(
            "SKIPPED: groups mesh, addons and upgrade: {} is not there; set FORESTAY_SAMPLES to Istio's samples",
            samples.display()
        );
    }
    groups
}

//! Every scenario, group by group.

mod boxes;
pub(crate) mod footprint;
mod mesh;
mod probe;

use crate::runner::Group;

pub(crate) use boxes::{HOLD_WORD, hold};

/// The table of all scenarios.
pub(crate) fn all() -> Vec<Group> {
    vec![boxes::group(), mesh::group()]
}

//! Which models this version can run. One place, so that `search`, `show` and `fit` say the same, and a family that is
//! added to the engine is known here without a word.

use registry::{CatalogueEntry, CatalogueShape};

/// Whether a model of the catalogue can be run.
pub(crate) fn entry(entry: &CatalogueEntry) -> bool {
    family(&entry.family, CatalogueShape::is_encoder(&entry.family))
}

/// Whether a file can be run.
pub(crate) fn family(family: &str, is_encoder: bool) -> bool {
    match is_encoder {
        true => model::encoder::supported().contains(&family),
        false => model::families::supported().contains(&family),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use registry::Catalogue;

    use super::*;

    /// A family that the engine learns must be in the catalogue, with a model that people use.
    #[test]
    fn every_family_that_runs_has_a_model_in_the_catalogue() {
        let catalogue = Catalogue::embedded();
        let known: BTreeSet<&str> = catalogue.entries().iter().map(|entry| entry.family.as_str()).collect();
        for family in model::families::supported().into_iter().chain(model::encoder::supported()) {
            assert!(known.contains(family), "no model of the family {family} is in the catalogue");
        }
    }

    #[test]
    fn the_three_of_the_packages_run() {
        let catalogue = Catalogue::embedded();
        for name in ["smollm2", "gemma3:270m", "tinyllama"] {
            let found = catalogue.entries().iter().find(|entry| entry.name == name).expect("known");
            assert!(entry(found), "{name}");
        }
    }
}

//! What was on disk of DA, and what of it counts under another beginning of the store.

use crate::sync::{Change, DaNotes, DaPosition, ProvedBlock, Sighting};

/// What was on disk at start.
#[derive(Debug, Default)]
pub(in crate::sync) struct DaRecords {
    pub sightings: Vec<Sighting>,
    pub refused: Vec<DaPosition>,
    pub notes: DaNotes,
    /// Blocks that were seen, and whose sightings are not kept.
    pub gone: Vec<(DaPosition, ProvedBlock)>,
}

impl DaRecords {
    /// What is kept of it under another beginning, under which DA is read anew: that blocks were signed. And the changes by which the
    /// rest is forgotten.
    pub fn under_another_beginning(self) -> (Self, Vec<Change>) {
        let Self { sightings, refused, notes, mut gone } = self;
        let left = DaNotes { unremembered: notes.unremembered, ..DaNotes::default() };
        gone.extend(sightings.iter().filter_map(|seen| Some((seen.position, seen.what.proved()?))));
        let positions = sightings.into_iter().map(|seen| seen.position).chain(refused);
        let noted = (notes != left).then(|| Change::DaNotes(left.clone()));
        let changes = positions.map(Change::DropSighting).chain(noted).collect();
        (Self { notes: left, gone, ..Self::default() }, changes)
    }
}

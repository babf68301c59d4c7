//! The record of what is remembered of DA beside the sightings.
//!
//! An earlier version wrote the second half only, which begins with 0 or 1. What came later stands before it, after a byte of its own,
//! and is left out where there is none.

use bytes::Bytes;

use super::encoding::{Decoder, Encoder};
use crate::block::{Hash, PublicKey};
use crate::sync::{DaNotes, LeftOut, PassedOver, PassedOverRest, Unremembered};

/// No record of an earlier version begins with this byte.
const LATER: u8 = 2;

pub(super) fn encode(notes: &DaNotes) -> Vec<u8> {
    let mut encoder = Encoder::default();
    if notes.again_from.is_some() || notes.unremembered.is_some() {
        encoder.u8(LATER);
        encoder.opt(notes.again_from, |encoder, again| {
            encoder.position(again);
        });
        encoder.opt(notes.unremembered, |encoder, more| {
            encoder.height(more.height).position(more.from).position(more.through);
        });
    }
    encoder.opt(notes.left_out, |encoder, out| {
        encoder.height(out.height).position(out.position);
    });
    encoder.opt(notes.passed_over_above, |encoder, rest| {
        encoder.height(rest.from).height(rest.through).position(rest.position).raw(&rest.under.0);
    });
    for passed in &notes.passed_over {
        encoder.height(passed.height).raw(&passed.proposer.0).position(passed.position);
    }
    encoder.0
}

pub(super) fn decode(body: Bytes) -> Option<DaNotes> {
    let mut decoder = Decoder(body);
    let mut notes = DaNotes::default();
    if decoder.0.first() == Some(&LATER) {
        decoder.u8()?;
        notes.again_from = decoder.opt(Decoder::position)?;
        notes.unremembered = decoder.opt(|decoder| {
            Some(Unremembered { height: decoder.height()?, from: decoder.position()?, through: decoder.position()? })
        })?;
    }
    notes.left_out =
        decoder.opt(|decoder| Some(LeftOut { height: decoder.height()?, position: decoder.position()? }))?;
    notes.passed_over_above = decoder.opt(|decoder| {
        Some(PassedOverRest {
            from: decoder.height()?,
            through: decoder.height()?,
            position: decoder.position()?,
            under: Hash(decoder.array()?),
        })
    })?;
    while !decoder.0.is_empty() {
        let (height, proposer) = (decoder.height()?, PublicKey(decoder.array()?));
        notes.passed_over.push(PassedOver { height, proposer, position: decoder.position()? });
    }
    Some(notes)
}

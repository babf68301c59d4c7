//! Signing: with a key of our own, or by a host that keeps the key.
//!
//! 1. A signer outside is asked only once the guard that names the block is durable. Our own signature does not leave the
//!    process before the guard is, since the core's commit carries it.
//! 2. Every signature is checked before anything is done with it.
//! 3. One signature is asked for at a time: the core sees to it.

use bytes::Bytes;
use ed25519_dalek::Signer as _;
use tokio::sync::{mpsc, oneshot};

use super::Node;
use super::pool::{BlockChecker, CheckSource, Load};
use crate::api::{SIGNER_DEADLINE, SignRequest};
use crate::block::{Lane, PublicKey, native};
use crate::sync::{GuardEntry, Input, Ticket};

/// Who holds the proposer's key.
pub(super) enum KeyHolder {
    Local(Box<ed25519_dalek::SigningKey>),
    Host(mpsc::Sender<SignRequest>),
}

/// A block that waits for a signature from outside.
pub(super) struct Unsigned {
    pub(super) header_bytes: Bytes,
    pub(super) payload: Bytes,
    pub(super) guard: GuardEntry,
}

impl Node {
    /// A host offers to sign. A key file has precedence, and the key must be one that may propose.
    pub(super) fn set_signer(&mut self, key: PublicKey, signatures: mpsc::Sender<SignRequest>) -> Result<(), String> {
        if let Some(KeyHolder::Local(_)) = self.signer {
            return Err("this node signs with a key file of its own".to_owned());
        }
        if !self.has_guard {
            return Err("this node has no guard file (signer.guard), without which nothing is signed".to_owned());
        }
        if !self.syncer.rules().schedule.entries().any(|entry| entry.proposer == key) {
            return Err(format!("{key} proposes at no height of this chain"));
        }
        self.signer = Some(KeyHolder::Host(signatures));
        self.input(Input::Signer(Some(key)));
        Ok(())
    }

    pub(super) fn sign(&mut self, ticket: Ticket, unsigned: Unsigned) {
        match &self.signer {
            Some(KeyHolder::Local(key)) => {
                let signature = key.sign(&native::signing_message(&unsigned.header_bytes)).to_bytes();
                self.check_signed(ticket, unsigned, signature);
            }
            Some(KeyHolder::Host(_)) => {
                self.writer.guard(ticket, unsigned.guard);
                self.signing.insert(ticket, unsigned);
            }
            None => self.input(Input::Signed { ticket, outcome: Err("the signer is gone".to_owned()) }),
        }
    }

    /// The guard is durable: the signer outside may be asked.
    pub(super) fn ask_signer(&mut self, ticket: Ticket) {
        let Some(unsigned) = self.signing.get(&ticket) else { return };
        let (reply, signature) = oneshot::channel();
        let message = native::signing_message(&unsigned.header_bytes).into();
        let asked = match &self.signer {
            Some(KeyHolder::Host(signatures)) => {
                signatures.try_send(SignRequest { message, id: unsigned.guard.last, reply }).is_ok()
            }
            _ => false,
        };
        if asked {
            self.signatures.push(Box::pin(async move {
                let outcome = tokio::time::timeout(SIGNER_DEADLINE, signature).await;
                (ticket, outcome.ok().and_then(Result::ok))
            }));
        } else {
            self.signature(ticket, None);
        }
    }

    /// A signature has come from outside, or will not.
    pub(super) fn signature(&mut self, ticket: Ticket, signature: Option<[u8; 64]>) {
        let Some(unsigned) = self.signing.remove(&ticket) else { return };
        if let Some(signature) = signature {
            self.check_signed(ticket, unsigned, signature);
        } else {
            let outcome = Err("the host's signer did not sign: publish the same block again".to_owned());
            self.input(Input::Signed { ticket, outcome });
        }
    }

    /// Every signature is checked, our own too: a broken key must not become a broken chain.
    fn check_signed(&mut self, ticket: Ticket, unsigned: Unsigned, signature: [u8; 64]) {
        let load = Load::Block(unsigned.header_bytes.len() + unsigned.payload.len());
        let check = move |checker: &BlockChecker| {
            let bytes = native::encode(&unsigned.header_bytes, &signature, &unsigned.payload);
            let outcome = checker.check(Lane::BLOCK, &bytes);
            Input::Signed { ticket, outcome: outcome.map_err(|fault| format!("the signed block is refused: {fault}")) }
        };
        self.check(CheckSource::Signer, load, Box::new(check));
    }

    /// A host that took its signer away signs no longer.
    pub(super) fn look_at_signer(&mut self) {
        if let Some(KeyHolder::Host(signatures)) = &self.signer
            && signatures.is_closed()
        {
            self.signer = None;
            self.input(Input::Signer(None));
        }
    }
}

//! Hosts that keep the proposer's key to themselves.

use std::cell::RefCell;
use std::rc::Rc;

use blocksyncd::api::client::{BlockSigner, ClientError, PublishResult};
use blocksyncd::block::{BlockId, PublicKey};
use ed25519_dalek::{Signer as _, SigningKey};

use super::host::{Host, Ledger, Role, time_of};
use super::place::{Place, sign};
use super::{height, hosts};

/// A key that remembers what it was asked to sign.
#[derive(Debug)]
struct Key {
    key: SigningKey,
    asked: RefCell<Vec<BlockId>>,
}

impl Key {
    fn new(seed: u8) -> Rc<Self> {
        Rc::new(Self { key: SigningKey::from_bytes(&[seed; 32]), asked: RefCell::default() })
    }
}

impl BlockSigner for Key {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8], id: BlockId) -> Result<[u8; 64], String> {
        self.asked.borrow_mut().push(id);
        Ok(self.key.sign(message).to_bytes())
    }
}

#[test]
fn a_host_signs_what_its_sidecar_asks_it_to_and_is_never_asked_for_two_blocks_at_one_height() {
    let key = Key::new(5);
    let place = Place::with_key_at_host(&key.key);
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let mut b = Host::follower(&full).await;
        // Without a signer nothing can be made, and a stranger's key is none.
        let nobody = Host::publisher(&sequencer).await;
        let answer = nobody.try_publish(&Host::new_block(None, "one")).await;
        assert!(matches!(answer, PublishResult::NotReady { .. }), "{answer:?}");
        let stranger = Host::try_new(&sequencer, Role::Publisher, Ledger::default(), Some(Key::new(6))).await;
        assert!(matches!(stranger, Err(ClientError::NotSigner(_))), "{stranger:?}");

        let a = Host::signer(&sequencer, Ledger::default(), key.clone()).await;
        let chain = a.publish_first(2).await;
        assert_eq!(*key.asked.borrow(), chain);
        let other = Host::new_block(Some(chain[0]), "another second block");
        assert_eq!(a.try_publish(&other).await, PublishResult::Conflict(chain[1]));
        b.until_soft(2).await;
        assert_eq!(b.ledger.chain, chain);

        // The guard outlives the process.
        sequencer.kill();
        std::fs::remove_dir_all(place.store("seq")).unwrap();
        let sequencer = place.sequencer(&[]);
        let a = Host::signer(&sequencer, Ledger::default(), key.clone()).await;
        let answer = a.try_publish(&Host::new_block(None, "another first block")).await;
        assert!(matches!(answer, PublishResult::NotReady { .. }), "{answer:?}");
        assert_eq!(*key.asked.borrow(), chain, "it was not asked for anything else");
    });
}

#[test]
fn a_host_may_hand_over_blocks_that_it_has_signed_itself() {
    let key = SigningKey::from_bytes(&[8; 32]);
    let place = Place::with_key_at_host(&key);
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let first = sign(&key, None, time_of(height(1)), b"one");
        let PublishResult::Accepted(published) = a.try_publish_signed(&first.bytes).await else {
            panic!("it is next, and well signed")
        };
        assert_eq!((published.id, &published.signed_block), (first.id, &first.bytes), "carried as it is");
        // Large ones, too.
        let large = vec![7; 3 << 20];
        let second = sign(&key, Some(first.id), time_of(height(2)), &large);
        let answer = a.try_publish_signed(&second.bytes).await;
        assert!(matches!(answer, PublishResult::Accepted(_)));
        b.until_soft(2).await;
        assert_eq!((b.ledger.tip(), b.ledger.payloads[&2].len()), (Some(second.id), large.len()));

        // Another block at that height, a stranger's, and no block at all.
        let other = sign(&key, Some(first.id), time_of(height(2)), b"another");
        assert_eq!(a.try_publish_signed(&other.bytes).await, PublishResult::Conflict(second.id));
        let strangers = sign(&SigningKey::from_bytes(&[9; 32]), Some(second.id), time_of(height(3)), b"three");
        for bad in [&strangers.bytes[..], &second.bytes[1..], b"nonsense", b""] {
            let answer = a.try_publish_signed(bad).await;
            assert!(matches!(answer, PublishResult::Invalid(_)), "{answer:?}");
        }
        assert_eq!(a.stored(3).await, None);
    });
}

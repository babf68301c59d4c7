//! The node key names this node to its peers; it signs no blocks. Where it is kept is for the configuration.

use libp2p::identity::Keypair;

/// The peer id that goes with a node key's ed25519 seed, base58.
#[must_use]
pub fn peer_id_of(node_key: &[u8; 32]) -> String {
    keypair(node_key).public().to_peer_id().to_base58()
}

pub(super) fn keypair(node_key: &[u8; 32]) -> Keypair {
    // The library wipes the copy that it is given.
    let mut seed = *node_key;
    Keypair::ed25519_from_bytes(&mut seed[..]).expect("32 bytes are always a seed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_name() {
        let id = peer_id_of(&[7; 32]);
        assert_eq!(id, peer_id_of(&[7; 32]));
        assert_ne!(id, peer_id_of(&[8; 32]));
        assert!(id.starts_with("12D3KooW"), "an ed25519 key is inlined into the id: {id}");
    }
}

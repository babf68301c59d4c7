//! Which side began a connection.

use libp2p::core::ConnectedPoint;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// They dialled us.
    Inbound,
    /// We dialled them.
    Outbound,
}

impl From<&ConnectedPoint> for Direction {
    fn from(endpoint: &ConnectedPoint) -> Self {
        if endpoint.is_dialer() { Self::Outbound } else { Self::Inbound }
    }
}

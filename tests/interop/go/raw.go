// The role "raw": an adversary.

package main

import "context"

func newRaw(ctx context.Context, peer *Peer) (Commands, func(), error) {
	return Commands{}, func() {}, peer.connectAll(ctx)
}

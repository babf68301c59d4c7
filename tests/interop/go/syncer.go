// The role "syncer": all of go-header, as a full node of a Go chain has it: Syncer, Exchange, Subscriber, a store
// on badger, and a server for others.

package main

import (
	"context"
	"time"

	"github.com/celestiaorg/go-header/p2p"
	"github.com/celestiaorg/go-header/store"
	"github.com/celestiaorg/go-header/sync"
)

// forever is ev-node's trusting period and pruning window: 99 years.
const forever = 99 * 365 * 24 * time.Hour

// FullNode is a Go full node.
type FullNode struct {
	peer       *Peer
	store      *store.Store[*Block]
	exchange   *p2p.Exchange[*Block]
	subscriber *p2p.Subscriber[*Block]
	syncer     *sync.Syncer[*Block]
	tracked    *trackedPeers
	started    bool
}

func newSyncer(ctx context.Context, peer *Peer) (Commands, func(), error) {
	n := &FullNode{peer: peer, tracked: new(trackedPeers)}
	var err error
	var closeStore func()
	if n.store, closeStore, err = openStore(ctx, peer.flags); err != nil {
		return nil, nil, err
	}
	server, err := p2p.NewExchangeServer(peer.host, n.store, p2p.WithNetworkID[p2p.ServerParameters](peer.networkID()))
	if err != nil {
		return nil, nil, err
	}
	if err := server.Start(ctx); err != nil {
		return nil, nil, err
	}
	if n.exchange, err = startExchange(ctx, peer, n.tracked); err != nil {
		return nil, nil, err
	}
	if n.subscriber, err = startSubscriber[*Block](ctx, peer); err != nil {
		return nil, nil, err
	}
	n.syncer, err = sync.NewSyncer(n.exchange, n.store, n.subscriber,
		sync.WithBlockTime(time.Second), sync.WithTrustingPeriod(forever), sync.WithPruningWindow(forever),
		sync.WithSyncFromHeight(Rules.InitialHeight))
	if err != nil {
		return nil, nil, err
	}
	stop := func() {
		if n.started {
			_ = n.syncer.Stop(ctx)
		}
		closeStore()
	}
	return n.commands(), stop, peer.connectAll(ctx)
}

func (n *FullNode) commands() Commands {
	return Commands{
		"start": n.start,
		// Waits until the node has a height, and gives the hash that it has there.
		"wait": func(ctx context.Context, args *Args) (any, error) {
			block, err := n.store.GetByHeight(ctx, args.Height)
			return describe(block), err
		},
		// Asks the network for its head, which is how a Go node gets going again when gossip brings nothing.
		"head": func(ctx context.Context, _ *Args) (any, error) {
			head, err := n.syncer.Head(ctx)
			return describe(head), err
		},
		"headers": func(ctx context.Context, args *Args) (any, error) { return hashes(ctx, n.store, args.From, args.To) },
		"tracked": func(ctx context.Context, _ *Args) (any, error) { return n.tracked.stop(ctx, n.exchange) },
		"tail": func(ctx context.Context, _ *Args) (any, error) {
			tail, err := n.store.Tail(ctx)
			return describe(tail), err
		},
		// What an operator of a Go node on a branch that DA has decided against must do: take it back by hand.
		"rewind": n.rewind,
	}
}

// start begins to sync: it fails when no trusted peer has a head.
func (n *FullNode) start(ctx context.Context, _ *Args) (any, error) {
	if err := n.syncer.Start(ctx); err != nil {
		return nil, err
	}
	n.started = true
	return nil, tell(ctx, n.subscriber)
}

func (n *FullNode) rewind(ctx context.Context, args *Args) (any, error) {
	head, err := n.store.Head(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.store.DeleteRange(ctx, args.To+1, head.Height()+1); err != nil {
		return nil, err
	}
	head, err = n.store.Head(ctx)
	return describe(head), err
}

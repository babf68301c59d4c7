// The role "server": go-header's store and its exchange server, on a chain that is made here, as a sequencer
// written in Go has them. It publishes what it makes, and takes in from gossip what links to its head.

package main

import (
	"context"
	"encoding/hex"

	"github.com/celestiaorg/go-header"
	"github.com/celestiaorg/go-header/p2p"
	"github.com/celestiaorg/go-header/store"
)

// Server is a Go node without a syncer.
type Server struct {
	peer       *Peer
	store      *store.Store[*Block]
	subscriber *p2p.Subscriber[*Block]
}

func newServer(ctx context.Context, peer *Peer) (Commands, func(), error) {
	s := &Server{peer: peer}
	var err error
	var closeStore func()
	if s.store, closeStore, err = openStore(ctx, peer.flags); err != nil {
		return nil, nil, err
	}
	exchange, err := p2p.NewExchangeServer(peer.host, s.store, p2p.WithNetworkID[p2p.ServerParameters](peer.networkID()))
	if err != nil {
		return nil, nil, err
	}
	if err := exchange.Start(ctx); err != nil {
		return nil, nil, err
	}
	if s.subscriber, err = subscribe(ctx, peer, s.take); err != nil {
		return nil, nil, err
	}
	stop := func() {
		_ = exchange.Stop(ctx)
		closeStore()
	}
	commands := Commands{"build": s.build, "publish": s.publish, "headers": s.headers}
	return commands, stop, peer.connectAll(ctx)
}

// openStore also gives what ends the store: without it, the last blocks, up to 63, are not on disk.
func openStore(ctx context.Context, flags *Flags) (*store.Store[*Block], func(), error) {
	ds, err := flags.openDatastore()
	if err != nil {
		return nil, nil, err
	}
	s, err := store.NewStore[*Block](ds)
	if err != nil {
		return nil, nil, err
	}
	end := func() {
		_ = s.Stop(ctx)
		_ = ds.Close()
	}
	return s, end, s.Start(ctx)
}

// take is the verifier of what comes by gossip.
func (s *Server) take(ctx context.Context, block *Block) error {
	head, err := s.store.Head(ctx)
	if err != nil {
		return &header.VerifyError{Reason: err, SoftFailure: true}
	}
	if head.Height() >= block.Height() {
		return nil // our own
	}
	if err := header.Verify(head, block); err != nil {
		return err
	}
	return s.append(ctx, block)
}

func (s *Server) append(ctx context.Context, blocks ...*Block) error {
	if err := s.store.Append(ctx, blocks...); err != nil {
		return err
	}
	return s.store.Sync(ctx)
}

// head is nil while nothing is stored.
func (s *Server) head(ctx context.Context) *Block {
	head, err := s.store.Head(ctx)
	if err != nil {
		return nil
	}
	return head
}

// build makes the chain grow to a height, and stores it.
func (s *Server) build(ctx context.Context, args *Args) (any, error) {
	maker, err := newMaker(s.peer.flags.seed)
	if err != nil {
		return nil, err
	}
	chain := maker.Chain(s.head(ctx), args.To, args.Size, args.Branch)
	for len(chain) > 0 {
		page := chain[:min(len(chain), 512)]
		if err := s.append(ctx, page...); err != nil {
			return nil, err
		}
		chain = chain[len(page):]
	}
	return describe(s.head(ctx)), nil
}

// publish makes the next block, stores it and gossips it.
func (s *Server) publish(ctx context.Context, args *Args) (any, error) {
	maker, err := newMaker(s.peer.flags.seed)
	if err != nil {
		return nil, err
	}
	block := maker.Next(s.head(ctx), args.Size, args.Branch)
	if err := s.append(ctx, block); err != nil {
		return nil, err
	}
	return describe(block), s.subscriber.Broadcast(ctx, block)
}

// headers gives the hashes of what is stored, both ends included.
func (s *Server) headers(ctx context.Context, args *Args) (any, error) {
	return hashes(ctx, s.store, args.From, args.To)
}

func hashes(ctx context.Context, from header.Store[*Block], first, last uint64) ([]string, error) {
	var all []string
	for height := first; height <= last; height++ {
		block, err := from.GetByHeight(ctx, height)
		if err != nil {
			return nil, err
		}
		all = append(all, hex.EncodeToString(block.Hash()))
	}
	return all, nil
}

func describe(block *Block) any {
	if block.IsZero() {
		return nil
	}
	return object{"height": block.Height(), "hash": hex.EncodeToString(block.Hash())}
}

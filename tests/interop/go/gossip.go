// The roles "gossip" and "careless": go-header's Subscriber alone. The first checks what a stateless check can
// see; the second checks nothing and passes on everything, as ev-node's nodes do with the part of a block that
// carries no signature.
//
// Each header that a subscription delivers is the event "header".

package main

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"

	"github.com/celestiaorg/go-header"
	"github.com/celestiaorg/go-header/p2p"
)

// Careless is a block that nobody looks at closely.
type Careless struct {
	Block
}

var _ header.Header[*Careless] = (*Careless)(nil)

func (c *Careless) New() *Careless           { return new(Careless) }
func (c *Careless) IsZero() bool             { return c == nil || c.Block.IsZero() }
func (c *Careless) Validate() error          { return nil }
func (c *Careless) Verify(_ *Careless) error { return nil }

func newGossip(ctx context.Context, peer *Peer) (Commands, func(), error) {
	return gossip(ctx, peer, func(b *Block) *Block { return b })
}

func newCareless(ctx context.Context, peer *Peer) (Commands, func(), error) {
	return gossip(ctx, peer, func(b *Block) *Careless { return &Careless{Block: *b} })
}

func gossip[H header.Header[H]](ctx context.Context, peer *Peer, as func(*Block) H) (Commands, func(), error) {
	subscriber, err := subscribe(ctx, peer, func(context.Context, H) error { return nil })
	if err != nil {
		return nil, nil, err
	}
	publish := func(ctx context.Context, args *Args) (any, error) {
		bytes, err := hex.DecodeString(args.Block)
		if err != nil {
			return nil, err
		}
		block := new(Block)
		if err := block.UnmarshalBinary(bytes); err != nil {
			return nil, err
		}
		return nil, subscriber.Broadcast(ctx, as(block))
	}
	return Commands{"publish": publish}, func() {}, peer.connectAll(ctx)
}

// subscribe starts a subscriber with a verifier and one subscription.
func subscribe[H header.Header[H]](
	ctx context.Context, peer *Peer, verify func(context.Context, H) error,
) (*p2p.Subscriber[H], error) {
	subscriber, err := startSubscriber[H](ctx, peer)
	if err != nil {
		return nil, err
	}
	if err := subscriber.SetVerifier(verify); err != nil {
		return nil, err
	}
	return subscriber, tell(ctx, subscriber)
}

func startSubscriber[H header.Header[H]](ctx context.Context, peer *Peer) (*p2p.Subscriber[H], error) {
	ps, err := peer.newPubSub(ctx)
	if err != nil {
		return nil, err
	}
	subscriber, err := p2p.NewSubscriber[H](ps, pubsub.DefaultMsgIdFn, p2p.WithSubscriberNetworkID(peer.networkID()))
	if err != nil {
		return nil, err
	}
	go tellMesh(ctx, ps, p2p.PubsubTopicID(peer.networkID()))
	return subscriber, subscriber.Start(ctx)
}

// tell subscribes, which makes the node a part of the topic, and tells of what arrives.
func tell[H header.Header[H]](ctx context.Context, subscriber *p2p.Subscriber[H]) error {
	subscription, err := subscriber.Subscribe()
	if err != nil {
		return err
	}
	go func() {
		for {
			h, err := subscription.NextHeader(ctx)
			if err != nil {
				return
			}
			event("header", object{"height": h.Height(), "hash": hex.EncodeToString(h.Hash())})
		}
	}()
	return nil
}

// tellMesh says who else is on the topic, whenever that changes. The library has events for it only on what
// go-header keeps to itself, so it is looked at again and again.
func tellMesh(ctx context.Context, ps *pubsub.PubSub, topic string) {
	var before []string
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
		if now := names(ps.ListPeers(topic)); !slices.Equal(now, before) {
			before = now
			event("topic", object{"peers": now})
		}
	}
}

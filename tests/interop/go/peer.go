// What every role has: a libp2p host with a connection gater, as Celestia's and ev-node's nodes make it, and the
// commands that look at it from outside.

package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsub_pb "github.com/libp2p/go-libp2p-pubsub/pb"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/conngater"

	"github.com/celestiaorg/go-header/p2p"
)

// Peer is one libp2p peer.
type Peer struct {
	flags   *Flags
	host    host.Host
	gater   *conngater.BasicConnectionGater
	trusted []peer.AddrInfo
	scores  chan map[peer.ID]float64
}

func newPeer(flags *Flags) (*Peer, error) {
	gater, err := conngater.NewBasicConnectionGater(nil)
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(libp2p.ListenAddrStrings(flags.listen), libp2p.ConnectionGater(gater), libp2p.DisableRelay(),
		libp2p.UserAgent("gopeer"))
	if err != nil {
		return nil, err
	}
	p := &Peer{flags: flags, host: h, gater: gater, scores: make(chan map[peer.ID]float64, 1)}
	for _, address := range strings.FieldsFunc(flags.dial, func(r rune) bool { return r == ',' }) {
		info, err := peer.AddrInfoFromString(address)
		if err != nil {
			return nil, err
		}
		h.Peerstore().AddAddrs(info.ID, info.Addrs, time.Hour)
		p.trusted = append(p.trusted, *info)
	}
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			event("connected", object{"peer": c.RemotePeer().String()})
		},
		DisconnectedF: func(n network.Network, c network.Conn) {
			if n.Connectedness(c.RemotePeer()) != network.Connected {
				event("disconnected", object{"peer": c.RemotePeer().String()})
			}
		},
	})
	return p, nil
}

func (p *Peer) networkID() string { return Rules.ChainID + "-block" }

// protocolID is go-header's name of the range exchange, which it keeps to itself.
func (p *Peer) protocolID() protocol.ID {
	return protocol.ID("/" + p.networkID() + "/header-ex/v0.0.3")
}

func (p *Peer) trustedIDs() (ids peer.IDSlice) {
	for _, info := range p.trusted {
		ids = append(ids, info.ID)
	}
	return ids
}

func (p *Peer) addresses() (addresses []string) {
	for _, address := range p.host.Addrs() {
		addresses = append(addresses, fmt.Sprintf("%s/p2p/%s", address, p.host.ID()))
	}
	return addresses
}

// newPubSub is pubsub with scoring, which go-header offers and leaves to the application: it shows what we do to
// our score.
func (p *Peer) newPubSub(ctx context.Context) (*pubsub.PubSub, error) {
	options := []pubsub.Option{pubsub.WithMaxMessageSize(p.flags.max), pubsub.WithEventTracer(grafts{})}
	if p.flags.router == "flood" {
		return pubsub.NewFloodSub(ctx, p.host, options...)
	}
	topic := p2p.GossibSubScore
	params := &pubsub.PeerScoreParams{
		AppSpecificScore: func(peer.ID) float64 { return 0 },
		DecayInterval:    time.Second,
		DecayToZero:      0.01,
		Topics:           map[string]*pubsub.TopicScoreParams{p2p.PubsubTopicID(p.networkID()): &topic},
	}
	thresholds := &pubsub.PeerScoreThresholds{
		GossipThreshold: -10, PublishThreshold: -50, GraylistThreshold: -100,
		AcceptPXThreshold: 100, OpportunisticGraftThreshold: 1,
	}
	options = append(options, pubsub.WithPeerScore(params, thresholds),
		pubsub.WithPeerScoreInspect(func(scores map[peer.ID]float64) {
			select {
			case p.scores <- scores:
			default:
			}
		}, 100*time.Millisecond))
	if p.flags.router == "gossip11" {
		options = append(options, pubsub.WithGossipSubProtocols(
			[]protocol.ID{pubsub.GossipSubID_v11}, pubsub.GossipSubDefaultFeatures))
	}
	return pubsub.NewGossipSub(ctx, p.host, options...)
}

// grafts tells with whom a mesh has been made: a Go node publishes to nobody else, if not told to.
type grafts struct{}

func (grafts) Trace(traced *pubsub_pb.TraceEvent) {
	if graft := traced.GetGraft(); graft != nil {
		event("graft", object{"peer": peer.ID(graft.GetPeerID()).String()})
	}
}

func (p *Peer) connectAll(ctx context.Context) error {
	for _, info := range p.trusted {
		if err := p.host.Connect(ctx, info); err != nil {
			return err
		}
	}
	return nil
}

func (p *Peer) commands() Commands {
	return Commands{
		"connect": func(ctx context.Context, args *Args) (any, error) {
			info, err := peer.AddrInfoFromString(args.Address)
			if err != nil {
				return nil, err
			}
			return nil, p.host.Connect(ctx, *info)
		},
		"peers": func(context.Context, *Args) (any, error) { return names(p.host.Network().Peers()), nil },
		// Whom go-header, or we, have shut out for ever.
		"blocked": func(context.Context, *Args) (any, error) { return names(p.gater.ListBlockedPeers()), nil },
		// The lowest score that a peer has in GossipSub right now; the second answer is newer than the question.
		"score": func(ctx context.Context, args *Args) (any, error) {
			var scores map[peer.ID]float64
			for range 2 {
				select {
				case scores = <-p.scores:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			for id, score := range scores {
				if id.String() == args.Peer {
					return score, nil
				}
			}
			return nil, fmt.Errorf("no score of %s among %d", args.Peer, len(scores))
		},
	}
}

func names(ids []peer.ID) []string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, id.String())
	}
	sort.Strings(names)
	return names
}

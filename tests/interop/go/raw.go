// The role "raw": an adversary, with a chain in hand that is as good as anybody's, or with its blocks bent. It
// speaks the range exchange and gossip with streams of its own, so that nothing keeps it from breaking their
// rules.
//
//  1. Each request that it is asked is the event "asked" before anything is answered.
//  2. What it does is only ever on its own connection: what happens to others is the victim's doing.

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsub_pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/celestiaorg/go-header/p2p"
	p2p_pb "github.com/celestiaorg/go-header/p2p/pb"
	"github.com/celestiaorg/go-libp2p-messenger/serde"
)

// Adversary is a peer that means harm.
type Adversary struct {
	peer    *Peer
	maker   *Maker
	chain   []*Block
	streams []network.Stream
	topic   *pubsub.Topic
}

func newRaw(ctx context.Context, peer *Peer) (Commands, func(), error) {
	maker, err := newMaker(peer.flags.seed)
	if err != nil {
		return nil, nil, err
	}
	a := &Adversary{peer: peer, maker: maker}
	// A peer that could not open a stream of gossip to us would not listen to ours either.
	peer.host.SetStreamHandler(pubsub.GossipSubID_v11, func(stream network.Stream) { _, _ = io.Copy(io.Discard, stream) })
	commands := Commands{"serve": a.serve, "open": a.open, "flood": a.flood, "join": a.join, "say": a.say}
	return commands, func() {}, nil
}

// join makes it a part of gossip: before it connects, since peers look only once whether somebody speaks it.
func (a *Adversary) join(ctx context.Context, _ *Args) (any, error) {
	ps, err := pubsub.NewGossipSub(ctx, a.peer.host, pubsub.WithFloodPublish(true))
	if err != nil {
		return nil, err
	}
	topic := p2p.PubsubTopicID(a.peer.networkID())
	go tellMesh(ctx, ps, topic)
	a.topic, err = ps.Join(topic)
	return nil, err
}

// say gossips any bytes to everybody on the topic, signed as messages are.
func (a *Adversary) say(ctx context.Context, args *Args) (any, error) {
	bytes, err := hex.DecodeString(args.Hex)
	if err != nil {
		return nil, err
	}
	return nil, a.topic.Publish(ctx, bytes)
}

// serve answers requests for a chain up to a height: heads honestly, so that everybody wants the rest, and the
// rest not.
func (a *Adversary) serve(ctx context.Context, args *Args) (any, error) {
	a.chain = a.maker.Chain(nil, args.To, args.Size, "")
	answer, known := a.answers()[args.Mode]
	if !known {
		return nil, fmt.Errorf("no way to serve %q", args.Mode)
	}
	a.peer.host.SetStreamHandler(a.peer.protocolID(), func(stream network.Stream) {
		request := new(p2p_pb.HeaderRequest)
		if _, err := serde.Read(stream, request); err != nil {
			_ = stream.Reset()
			return
		}
		origin, amount := request.GetOrigin(), request.GetAmount()
		event("asked", object{"origin": origin, "amount": amount})
		if origin == 0 {
			a.write(stream, a.chain[len(a.chain)-1])
			_ = stream.Close()
			return
		}
		first := min(origin-Rules.InitialHeight, uint64(len(a.chain)))
		end := min(first+amount, uint64(len(a.chain)))
		answer(ctx, stream, a.chain[first:end])
	})
	return nil, nil
}

type answer func(ctx context.Context, stream network.Stream, good []*Block)

// answers are the ways to answer a request for blocks that it has.
func (a *Adversary) answers() map[string]answer {
	bend := func(bend func(at int, block *Block) []byte) answer {
		return func(_ context.Context, stream network.Stream, good []*Block) {
			for at, block := range good {
				a.writeBody(stream, bend(at, block))
			}
			_ = stream.Close()
		}
	}
	body := func(block *Block) []byte {
		bytes, _ := block.MarshalBinary()
		return bytes
	}
	reseal := func(block *Block, change func(*Block)) []byte {
		bent := *block
		change(&bent)
		return body(a.maker.seal(&bent))
	}
	return map[string]answer{
		"silent": func(ctx context.Context, _ network.Stream, _ []*Block) { <-ctx.Done() },
		"drip": func(ctx context.Context, stream network.Stream, good []*Block) {
			for _, block := range good {
				for _, one := range okFrame(body(block)) {
					if _, err := stream.Write([]byte{one}); err != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		},
		"announced": func(ctx context.Context, stream network.Stream, _ []*Block) {
			_, _ = stream.Write(append(protowire.AppendVarint(nil, 1<<20), "and no more"...))
			<-ctx.Done()
		},
		"oversized": func(_ context.Context, stream network.Stream, _ []*Block) {
			_, _ = stream.Write(protowire.AppendVarint(nil, 1<<40))
			for chunk := make([]byte, 64<<10); ; {
				if _, err := stream.Write(chunk); err != nil {
					return
				}
			}
		},
		"endless": func(_ context.Context, stream network.Stream, good []*Block) {
			for {
				for _, block := range good {
					if _, err := stream.Write(okFrame(body(block))); err != nil {
						return
					}
				}
			}
		},
		"reset": func(_ context.Context, stream network.Stream, good []*Block) {
			for _, block := range good {
				a.write(stream, block)
			}
			_ = stream.Reset()
		},
		"wrong heights": func(_ context.Context, stream network.Stream, good []*Block) {
			for _, block := range a.chain[:len(good)] {
				a.write(stream, block)
			}
			_ = stream.Close()
		},
		"wrong chain": bend(func(_ int, block *Block) []byte {
			return reseal(block, func(bent *Block) { bent.chainID = "another" })
		}),
		"broken link": bend(func(at int, block *Block) []byte {
			if at == 0 {
				return body(block)
			}
			return reseal(block, func(bent *Block) { bent.parentHash = make([]byte, 32) })
		}),
		"forged": bend(func(_ int, block *Block) []byte {
			bent := *block
			bent.signature = append([]byte{block.signature[0] ^ 1}, block.signature[1:]...)
			return body(&bent)
		}),
		"padded": bend(func(_ int, block *Block) []byte {
			return protowire.AppendVarint(protowire.AppendTag(body(block), 9, protowire.VarintType), 1)
		}),
		"other payload": bend(func(_ int, block *Block) []byte {
			bent := *block
			bent.payload = []byte("what nobody signed")
			return body(&bent)
		}),
		"invalid": func(_ context.Context, stream network.Stream, _ []*Block) {
			_, _ = serde.Write(stream, &p2p_pb.HeaderResponse{})
			_ = stream.Close()
		},
	}
}

func okFrame(body []byte) []byte {
	message := appendUint(appendBytes(nil, 1, body), 2, uint64(p2p_pb.StatusCode_OK))
	return append(protowire.AppendVarint(nil, uint64(len(message))), message...)
}

func (a *Adversary) write(stream network.Stream, block *Block) {
	body, _ := block.MarshalBinary()
	a.writeBody(stream, body)
}

func (a *Adversary) writeBody(stream network.Stream, body []byte) {
	_, _ = stream.Write(okFrame(body))
}

// open opens streams of the exchange to a peer, each with the beginning of a request, and leaves them like that.
// It gives how many the peer let it open.
func (a *Adversary) open(ctx context.Context, args *Args) (any, error) {
	id, err := peer.Decode(args.Peer)
	if err != nil {
		return nil, err
	}
	beginnings := map[string][]byte{
		"nothing":   {},
		"a byte":    {0x06},
		"half":      {0x06, 0x08, 0x01},
		"announced": protowire.AppendVarint(nil, 1<<40),
		// A whole request, whose answer it does not read.
		"unread": {0x04, 0x08, 0x01, 0x18, 0x40},
	}
	beginning, known := beginnings[args.Mode]
	if !known {
		return nil, fmt.Errorf("no way to begin with %q", args.Mode)
	}
	opened := 0
	for range args.Count {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		stream, err := a.peer.host.NewStream(ctx, id, a.peer.protocolID())
		cancel()
		if err != nil {
			continue
		}
		if _, err := stream.Write(beginning); err == nil {
			opened++
		}
		a.streams = append(a.streams, stream) // open for as long as we are
	}
	return opened, nil
}

// flood writes messages on a gossip stream, as fast as they are taken: so many, or until it is hung up on. It
// gives how many.
func (a *Adversary) flood(ctx context.Context, args *Args) (any, error) {
	id, err := peer.Decode(args.Peer)
	if err != nil {
		return nil, err
	}
	message, err := a.message(args)
	if err != nil {
		return nil, err
	}
	bytes, err := message.Marshal()
	if err != nil {
		return nil, err
	}
	frame := append(protowire.AppendVarint(nil, uint64(len(bytes))), bytes...)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stream, err := a.peer.host.NewStream(ctx, id, pubsub.GossipSubID_v11)
	if err != nil {
		return nil, err
	}
	go func() { _, _ = io.Copy(io.Discard, stream) }()
	defer stream.Reset() //nolint:errcheck // it is over
	for sent := range args.Count {
		// One that takes no more is as good as one that hangs up.
		_ = stream.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := stream.Write(frame); err != nil {
			return object{"sent": sent, "why": err.Error()}, nil
		}
	}
	return object{"sent": args.Count}, nil
}

func (a *Adversary) message(args *Args) (*pubsub_pb.RPC, error) {
	topic := p2p.PubsubTopicID(a.peer.networkID())
	yes := true
	rpc := new(pubsub_pb.RPC)
	control := new(pubsub_pb.ControlMessage)
	var ids []string
	for at := range args.Amount {
		ids = append(ids, fmt.Sprintf("%032d", at))
	}
	switch args.Mode {
	case "subscriptions":
		for at := range args.Amount {
			other := fmt.Sprintf("/%d%s", at, topic)
			rpc.Subscriptions = append(rpc.Subscriptions, &pubsub_pb.RPC_SubOpts{Subscribe: &yes, Topicid: &other})
		}
	case "on and off":
		no := false
		for range args.Amount {
			rpc.Subscriptions = append(rpc.Subscriptions, &pubsub_pb.RPC_SubOpts{Subscribe: &yes, Topicid: &topic},
				&pubsub_pb.RPC_SubOpts{Subscribe: &no, Topicid: &topic})
		}
	case "ihave":
		control.Ihave = []*pubsub_pb.ControlIHave{{TopicID: &topic, MessageIDs: ids}}
		rpc.Control = control
	case "iwant":
		control.Iwant = []*pubsub_pb.ControlIWant{{MessageIDs: ids}}
		rpc.Control = control
	case "idontwant":
		control.Idontwant = []*pubsub_pb.ControlIDontWant{{MessageIDs: ids}}
		rpc.Control = control
	case "graft and prune":
		var long uint64 = 1 << 62
		for range args.Amount {
			control.Graft = append(control.Graft, &pubsub_pb.ControlGraft{TopicID: &topic})
			control.Prune = append(control.Prune, &pubsub_pb.ControlPrune{TopicID: &topic, Backoff: &long})
		}
		rpc.Control = control
	case "unsigned":
		message := &pubsub_pb.Message{
			Topic: &topic, From: []byte(a.peer.host.ID()), Seqno: make([]byte, 8), Data: make([]byte, 64<<10),
		}
		rpc.Publish = []*pubsub_pb.Message{message}
	default:
		return nil, errors.New("no flood of " + args.Mode)
	}
	return rpc, nil
}

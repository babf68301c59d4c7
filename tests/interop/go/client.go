// The role "client": go-header's Exchange, as it is, and beside it single requests on streams of its protocol, for what
// its methods cannot or would not ask.

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/celestiaorg/go-header"
	"github.com/celestiaorg/go-header/p2p"
	p2p_pb "github.com/celestiaorg/go-header/p2p/pb"
	"github.com/celestiaorg/go-libp2p-messenger/serde"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Client asks others.
type Client struct {
	peer     *Peer
	exchange *p2p.Exchange[*Block]
	tracked  *trackedPeers
}

func newClient(ctx context.Context, peer *Peer) (Commands, func(), error) {
	c := &Client{peer: peer, tracked: new(trackedPeers)}
	var err error
	if c.exchange, err = startExchange(ctx, peer, c.tracked); err != nil {
		return nil, nil, err
	}
	return c.commands(), func() {}, peer.connectAll(ctx)
}

func startExchange(ctx context.Context, peer *Peer, tracked *trackedPeers) (*p2p.Exchange[*Block], error) {
	exchange, err := p2p.NewExchange[*Block](peer.host, peer.trustedIDs(), peer.gater,
		p2p.WithNetworkID[p2p.ClientParameters](peer.networkID()),
		p2p.WithChainID[p2p.ClientParameters](Rules.ChainID),
		p2p.WithPeerIDStore[p2p.ClientParameters](tracked))
	if err != nil {
		return nil, err
	}
	return exchange, exchange.Start(ctx)
}

func (c *Client) commands() Commands {
	one := func(block *Block, err error) (any, error) { return describe(block), err }
	return Commands{
		"head":   func(ctx context.Context, _ *Args) (any, error) { return one(c.exchange.Head(ctx)) },
		"height": func(ctx context.Context, a *Args) (any, error) { return one(c.exchange.GetByHeight(ctx, a.Height)) },
		"hash": func(ctx context.Context, a *Args) (any, error) {
			hash, err := hex.DecodeString(a.Hash)
			if err != nil {
				return nil, err
			}
			return one(c.exchange.Get(ctx, hash))
		},
		"range":   c.blocks,
		"request": c.request,
		"tracked": func(ctx context.Context, _ *Args) (any, error) { return c.tracked.stop(ctx, c.exchange) },
	}
}

// blocks asks for what follows a block, up to a height, both ends included.
func (c *Client) blocks(ctx context.Context, args *Args) (any, error) {
	from, err := c.exchange.GetByHeight(ctx, args.From)
	if err != nil {
		return nil, err
	}
	blocks, err := c.exchange.GetRangeByHeight(ctx, from, args.To+1)
	var all []string
	for _, block := range blocks {
		all = append(all, hex.EncodeToString(block.Hash()))
	}
	return all, err
}

// request sends one request to one peer, and gives all that came back: the frames, and how the stream ended.
func (c *Client) request(ctx context.Context, args *Args) (any, error) {
	id, err := peer.Decode(args.Peer)
	if err != nil {
		return nil, err
	}
	stream, err := c.peer.host.NewStream(ctx, id, c.peer.protocolID())
	if err != nil {
		return nil, err
	}
	defer stream.Reset() //nolint:errcheck // it has ended
	request := &p2p_pb.HeaderRequest{Amount: args.Amount}
	switch args.Mode {
	case "origin":
		request.Data = &p2p_pb.HeaderRequest_Origin{Origin: args.Origin}
	case "hash":
		hash, err := hex.DecodeString(args.Hash)
		if err != nil {
			return nil, err
		}
		request.Data = &p2p_pb.HeaderRequest_Hash{Hash: hash}
	}
	// A server that refuses may reset the stream while we still write: that is its answer, which is read then.
	if _, err := serde.Write(stream, request); err == nil && !args.Open {
		_ = stream.CloseWrite()
	}
	return readAnswer(stream)
}

func readAnswer(stream network.Stream) (any, error) {
	// Our own patience, not a part of the protocol.
	if err := stream.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	all, err := io.ReadAll(stream)
	ended := "end"
	if err != nil {
		ended = "reset"
	}
	reader := bufio.NewReader(bytes.NewReader(all))
	frames := []object{}
	for {
		response := new(p2p_pb.HeaderResponse)
		if _, err := serde.Read(reader, response); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		frames = append(frames, object{"status": response.StatusCode.String(), "body": hex.EncodeToString(response.Body)})
	}
	if len(frames) == 0 {
		// A yamux stream that was reset, and one that was ended without a frame, are the same to a go-header client.
		ended = "empty"
	}
	return object{"frames": frames, "ended": ended}, nil
}

// trackedPeers learns what go-header's peer tracker holds: it tells it when it stops.
type trackedPeers struct {
	lock sync.Mutex
	ids  []peer.ID
}

func (t *trackedPeers) Put(_ context.Context, ids []peer.ID) error {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.ids = ids
	return nil
}

func (t *trackedPeers) Load(context.Context) ([]peer.ID, error) { return nil, nil }

// stop ends the exchange, and gives the peers that it would have gone on asking.
func (t *trackedPeers) stop(ctx context.Context, exchange interface{ Stop(context.Context) error }) (any, error) {
	if err := exchange.Stop(ctx); err != nil {
		return nil, err
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	return names(t.ids), nil
}

var _ header.Exchange[*Block] = (*p2p.Exchange[*Block])(nil)

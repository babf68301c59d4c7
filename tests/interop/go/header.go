// This is the page that a Go chain copies to join: a native block of blocksyncd (schema/block.proto is the
// reference) as a go-header Header. Nothing in it is about tests.
//
//  1. Set Rules once, before anything of go-header starts: New cannot be told which chain it is for.
//  2. Use WithNetworkID and WithSubscriberNetworkID of "<chain id>-block", and pubsub.DefaultMsgIdFn.
//  3. Blocks are larger than headers: raise serde.MaxMessageSize (go-libp2p-messenger) and pubsub.WithMaxMessageSize
//     to more than the chain's max_block_bytes, the latter by 32 KiB and no more. They are 1 MiB each unless raised.
//
// Promises:
//  1. What UnmarshalBinary takes has exactly one encoding, which MarshalBinary gives back: nobody can pad a block.
//  2. What Validate accepts is of this chain, signed by its proposer, over this very payload.
//  3. What Verify accepts on top of its parent links to it. Further up there is no link to look at: the proposer's
//     signature is then all that speaks for a block.

package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/celestiaorg/go-header"
	"google.golang.org/protobuf/encoding/protowire"
)

// Rules are the chain's fixed points, as its genesis.toml has them.
var Rules struct {
	ChainID       string
	InitialHeight uint64
	Proposer      ed25519.PublicKey
}

const signingDomain = "blocksync/block/v1\x00"

// Block is one signed block.
type Block struct {
	chainID     string
	height      uint64
	nanos       uint64
	parentHash  []byte
	payloadHash []byte
	proposer    []byte
	hostID      []byte

	header    []byte // the signed bytes, as carried
	signature []byte
	payload   []byte
}

var _ header.Header[*Block] = (*Block)(nil)

func (b *Block) New() *Block             { return new(Block) }
func (b *Block) IsZero() bool            { return b == nil || b.height == 0 }
func (b *Block) ChainID() string         { return b.chainID }
func (b *Block) Height() uint64          { return b.height }
func (b *Block) LastHeader() header.Hash { return b.parentHash }
func (b *Block) Time() time.Time         { return time.Unix(0, int64(b.nanos)) }

// Payload is the rollup's own encoded block.
func (b *Block) Payload() []byte { return b.payload }

func (b *Block) Hash() header.Hash {
	hash := sha256.Sum256(b.header)
	return hash[:]
}

// Validate checks everything that needs no other block. go-header calls it on whatever comes from the network.
func (b *Block) Validate() error {
	payloadHash := sha256.Sum256(b.payload)
	isFirst := b.height == Rules.InitialHeight
	switch {
	case b.chainID != Rules.ChainID:
		return fmt.Errorf("a block of chain %q", b.chainID)
	case b.height < Rules.InitialHeight || b.height == 0:
		return fmt.Errorf("height %d is below the chain's first", b.height)
	case isFirst && len(b.parentHash) != 0, !isFirst && len(b.parentHash) != sha256.Size:
		return errors.New("the parent's hash has a wrong length")
	case len(b.hostID) > 64:
		return errors.New("the host's id is too long")
	case !bytes.Equal(b.payloadHash, payloadHash[:]):
		return errors.New("the payload is not the one that was signed")
	case !bytes.Equal(b.proposer, Rules.Proposer):
		return errors.New("not this chain's proposer")
	case !ed25519.Verify(Rules.Proposer, append([]byte(signingDomain), b.header...), b.signature):
		return errors.New("the signature is wrong")
	}
	return nil
}

// Verify checks the link to b. go-header itself has compared chain ids, heights and times before.
func (b *Block) Verify(next *Block) error {
	if next.height == b.height+1 && !bytes.Equal(next.parentHash, b.Hash()) {
		return fmt.Errorf("block %d does not link to its parent", next.height)
	}
	return nil
}

func (b *Block) MarshalBinary() ([]byte, error) {
	out := make([]byte, 0, len(b.header)+len(b.payload)+96)
	out = appendBytes(out, 1, b.header)
	out = appendBytes(out, 2, b.signature)
	return appendBytes(out, 3, b.payload), nil
}

// marshalHeader gives the bytes that are signed.
func (b *Block) marshalHeader() []byte {
	out := appendBytes(nil, 1, []byte(b.chainID))
	out = appendUint(out, 2, b.height)
	out = appendUint(out, 3, b.nanos)
	out = appendBytes(out, 4, b.parentHash)
	out = appendBytes(out, 5, b.payloadHash)
	out = appendBytes(out, 6, b.proposer)
	return appendBytes(out, 7, b.hostID)
}

func (b *Block) UnmarshalBinary(data []byte) error {
	data = bytes.Clone(data)
	*b = Block{}
	err := fields(data, func(number protowire.Number, _ uint64, value []byte) {
		switch number {
		case 1:
			b.header = value
		case 2:
			b.signature = value
		case 3:
			b.payload = value
		}
	})
	if err != nil {
		return err
	}
	err = fields(b.header, func(number protowire.Number, n uint64, value []byte) {
		switch number {
		case 1:
			b.chainID = string(value)
		case 2:
			b.height = n
		case 3:
			b.nanos = n
		case 4:
			b.parentHash = value
		case 5:
			b.payloadHash = value
		case 6:
			b.proposer = value
		case 7:
			b.hostID = value
		}
	})
	if err != nil {
		return err
	}
	// Whatever was unknown, out of order, default or longer than needed is not in what we would write.
	if again, _ := b.MarshalBinary(); !bytes.Equal(again, data) || !bytes.Equal(b.marshalHeader(), b.header) {
		return errors.New("not the one encoding of a block")
	}
	return nil
}

// fields calls each with every field of a protobuf message: a number n, or bytes.
func fields(data []byte, each func(number protowire.Number, n uint64, value []byte)) error {
	for len(data) > 0 {
		number, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		var n uint64
		var value []byte
		length := -1
		switch kind {
		case protowire.VarintType:
			n, length = protowire.ConsumeVarint(data[tag:])
		case protowire.BytesType:
			value, length = protowire.ConsumeBytes(data[tag:])
		}
		if length < 0 {
			return errors.New("not the protobuf of a block")
		}
		each(number, n, value)
		data = data[tag+length:]
	}
	return nil
}

func appendBytes(out []byte, number protowire.Number, value []byte) []byte {
	if len(value) == 0 {
		return out
	}
	return protowire.AppendBytes(protowire.AppendTag(out, number, protowire.BytesType), value)
}

func appendUint(out []byte, number protowire.Number, value uint64) []byte {
	if value == 0 {
		return out
	}
	return protowire.AppendVarint(protowire.AppendTag(out, number, protowire.VarintType), value)
}

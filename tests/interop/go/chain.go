// Making blocks, with the proposer's key that a test gives: the same heights and sizes always give the same
// bytes, here and in the tests' own chain.rs, so that both sides know each other's chain before they have seen
// it.

package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Maker is a proposer.
type Maker struct {
	key ed25519.PrivateKey
}

func newMaker(seed []byte) (*Maker, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, errors.New("no key to sign with: -seed")
	}
	return &Maker{key: ed25519.NewKeyFromSeed(seed)}, nil
}

// Next makes the block on top of parent (nil: the chain's first). Blocks of another branch differ in their payload.
func (m *Maker) Next(parent *Block, size int, branch string) *Block {
	b := &Block{chainID: Rules.ChainID, height: Rules.InitialHeight}
	if !parent.IsZero() {
		b.height = parent.height + 1
		b.parentHash = parent.Hash()
	}
	b.nanos = b.height * 1_000_000_000
	b.payload = fmt.Appendf(nil, "block %d%s", b.height, branch)
	if pad := size - len(b.payload); pad > 0 {
		b.payload = append(b.payload, bytes.Repeat([]byte{'.'}, pad)...)
	}
	return m.seal(b)
}

// seal signs whatever the block says.
func (m *Maker) seal(b *Block) *Block {
	hash := sha256.Sum256(b.payload)
	b.payloadHash = hash[:]
	b.proposer = m.key.Public().(ed25519.PublicKey)
	b.header = b.marshalHeader()
	b.signature = ed25519.Sign(m.key, append([]byte(signingDomain), b.header...))
	return b
}

// Chain makes the blocks after parent up to a height.
func (m *Maker) Chain(parent *Block, to uint64, size int, branch string) []*Block {
	var chain []*Block
	for parent.IsZero() && to >= Rules.InitialHeight || !parent.IsZero() && parent.height < to {
		parent = m.Next(parent, size, branch)
		chain = append(chain, parent)
	}
	return chain
}

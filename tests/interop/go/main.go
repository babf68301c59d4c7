// A real Go peer for the tests of tests/interop: go-header, go-libp2p and go-libp2p-pubsub as released, driven by
// JSON lines.
//
//	in:   {"id":1,"do":"head", ...}          one command a line, each answered in its own time
//	out:  {"id":1,"ok":...}  {"id":1,"error":"..."}  {"event":"...", ...}
//
// One process is one libp2p peer in one role; a file per role has its commands.
//
//  1. The first line out is the event "ready", with the addresses that others can dial.
//  2. It ends when its standard input ends, or on the command "quit".

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/celestiaorg/go-libp2p-messenger/serde"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
)

// Flags are what a peer is to be.
type Flags struct {
	role   string
	listen string
	dial   string
	router string
	home   string
	seed   []byte
	max    int
}

// Args are the arguments of any command; each takes the ones that it knows.
type Args struct {
	Address string `json:"address"`
	Peer    string `json:"peer"`
	Mode    string `json:"mode"`
	Branch  string `json:"branch"`
	Block   string `json:"block"`
	Hash    string `json:"hash"`
	Hex     string `json:"hex"`
	Height  uint64 `json:"height"`
	From    uint64 `json:"from"`
	To      uint64 `json:"to"`
	Origin  uint64 `json:"origin"`
	Amount  uint64 `json:"amount"`
	Count   int    `json:"count"`
	Size    int    `json:"size"`
	Open    bool   `json:"open"`
}

// Commands by name.
type Commands map[string]func(ctx context.Context, args *Args) (any, error)

// Add puts the commands of a part of the peer beside the others.
func (c Commands) Add(more Commands) {
	for name, command := range more {
		c[name] = command
	}
}

var out struct {
	sync.Mutex
	lines *json.Encoder
}

type object map[string]any

func say(line object) {
	out.Lock()
	defer out.Unlock()
	_ = out.lines.Encode(line)
}

// event tells the test what happened by itself.
func event(name string, more object) {
	line := object{"event": name}
	for key, value := range more {
		line[key] = value
	}
	say(line)
}

func main() {
	out.lines = json.NewEncoder(os.Stdout)
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gopeer:", err)
		os.Exit(1)
	}
}

func run() error {
	flags, err := parse()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	peer, err := newPeer(flags)
	if err != nil {
		return err
	}
	defer peer.host.Close()
	roles := map[string]func(context.Context, *Peer) (Commands, func(), error){
		"server": newServer, "client": newClient, "gossip": newGossip, "careless": newCareless,
		"syncer": newSyncer, "raw": newRaw,
	}
	role, known := roles[flags.role]
	if !known {
		return fmt.Errorf("no role %q", flags.role)
	}
	commands, stop, err := role(ctx, peer)
	if err != nil {
		return err
	}
	defer stop()
	commands.Add(peer.commands())
	event("ready", object{"id": peer.host.ID().String(), "addresses": peer.addresses()})
	return serve(ctx, commands)
}

func parse() (*Flags, error) {
	var flags Flags
	var proposer, seed string
	flag.StringVar(&flags.role, "role", "", "server, client, gossip, careless, syncer or raw")
	flag.StringVar(&Rules.ChainID, "chain", "", "the chain's id")
	flag.Uint64Var(&Rules.InitialHeight, "initial", 1, "the height of its first block")
	flag.StringVar(&proposer, "proposer", "", "its proposer's public key, in hex")
	flag.StringVar(&seed, "seed", "", "the proposer's secret seed in hex, to make blocks")
	flag.StringVar(&flags.listen, "listen", "/ip4/127.0.0.1/tcp/0", "where to listen")
	flag.StringVar(&flags.dial, "dial", "", "trusted peers, with their ids, separated by commas")
	flag.StringVar(&flags.router, "router", "gossip", "gossip, gossip11 (nothing newer than meshsub/1.1.0) or flood")
	flag.StringVar(&flags.home, "home", "", "where to keep badger; nothing: the store is in memory")
	flag.IntVar(&flags.max, "max", 1<<20, "the largest message, in bytes")
	flag.Parse()
	key, err := hex.DecodeString(proposer)
	if err != nil {
		return nil, err
	}
	Rules.Proposer = key
	serde.MaxMessageSize = uint64(flags.max)
	flags.seed, err = hex.DecodeString(seed)
	return &flags, err
}

// serve carries out commands until there are no more. They may overlap: some wait for what others bring about.
func serve(ctx context.Context, commands Commands) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var line struct {
			ID uint64 `json:"id"`
			Do string `json:"do"`
			Args
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		if line.Do == "quit" {
			say(object{"id": line.ID, "ok": nil})
			return nil
		}
		go func() {
			answer, err := carryOut(ctx, commands, line.Do, &line.Args)
			if err != nil {
				say(object{"id": line.ID, "error": err.Error()})
			} else {
				say(object{"id": line.ID, "ok": answer})
			}
		}()
	}
	return lines.Err()
}

func carryOut(ctx context.Context, commands Commands, name string, args *Args) (any, error) {
	command, known := commands[name]
	if !known {
		return nil, errors.New("this role has no command " + name)
	}
	return command(ctx, args)
}

// openDatastore gives badger where there is a home, and memory where there is none.
func (f *Flags) openDatastore() (datastore.Batching, error) {
	if f.home == "" {
		return dssync.MutexWrap(datastore.NewMapDatastore()), nil
	}
	return openBadger(f.home)
}

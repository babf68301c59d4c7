// The datastore that go-header's store stands on: badger, on disk, as Celestia's and ev-node's nodes have it. The
// usual adapter (go-ds-badger4) is written once more, in the part that go-header uses, so that this module needs
// nothing but badger itself.

package main

import (
	"context"
	"errors"

	"github.com/dgraph-io/badger/v4"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

type badgerStore struct {
	db *badger.DB
}

var _ datastore.Batching = (*badgerStore)(nil)

func openBadger(dir string) (*badgerStore, error) {
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return nil, err
	}
	return &badgerStore{db: db}, nil
}

func notFound(err error) error {
	if errors.Is(err, badger.ErrKeyNotFound) {
		return datastore.ErrNotFound
	}
	return err
}

func (s *badgerStore) Get(_ context.Context, key datastore.Key) (value []byte, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key.Bytes())
		if err != nil {
			return notFound(err)
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	return value, err
}

func (s *badgerStore) Has(ctx context.Context, key datastore.Key) (bool, error) {
	_, err := s.GetSize(ctx, key)
	if errors.Is(err, datastore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (s *badgerStore) GetSize(_ context.Context, key datastore.Key) (size int, err error) {
	size = -1
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key.Bytes())
		if err == nil {
			size = int(item.ValueSize())
		}
		return notFound(err)
	})
	return size, err
}

func (s *badgerStore) Query(_ context.Context, q query.Query) (query.Results, error) {
	var entries []query.Entry
	err := s.db.View(func(txn *badger.Txn) error {
		options := badger.DefaultIteratorOptions
		options.Prefix = []byte(q.Prefix)
		iterator := txn.NewIterator(options)
		defer iterator.Close()
		for iterator.Rewind(); iterator.Valid(); iterator.Next() {
			value, err := iterator.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			entries = append(entries, query.Entry{Key: string(iterator.Item().KeyCopy(nil)), Value: value, Size: len(value)})
		}
		return nil
	})
	return query.NaiveQueryApply(q, query.ResultsWithEntries(q, entries)), err
}

func (s *badgerStore) Put(_ context.Context, key datastore.Key, value []byte) error {
	return s.db.Update(func(txn *badger.Txn) error { return txn.Set(key.Bytes(), value) })
}

func (s *badgerStore) Delete(_ context.Context, key datastore.Key) error {
	return s.db.Update(func(txn *badger.Txn) error { return txn.Delete(key.Bytes()) })
}

func (s *badgerStore) Sync(context.Context, datastore.Key) error { return s.db.Sync() }

func (s *badgerStore) Close() error { return s.db.Close() }

func (s *badgerStore) Batch(context.Context) (datastore.Batch, error) {
	return &badgerBatch{batch: s.db.NewWriteBatch()}, nil
}

type badgerBatch struct {
	batch *badger.WriteBatch
}

func (b *badgerBatch) Put(_ context.Context, key datastore.Key, value []byte) error {
	return b.batch.Set(key.Bytes(), value)
}

func (b *badgerBatch) Delete(_ context.Context, key datastore.Key) error {
	return b.batch.Delete(key.Bytes())
}

func (b *badgerBatch) Commit(context.Context) error { return b.batch.Flush() }

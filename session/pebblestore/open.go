// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/belay-ha/belay/session"
)

// Store is a session.Store in a directory. It is safe for concurrent use, and
// needs Close.
type Store struct {
	dir    string
	opts   Options
	fs     vfs.FS
	db     *pebble.DB
	unlock func() error
	engine engine

	// Of a session, and of an owner, whoever changes something holds the lock
	// until the disk has it; whoever reads waits for that.
	sessions [stripes]sync.RWMutex
	owners   [ownerStripes]sync.RWMutex

	numbers atomic.Uint64 // gives out epochs and places, never the same twice
	floor   atomic.Uint64 // while a sweep runs, the last minute that it sweeps
	heads   heads
	buffers sync.Pool // of *[]byte, to encode into

	group     group
	unflushed unflushed
	space     space
	leases    leases
	expired   listeners
}

const (
	stripes      = 4096
	ownerStripes = 256
)

// pidFile names the process that has the directory, for the error of a second one.
const pidFile = "belay.pid"

// Open opens the sessions in dir, which it makes if need be. What a killed
// process left is put right before it returns. It fails if another process, or
// another Store of this one, has the directory.
func Open(dir string, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pebblestore: open: directory %s: %w", dir, err)
	}
	// One directory has one name here: the engine knows its own locks by name.
	full, err := filepath.Abs(dir)
	if err == nil {
		full, err = filepath.EvalSymlinks(full)
	}
	if err != nil {
		return nil, fmt.Errorf("pebblestore: open: directory %s: %w", dir, err)
	}
	lock, err := lockDir(full)
	if err != nil {
		return nil, err
	}
	unlock := func() error {
		_ = os.Remove(filepath.Join(full, pidFile)) // it is only for a message
		return lock.Close()
	}
	s, err := open(vfs.Default, full, o, lock)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	s.unlock = unlock
	return s, nil
}

func lockDir(dir string) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, vfs.Default)
	switch pid := holderOf(dir); {
	case err == nil:
		// Only for the messages below; the lock itself is the kernel's.
		_ = os.WriteFile(filepath.Join(dir, pidFile), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
		return lock, nil
	case errors.Is(err, os.ErrPermission) && pid == "":
		return nil, fmt.Errorf("pebblestore: open: directory %s cannot be written: choose another or fix its rights: %w", dir, err)
	case pid == "":
		return nil, fmt.Errorf("pebblestore: open: directory %s cannot be locked: if another process uses it, stop that or choose another directory: %w", dir, err)
	case pid == strconv.Itoa(os.Getpid()):
		return nil, fmt.Errorf("pebblestore: open: directory %s is open in this process already: use that Store, or choose another directory: %w", dir, err)
	default:
		return nil, fmt.Errorf("pebblestore: open: directory %s is in use by process %s: stop it or choose another directory: %w", dir, pid, err)
	}
}

func holderOf(dir string) string {
	f, err := os.Open(filepath.Join(dir, pidFile))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 20))
	return strings.TrimSpace(string(text))
}

// open opens the engine on any file system.
func open(fs vfs.FS, dir string, o Options, lock *pebble.Lock) (*Store, error) {
	s := &Store{dir: dir, opts: o, fs: fs}
	s.buffers.New = func() any { return new([]byte) }
	s.engine.init(o.Logger)
	po := &pebble.Options{
		FS:                 &disk{fs, &s.engine},
		Lock:               lock,
		Logger:             &s.engine,
		EventListener:      &pebble.EventListener{DataCorruption: s.engine.corruption},
		FormatMajorVersion: pebble.FormatValueSeparation,
		CacheSize:          o.CacheBytes,
		MemTableSize:       uint64(o.BufferBytes),
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, po)
	if err != nil {
		return nil, fmt.Errorf("pebblestore: open: directory %s: %w", dir, err)
	}
	s.db = db
	if err := s.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("pebblestore: open: directory %s: %w", dir, err), db.Close())
	}
	s.engine.serving.Store(true)
	return s, nil
}

// begin checks that the directory is ours, and counts this time of opening it:
// numbers of a later time are greater than all of an earlier one.
func (s *Store) begin() error {
	meta, err := s.get(metaKey)
	if err != nil {
		return err
	}
	opened := uint64(1)
	switch {
	case meta == nil:
		if err := s.foreign(); err != nil {
			return err
		}
	case len(meta) < metaSize:
		return fmt.Errorf("its description is damaged: %w", session.ErrCorrupt)
	case number(meta, 0) > format:
		return fmt.Errorf("it has format %d, this program knows %d: run the newer program: %w", number(meta, 0), format, session.ErrNewer)
	default:
		opened = number(meta, 1) + 1
	}
	s.numbers.Store(opened << 40)
	s.leases.last = session.Lease(opened << 40)
	if err := s.db.Set(metaKey, numbers(format, opened), pebble.Sync); err != nil {
		return err
	}
	return s.engine.failure()
}

// foreign refuses a database that has keys and is not ours.
func (s *Store) foreign() error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	found := it.First()
	if err := it.Close(); err != nil {
		return err
	}
	if found {
		return errors.New("it holds another program's database: choose another directory")
	}
	return nil
}

// Close ends the use of the directory: it waits for calls under way, and
// afterwards every call fails with session.ErrUnavailable. Nothing is lost that
// was not lost before. To call it again does nothing.
//
// If the engine has failed, Close returns why, and the directory stays locked
// until the process ends.
func (s *Store) Close() error {
	first, err := s.engine.close()
	if !first {
		return nil
	}
	if err == nil {
		if err = s.db.Close(); err == nil {
			err = s.engine.failure()
		}
	}
	if err != nil {
		return fmt.Errorf("pebblestore: close: %w", err)
	}
	if s.unlock == nil {
		return nil
	}
	return s.unlock()
}

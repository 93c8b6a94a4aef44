// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the file system as the engine sees it. An operation on the log that
// fails does not come back: the engine would end the process, by a panic with
// its locks in a state that cannot be recovered from. Whoever waits for it
// learns of the failure from the engine type.
type disk struct {
	vfs.FS
	engine *engine
}

func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.watch(name, f, err)
}

func (d *disk) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(old, name, c)
	return d.watch(name, f, err)
}

// OpenDir: a new log is flushed by way of its directory.
func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &logFile{f, d.engine}, nil
}

func (d *disk) Unwrap() vfs.FS { return d.FS }

func (d *disk) watch(name string, f vfs.File, err error) (vfs.File, error) {
	if !strings.HasSuffix(name, ".log") {
		return f, err
	}
	if err = d.engine.orNever("begin", err); err != nil {
		return nil, err
	}
	return &logFile{f, d.engine}, nil
}

// logFile is a file of the engine's log, or its directory.
type logFile struct {
	vfs.File
	engine *engine
}

func (f *logFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, f.engine.orNever("write", err)
}

func (f *logFile) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	return info, f.engine.orNever("look at", err)
}

func (f *logFile) Sync() error     { return f.engine.orNever("flush", f.File.Sync()) }
func (f *logFile) SyncData() error { return f.engine.orNever("flush", f.File.SyncData()) }
func (f *logFile) Close() error    { return f.engine.orNever("close", f.File.Close()) }

func (f *logFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.engine.orNever("flush", err)
}

// orNever returns nil, or not at all: but while the store is being opened, when
// the engine takes an error for one.
func (e *engine) orNever(op string, err error) error {
	if err == nil || !e.serving.Load() {
		return err
	}
	e.fail(fmt.Errorf("%s the log: %w", op, err))
	select {}
}

// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

// TestWhatNoReplicaHasIsNotAcknowledged: whatever a call has written, and its answer
// still says what it did not write.
func TestWhatNoReplicaHasIsNotAcknowledged(t *testing.T) {
	master := servertest.StartRedis(t)
	replica := servertest.StartReplica(t, master)
	replica.AwaitCopy(master)
	patient := open(t, master.URL(), &redisstore.Options{Replicas: 1, ReplicaTimeout: 20 * time.Second})
	ctx := t.Context()
	ids, rec := []session.ID{newID(1), newID(2), newID(3)}, record(time.Hour)
	rec.Owner = "42"
	for _, id := range ids {
		if err := errors.Join(patient.Create(ctx, id, rec), second(patient.Index(ctx, "42", id, rec.Expires))); err != nil {
			t.Fatal(err)
		}
	}
	lease, err1 := patient.Lock(ctx, ids[0], time.Hour)
	other, err2 := patient.Lock(ctx, newID(7), time.Hour)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	replica.Freeze()
	s := open(t, master.URL(), &redisstore.Options{Replicas: 1, ReplicaTimeout: 30 * time.Millisecond})
	for name, err := range map[string]error{
		"create":      s.Create(ctx, newID(4), rec),
		"update":      s.Update(ctx, ids[0], next(rec, "1"), rec.Rev),
		"patch":       s.Patch(ctx, ids[1], patchOf(rec, "1")),
		"delete":      s.Delete(ctx, ids[2]),
		"index":       second(s.Index(ctx, "42", newID(4), rec.Expires)),
		"unindex":     s.Unindex(ctx, "42", ids[2]),
		"raise epoch": s.RaiseEpoch(ctx, "42"),
		"lock":        second(s.Lock(ctx, ids[1], time.Hour)),
		"extend":      s.Extend(ctx, ids[0], lease, time.Hour),
		"unlock":      s.Unlock(ctx, newID(7), other),
	} {
		if !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, redisconn.ErrReplicas) || !strings.Contains(err.Error(), "0 of 1, after 30ms") {
			t.Errorf("%s: got %v, want ErrUnavailable that says how many replicas have it", name, err)
		}
	}
	for name, tt := range map[string]struct{ got, want error }{
		"create what is there":        {s.Create(ctx, ids[0], rec), session.ErrExists},
		"update what has changed":     {s.Update(ctx, ids[0], next(rec, "2"), rec.Rev), session.ErrConflict},
		"patch what is not there":     {s.Patch(ctx, newID(5), patchOf(rec, "1")), session.ErrNotFound},
		"lock what is locked":         {second(s.Lock(ctx, ids[0], time.Hour)), session.ErrLocked},
		"extend what is not locked":   {s.Extend(ctx, newID(5), 1, time.Hour), session.ErrLeaseLost},
		"touch, which waits for none": {s.Touch(ctx, ids[0], rec.Expires.Add(time.Minute)), nil},
	} {
		if !errors.Is(tt.got, tt.want) || tt.want == nil && tt.got != nil {
			t.Errorf("%s: got %v, want %v", name, tt.got, tt.want)
		}
	}
	replica.Thaw()
	if err := patient.Create(ctx, newID(6), rec); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
	if got := replica.Must("EXISTS", fmt.Sprintf("belay:s:{%s}", newID(6).Key())); fmt.Sprint(got) != "1" {
		t.Errorf("acknowledged, and the replica has %v of it", got)
	}
}

func second[T any](_ T, err error) error { return err }

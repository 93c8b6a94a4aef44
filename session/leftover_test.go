// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// one is a store with room for whatever, without a lock of its own to wait for.
type one struct {
	mu   sync.Mutex
	recs map[ID]Record
}

func (o *one) Load(_ context.Context, id ID) (Record, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r, ok := o.recs[id]; ok {
		return r, nil
	}
	return Record{}, ErrNotFound
}

func (o *one) Create(_ context.Context, id ID, rec Record) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recs[id] = rec
	return nil
}

func (o *one) Update(_ context.Context, id ID, rec Record, ifRev Rev) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.recs[id].Rev != ifRev {
		return ErrConflict
	}
	o.recs[id] = rec
	return nil
}

func (o *one) Touch(context.Context, ID, time.Time) error { return nil }
func (o *one) Delete(context.Context, ...ID) error        { return nil }

// Requests that fought over a session leave no place in a queue behind.
func TestH43_no_turn_outlives_the_last_request(t *testing.T) {
	t.Parallel()
	m, err := New(&one{recs: map[ID]Record{}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	count := NewKey[int]("n")
	start := make(chan struct{})
	var loaded sync.WaitGroup
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			t.Error(err)
		}
		if !s.IsNew() {
			loaded.Done()
			<-start
		}
		count.Update(s, func(n int) int { return n + 1 })
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "https://example.com/", nil))
	cookie := w.Result().Cookies()[0]
	var wg sync.WaitGroup
	loaded.Add(20)
	for range 20 {
		wg.Go(func() {
			r := httptest.NewRequest("GET", "https://example.com/", nil)
			r.AddCookie(cookie)
			h.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	loaded.Wait()
	close(start)
	wg.Wait()
	m.commits.mu.Lock()
	defer m.commits.mu.Unlock()
	if len(m.commits.of) != 0 {
		t.Errorf("%d queues are left", len(m.commits.of))
	}
}

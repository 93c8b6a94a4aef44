// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"sync"
	"sync/atomic"
	"time"
)

const (
	people  = 40
	think   = 10 * time.Millisecond
	tooLong = 20 * time.Second
)

// seen is what the users saw during one fault.
type seen struct {
	requests, errors, movedHealthy int
	slowest                        time.Duration
}

// crowd are users who ask for a page again and again and stick to a server each.
type crowd struct {
	url  string
	well func(name string) bool // the server is up and nobody is told to leave it

	mu      sync.Mutex
	now     seen
	stopped atomic.Bool
	wg      sync.WaitGroup
}

func startCrowd(ctx context.Context, url string, well func(string) bool) (*crowd, error) {
	c := &crowd{url: url, well: well}
	first := make(chan error, people)
	for range people {
		jar, err := cookiejar.New(nil)
		if err != nil {
			return nil, err
		}
		client := &http.Client{Jar: jar, Timeout: tooLong, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
		c.wg.Go(func() { c.user(ctx, client, first) })
	}
	for range people {
		if err := <-first; err != nil {
			c.stop()
			return nil, err
		}
	}
	c.take()
	return c, nil
}

func (c *crowd) user(ctx context.Context, client *http.Client, first chan<- error) {
	defer client.CloseIdleConnections()
	at, known := "", false
	for !c.stopped.Load() && ctx.Err() == nil {
		began := time.Now()
		name, err := page(ctx, client, c.url)
		took := time.Since(began)
		if !known {
			first <- err
			known = true
		}
		c.mu.Lock()
		c.now.requests++
		c.now.slowest = max(c.now.slowest, took)
		switch {
		case err != nil:
			c.now.errors++
		default:
			if at != "" && name != at && c.well(at) {
				c.now.movedHealthy++
			}
			at = name
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(think):
		}
	}
}

func page(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &statusError{resp.StatusCode}
	}
	return string(b), err
}

type statusError struct{ code int }

func (e *statusError) Error() string { return http.StatusText(e.code) }

// take returns what was seen since the last take. A request under way counts
// when it ends.
func (c *crowd) take() seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.now
	c.now = seen{}
	return s
}

func (c *crowd) stop() {
	c.stopped.Store(true)
	c.wg.Wait()
}

// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
)

// deadCookie is the cookie of a session that was logged out, or renewed.
type deadCookie struct {
	value string
	user  string
	at    time.Time
}

// bury notes a cookie that must never be logged in again.
func (c *Checker) bury(cookie, user string) {
	if cookie == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = append(c.dead, deadCookie{cookie, user, time.Now()})
}

// buried returns the cookies from the i-th on that are dead for long enough.
func (c *Checker) buried(i int) []deadCookie {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := time.Now().Add(-logoutGrace)
	var due []deadCookie
	for _, d := range c.dead[i:] {
		if d.at.After(late) {
			break
		}
		due = append(due, d)
	}
	return due
}

// replayWhileWorking replays each cookie once at every node, as soon as the
// grace is over. A node that is away is asked in the end.
func (c *Checker) replayWhileWorking(ctx context.Context, over <-chan struct{}) {
	client := c.replayer()
	defer client.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; {
		due := c.buried(i)
		i += len(due)
		for _, d := range due {
			for _, node := range slices.Sorted(maps.Keys(c.o.Nodes)) {
				from := time.Now()
				if !c.o.Timeline.Away(node, from, from) {
					c.replay(ctx, client, node, d, false)
				}
			}
		}
		if closed(over) {
			return
		}
		pause(ctx, 100*time.Millisecond, over)
	}
}

// replayAll replays every cookie at every node, when all nodes are back.
func (c *Checker) replayAll(ctx context.Context) {
	pause(ctx, logoutGrace, nil)
	var wg sync.WaitGroup
	dead := c.buried(0)
	for _, node := range slices.Sorted(maps.Keys(c.o.Nodes)) {
		wg.Go(func() {
			client := c.replayer()
			defer client.CloseIdleConnections()
			for _, d := range dead {
				if ctx.Err() != nil {
					return
				}
				c.replay(ctx, client, node, d, true)
			}
		})
	}
	wg.Wait()
}

func (c *Checker) replayer() *http.Client {
	return &http.Client{Transport: c.transport(), Timeout: replayTimeout}
}

// replay shows an old cookie to a node. No answer is a fault only if it must:
// in the end, when every node is there.
func (c *Checker) replay(ctx context.Context, client *http.Client, node string, d deadCookie, must bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.o.Nodes[node]+"/api/state", nil)
	if err != nil {
		panic("check: " + err.Error()) // our own URL
	}
	req.Header.Set("Cookie", shop.CookieName+"="+d.value)
	a := exchange(client, req)
	if ctx.Err() != nil {
		return
	}
	v := Violation{At: time.Now(), User: d.user, Request: "GET /api/state with an old cookie", Node: node}
	switch {
	case a.Failed():
		if !must {
			return
		}
		v.Kind, v.Want, v.Got = Error, "an answer", a.why()
	case a.State.User != "":
		v.Kind, v.Want, v.Got = Revived, "nobody logged in", fmt.Sprintf("user %q", a.State.User)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Replays++
	if v.Got != "" {
		c.report.add(v)
	}
}

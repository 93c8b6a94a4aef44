// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
)

// user is one person with a browser of his own.
type user struct {
	c      *Checker
	rng    *mathrand.Rand
	client *http.Client
	notes  int

	mu    sync.Mutex
	model Model
}

func (c *Checker) newUser(i int, rng *mathrand.Rand) *user {
	u := &user{c: c, rng: rng}
	u.model.Name = fmt.Sprintf("u%03d", i)
	u.model.Away = c.o.Timeline.Away
	u.client = &http.Client{
		Transport:     c.transport(),
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	u.newBrowser()
	return u
}

// newBrowser throws all cookies away, the gateway's too.
func (u *user) newBrowser() {
	u.client.Jar, _ = cookiejar.New(nil) // never fails
	u.model.Forget()
}

func (u *user) work(ctx context.Context, enough <-chan struct{}) {
	defer u.client.CloseIdleConnections()
	pause(ctx, time.Duration(u.rng.Int64N(int64(4*u.c.o.Pause))), enough)
	for ctx.Err() == nil && !closed(enough) {
		u.visit(ctx, enough)
	}
	if ctx.Err() != nil {
		return
	}
	u.c.mu.Lock()
	defer u.c.mu.Unlock()
	u.c.report.Users++
	if u.model.Moved() {
		u.c.report.Moved++
	}
}

// visit is one stay in the shop: look around, log in, do things, log out. When
// it is enough it ends early, but never without the last look.
func (u *user) visit(ctx context.Context, enough <-chan struct{}) {
	if u.rng.IntN(2) == 0 { // the cart of somebody not logged in goes with him
		u.do(ctx, Request{Op: Add, Item: u.item()})
		u.pause(ctx, enough)
	}
	before := u.cookie()
	if !u.do(ctx, Request{Op: Login}) {
		u.newBrowser()
		return
	}
	u.c.bury(before, u.model.Name)
	for range 12 + u.rng.IntN(40) {
		if ctx.Err() != nil || closed(enough) || !u.model.LoggedIn() {
			break
		}
		u.pause(ctx, enough)
		u.act(ctx)
	}
	u.pause(ctx, nil)
	u.do(ctx, Request{Op: Read})
	u.leave(ctx)
	u.pause(ctx, enough)
}

// act is one thing a user does.
func (u *user) act(ctx context.Context) {
	switch n := u.rng.IntN(100); {
	case n < 34:
		u.do(ctx, Request{Op: Read})
	case n < 54:
		u.do(ctx, Request{Op: Add, Item: u.item()})
	case n < 66:
		u.do(ctx, Request{Op: Put, Item: u.item(), Qty: 1 + u.rng.IntN(9)})
	case n < 74:
		u.do(ctx, Request{Op: Remove, Item: u.item()})
	case n < 80:
		u.do(ctx, u.note())
	case n < 86:
		u.do(ctx, Request{Op: Visit})
	default: // two that change different things
		cart := Request{Op: Add, Item: u.item()}
		if u.rng.IntN(3) == 0 {
			cart = Request{Op: Put, Item: cart.Item, Qty: 1 + u.rng.IntN(9)}
		}
		u.both(ctx, cart, u.note())
	}
}

// leave logs out. Some do it while another change is under way: that change may
// be lost, but must not bring the session back.
func (u *user) leave(ctx context.Context) {
	if !u.model.LoggedIn() {
		u.newBrowser()
		return
	}
	old := u.cookie()
	out, fresh := false, u.rng.IntN(2) == 0
	if u.rng.IntN(3) == 0 {
		out, fresh = u.leaveBusy(ctx), true
	} else {
		out = u.do(ctx, Request{Op: Logout})
	}
	if out {
		u.c.bury(old, u.model.Name)
	}
	if fresh || !out {
		u.newBrowser()
	}
}

// leaveBusy logs out a moment after sending a change.
func (u *user) leaveBusy(ctx context.Context) bool {
	note, wait := u.note(), time.Duration(u.rng.Int64N(int64(4*time.Millisecond)))
	var wg sync.WaitGroup
	wg.Go(func() { u.do(ctx, note) })
	pause(ctx, wait, nil)
	out := u.do(ctx, Request{Op: Logout})
	wg.Wait()
	return out
}

func (u *user) item() string {
	items := shop.Items()
	return items[u.rng.IntN(len(items))].Name
}

func (u *user) note() Request {
	u.notes++
	return Request{Op: Note, Text: u.model.Name + ":" + strconv.Itoa(u.notes)}
}

func (u *user) pause(ctx context.Context, enough <-chan struct{}) {
	d := u.c.o.Pause
	pause(ctx, d/2+time.Duration(u.rng.Int64N(int64(d))), enough)
}

// both sends two requests at the same time.
func (u *user) both(ctx context.Context, a, b Request) {
	var wg sync.WaitGroup
	wg.Go(func() { u.do(ctx, a) })
	wg.Go(func() { u.do(ctx, b) })
	wg.Wait()
}

// do sends one request and has the model look at the answer. It reports whether
// the request succeeded.
func (u *user) do(ctx context.Context, r Request) bool {
	req, err := u.request(ctx, r)
	if err != nil {
		panic("check: " + err.Error()) // our own URL
	}
	u.mu.Lock()
	r.At = time.Now()
	ticket := u.model.Begin(r)
	u.mu.Unlock()

	a := exchange(u.client, req)

	u.mu.Lock()
	a.At = time.Now()
	found := u.model.End(ticket, a)
	u.mu.Unlock()
	if ctx.Err() != nil {
		return false // we gave up, not the gateway
	}
	u.c.o.Timeline.Observe(r.At, a.At)
	u.c.note(found)
	return !a.Failed()
}

func (u *user) request(ctx context.Context, r Request) (*http.Request, error) {
	method, path, form := http.MethodGet, "/api/state", url.Values{}
	switch r.Op {
	case Login:
		method, path = http.MethodPost, "/login"
		form.Set("name", u.model.Name)
	case Logout:
		method, path = http.MethodPost, "/logout"
	case Add:
		method, path = http.MethodPost, "/cart/"+r.Item
	case Put:
		method, path = http.MethodPut, "/cart/"+r.Item
		form.Set("qty", strconv.Itoa(r.Qty))
	case Remove:
		method, path = http.MethodDelete, "/cart/"+r.Item
	case Note:
		method, path = http.MethodPut, "/note"
		form.Set("note", r.Text)
	case Visit:
		method, path = http.MethodPost, "/visit"
	}
	var body io.Reader
	if len(form) > 0 {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, u.c.o.Gateway+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if method == http.MethodPost && r.Op.Repeatable() {
		req.Header.Set("Idempotency-Key", rand.Text())
	}
	return req, nil
}

// headerOutcome is how the gateway says that a failed request may have taken
// effect.
const headerOutcome = "Belay-Outcome"

func exchange(client *http.Client, req *http.Request) (a Answer) {
	res, err := client.Do(req)
	if err != nil {
		a.Err = err
		return a
	}
	defer func() { _ = res.Body.Close() }()
	a.Status, a.Node = res.StatusCode, res.Header.Get(shop.HeaderNode)
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		a.Err = fmt.Errorf("the answer broke off: %w", err)
	case a.Status >= 400:
		a.Unknown = res.Header.Get(headerOutcome) == "unknown"
	case json.Unmarshal(body, &a.State) != nil:
		a.Err = fmt.Errorf("status %d, but the body is no state: %.60q", a.Status, body)
	case a.State.Node != a.Node:
		a.Err = fmt.Errorf("the header says that %s answered, the body says %s", a.Node, a.State.Node)
	}
	return a
}

// cookie is the user's session cookie; empty: none.
func (u *user) cookie() string {
	base, err := url.Parse(u.c.o.Gateway)
	if err != nil {
		panic("check: " + err.Error())
	}
	for _, k := range u.client.Jar.Cookies(base) {
		if k.Name == shop.CookieName {
			return k.Value
		}
	}
	return ""
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

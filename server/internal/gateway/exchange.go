// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/clientip"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// exchange is one request of a client, with all the tries it takes.
type exchange struct {
	g       *Gateway
	site    *site
	p       *pool // of the site
	w       http.ResponseWriter
	rc      *http.ResponseController // of w
	now     *snapshot
	leave   func()      // gives back what admit took; nil: nothing
	body    *clientBody // nil: none
	r       *http.Request
	ctx     context.Context //nolint:containedctx // that of r
	start   time.Time
	client  clientip.Client
	cookie  string     // value of the sticky cookie that came
	token   wire.Token // of the session; if it is known
	known   bool
	q       balance.Request
	msg     message
	socket  *socket // the client speaks HTTP/2; nil: no WebSocket, or over HTTP/1.1
	tried   balance.Set
	granted time.Time // when the client was last given time to take the answer
	fence   time.Time // no other server may have the request before; zero: none waits
	failed  *refusal  // what to answer if no server is left

	// For the log, and what the answer was.
	servers  []string
	retries  []string
	charged  int // retries that the budget had to allow
	result   balance.Result
	answered bool       // by the last of servers
	span     trace.Span // nil: none
	status   int
	bytes    int64
	outcome  string
	tunnel   bool     // it has entered the tunnels
	b        *backend // the last one that was tried
	cut      bool     // the client must see that the answer is not whole
}

// ServeHTTP sends the request to a server and its answer to the client.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := g.now.Load()
	x := &exchange{g: g, w: w, rc: http.NewResponseController(w), now: now, r: r, ctx: r.Context(), start: time.Now()}
	defer x.finish()
	x.client = now.trust.Find(r.RemoteAddr, r.Header["X-Forwarded-For"], r.Header["Forwarded"])
	if r.ProtoMajor == 2 && r.Header[protocolField] != nil && !x.openSocket() {
		return
	}
	i, ok := now.table.Find(r.Host, r.URL.Path)
	if !ok {
		x.refuse(&refusal{status: http.StatusNotFound, outcome: "no_route", text: "Nothing is served here under this host and path."})
		return
	}
	x.site, x.p = &now.sites[i], now.sites[i].p
	x.g.tracer.begin(x)
	if !x.admit() {
		return
	}
	x.p.budget.Request(x.start)
	if !x.prepare() {
		return
	}
	for {
		i, ok := x.pick()
		if !ok {
			return
		}
		x.tried.Add(i)
		if x.on(i) {
			return
		}
	}
}

// on runs the request on the server that was picked, and gives its place back.
func (x *exchange) on(i int) bool {
	x.result = balance.Result{Failed: true}
	defer func() { x.p.balance.Done(i, x.result, time.Now()) }()
	return x.try(i)
}

// finish writes the log, whatever happened.
func (x *exchange) finish() {
	x.msg.free()
	if x.leave != nil {
		x.leave()
	}
	x.log()
	x.g.metrics.request(x)
	x.g.tracer.end(x)
	if x.tunnel {
		x.g.tunnels.leave()
	}
	if x.cut {
		panic(http.ErrAbortHandler) // closes the connection: all that is left to say
	}
}

func (x *exchange) prepare() bool {
	r := x.r
	target, err := target(r)
	if err != nil {
		x.refuse(&refusal{status: http.StatusNotImplemented, outcome: "not_a_path", text: "This gateway does not tunnel: ask for a path."})
		return false
	}
	if by := x.site.cfg.ReplacePrefix; by != nil && target != "*" {
		target = replacePrefix(target, r.URL, x.site.cfg.Path, *by)
	}
	if !x.limitBody() {
		return false
	}
	cookies := r.Header["Cookie"]
	cookies = x.bind(cookies)
	if err := x.msg.readBody(r); err != nil {
		x.badBody()
		return false
	}
	if u := x.msg.upload; u != nil {
		u.Trailer = r.Trailer
		// Else the server would swallow the body before the answer's first byte.
		_ = x.rc.EnableFullDuplex()
	}
	x.msg.room = heads.Get().(*[headRoom]byte)
	x.writeHead(x.msg.room[:0], target, cookies)
	return true
}

// repeat reports whether the request, once sent, may be sent again.
func (x *exchange) repeat() bool { return repeatable(x.r) && !x.msg.upload.Begun() }

// try runs the request on one server. It reports whether the client has an
// answer; if not, another server may have the request, now.
func (x *exchange) try(i int) bool {
	b := x.p.backends[i]
	x.b, x.servers = b, append(x.servers, b.name)
	if b.protocol != upstream.HTTP1 {
		return x.tryStream(i, b)
	}
	for again := false; ; again = true {
		c, err := x.connect(b, again)
		if err != nil {
			return x.noConnection(b, err)
		}
		a := b.begin(x.ctx, c, x.site.t)
		resp, sent, err := x.send(a)
		if err == nil {
			return x.answer(i, a, resp)
		}
		if x.stale(a, err, sent) {
			// The server hung up on an idle connection while we wrote to it. It is
			// the same process that gets the request again, so nothing need be awaited.
			if f := a.giveUp(); sent {
				x.fence = f
			}
			x.note("stale_connection")
			continue
		}
		return x.lost(i, a, sent, err)
	}
}

func (x *exchange) connect(b *backend, fresh bool) (*upstream.Conn, error) {
	if fresh {
		return b.conns.Open(x.ctx, x.hello(b))
	}
	return b.conns.Get(x.ctx, x.hello(b))
}

// send writes the request and waits for the head of the answer; interim answers
// go to the client at once. sent is false if no byte can have reached the server.
func (x *exchange) send(a *attempt) (resp *http.Response, sent bool, err error) {
	head := x.msg.head // what follows goes into spare room: one attempt at a time
	if a.fenced {
		head = field(head, wire.HeaderAttempt, a.header())
	}
	head = append(head, "\r\n"...)
	sent, err = a.conn.Send(head, x.msg.body, a.deadline)
	if err != nil {
		return nil, sent, err
	}
	a.repeat = x.repeat()
	if u := x.msg.upload; u != nil {
		a.upload, a.repeat = u, false
		u.Start(a.conn)
	}
	a.patient()
	for interim := 0; ; interim++ {
		resp, err = a.conn.Answer(x.r)
		switch {
		case err != nil:
			return nil, true, err
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, true, nil
		case interim >= maxInterim:
			return nil, true, upstream.ErrAnswer
		case resp.StatusCode != http.StatusContinue: // the client got its own
			x.interim(resp)
		}
	}
}

const maxInterim = 16

// staleWindow is how soon a hang-up must come to have crossed with the request.
// Later ones broke off something that ran.
const staleWindow = 50 * time.Millisecond

func (x *exchange) stale(a *attempt, err error, sent bool) bool {
	c := a.conn
	return c.Reused && time.Since(a.sent) < staleWindow && !c.Answered() && errors.Is(err, upstream.ErrBroken) && x.ctx.Err() == nil &&
		(!sent || x.repeat()) && !x.msg.upload.Begun()
}

// noConnection handles a server to which nothing could be written.
func (x *exchange) noConnection(b *backend, err error) bool {
	if x.ctx.Err() != nil {
		x.gone()
		return true
	}
	if errors.Is(err, upstream.ErrLocal) {
		x.g.log.Error("no connection can be opened", "server", b.name, "error", err)
		x.refuse(&refusal{status: http.StatusServiceUnavailable, text: "The gateway is out of connections; try again.", outcome: "out_of_connections"})
		return true
	}
	b.noticed(err)
	if errors.Is(err, upstream.ErrRefused) {
		x.fence = time.Time{} // whatever ran there is dead
		return x.move("refused")
	}
	return x.move("unreachable")
}

// lost handles an attempt whose request was written, at least in part, and whose
// answer did not come.
func (x *exchange) lost(i int, a *attempt, sent bool, err error) bool {
	b := a.b
	repeat := x.repeat()
	fence := a.giveUp()
	upErr := x.stopUpload()
	if x.ctx.Err() == nil && !errors.Is(upErr, upstream.ErrBody) {
		x.p.observe(i, true, time.Since(a.sent))
	}
	switch {
	case x.body.why() != nil: // net/http ends the context with the read that failed
		x.badBody()
		return true
	case x.ctx.Err() != nil:
		x.gone()
		return true
	case errors.Is(upErr, upstream.ErrBody):
		x.badBody()
		return true
	case errors.Is(err, errTimeout):
		x.refuse(unknown(http.StatusGatewayTimeout, "The server took too long to answer.", "timeout"))
		return true
	case errors.Is(err, errSilent):
		x.failed = unknown(http.StatusGatewayTimeout, "The server stopped answering.", "silent")
		if !repeat {
			x.refuse(x.failed)
			return true
		}
		return x.move("silent") // its fence has passed
	case errors.Is(err, upstream.ErrBroken):
		if !sent && x.msg.upload.Begun() {
			sent = true
		}
		if !sent {
			return x.move("broken_before_send")
		}
		x.failed = unknown(http.StatusBadGateway, "The connection to the server broke before its answer.", "broken")
		if !repeat {
			b.g.asks.Go(func() { b.refused(context.Background()) }) // so that nobody else runs into it
			x.refuse(x.failed)
			return true
		}
		x.fence = later(x.fence, fence)
		if !b.awaitDeath(x.ctx, x.fence) {
			return x.move("broken")
		}
		x.fence = time.Time{}
		return x.move("dead")
	}
	x.g.log.Warn("server sent something that is not HTTP", "server", b.name, "error", err)
	x.refuse(unknown(http.StatusBadGateway, "The server's answer could not be understood.", "malformed_answer"))
	return true
}

// awaitDeath returns true as soon as the server is known to be dead, or false at
// the fence or when the client has left.
func (b *backend) awaitDeath(ctx context.Context, fence time.Time) bool {
	for {
		if b.refused(ctx) {
			return true
		}
		left := time.Until(fence)
		if left <= 0 || !sleep(ctx, min(left, 50*time.Millisecond)) {
			return false
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// move notes why the request goes to another server, and waits for what is left
// of its fence. It reports whether the exchange is over.
func (x *exchange) move(why string) bool {
	if !x.may(why) {
		return true
	}
	if left := time.Until(x.fence); !x.fence.IsZero() && left > 0 {
		sleep(x.ctx, left)
	}
	x.fence = time.Time{}
	if x.ctx.Err() != nil {
		x.gone()
		return true
	}
	return false
}

// costly are the moves after which a request may run a second time: those are
// what beats a sick pool to death. A server that takes no connection, or says
// that it did not run the request, is left for nothing.
var costly = map[string]bool{"silent": true, "broken": true, "dead": true, "attempt_expired": true}

// may notes why the request leaves its server and reports whether it may go to
// another one; if not, the client has been told.
func (x *exchange) may(why string) bool {
	x.note(why)
	if !costly[why] {
		return true
	}
	x.charged++
	r := &x.p.cfg.Retries
	switch f := *x.failed; {
	case r.Max >= 0 && x.charged > r.Max:
		f.outcome = "too_many_retries"
		x.refuse(&f)
	case !x.p.budget.Retry(time.Now()):
		f.outcome = "retry_budget"
		x.refuse(&f)
	default:
		return true
	}
	return false
}

// note is for the log and the metrics.
func (x *exchange) note(why string) {
	x.retries = append(x.retries, why)
	x.g.metrics.retry(x.p.cfg.Name, x.servers[len(x.servers)-1], why)
}

// stopUpload ends an upload that is still going on, and returns how it ended.
func (x *exchange) stopUpload() error {
	u := x.msg.upload
	if !u.Begun() {
		return nil
	}
	select {
	case <-u.Done():
	default:
		// The goroutine may wait for the client: nothing else reaches it there.
		x.w.Header().Set("Connection", "close")
		x.body.stop()
		<-u.Done()
		return nil // we broke it off ourselves
	}
	return u.Err()
}

// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/servertest"
)

const hour = time.Hour

func client(t testing.TB, addr string, opts *memcache.Options) *memcache.Client {
	t.Helper()
	c, err := memcache.New(addr, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	c := client(t, servertest.StartMemcached(t).Addr(), nil)
	ctx := within(t, 20*time.Second)
	num, got := must[uint64](t), must[memcache.Item](t)
	for _, key := range []string{"plain", "a b\r\n\x00\xff", strings.Repeat("k", 250), strings.Repeat(" ", 186)} {
		for _, value := range []string{"", "x", "binary\r\nEND\r\n\x00\xff", strings.Repeat("v", 100_000)} {
			if _, err := c.Get(ctx, key); err != memcache.ErrMiss {
				t.Fatalf("get: %v", err)
			}
			if _, err := c.Replace(ctx, key, []byte("r"), hour); err != memcache.ErrMiss {
				t.Errorf("replace of nothing: %v", err)
			}
			if _, err := c.CompareAndSwap(ctx, key, []byte("r"), hour, 77); err != memcache.ErrMiss {
				t.Errorf("swap of nothing: %v", err)
			}
			if _, err := c.Touch(ctx, key, hour); err != memcache.ErrMiss {
				t.Errorf("touch of nothing: %v", err)
			}
			if _, err := c.GetAndTouch(ctx, key, hour); err != memcache.ErrMiss {
				t.Errorf("get and touch of nothing: %v", err)
			}
			if err := c.CompareAndDelete(ctx, key, 77); err != memcache.ErrMiss {
				t.Errorf("conditional delete of nothing: %v", err)
			}
			if err := c.Delete(ctx, key); err != memcache.ErrMiss {
				t.Errorf("delete of nothing: %v", err)
			}
			cas := num(c.Add(ctx, key, []byte(value), hour))
			if _, err := c.Add(ctx, key, []byte("other"), hour); err != memcache.ErrExists {
				t.Errorf("second add: %v", err)
			}
			if it := got(c.Get(ctx, key)); string(it.Value) != value || it.CAS != cas || it.TTL < hour-time.Minute || it.TTL > hour+time.Second {
				t.Errorf("get: %d bytes, cas %d of %d, ttl %v", len(it.Value), it.CAS, cas, it.TTL)
			}
			if it := got(c.Touch(ctx, key, 60*24*hour)); it.Value != nil || it.CAS != cas || it.TTL < hour-time.Minute || it.TTL > hour+time.Second {
				t.Errorf("touch: %+v", it)
			}
			if it := got(c.GetAndTouch(ctx, key, time.Minute)); string(it.Value) != value || it.CAS != cas || it.TTL < 60*24*hour-time.Minute {
				t.Errorf("get and touch: ttl before %v: 60 days are a date to memcached", it.TTL)
			}
			if _, err := c.CompareAndSwap(ctx, key, []byte("other"), hour, cas+1000); err != memcache.ErrChanged {
				t.Errorf("swap with a wrong number: %v", err)
			}
			if err := c.CompareAndDelete(ctx, key, cas+1000); err != memcache.ErrChanged {
				t.Errorf("delete with a wrong number: %v", err)
			}
			if it := got(c.Get(ctx, key)); string(it.Value) != value || it.TTL > time.Minute+time.Second {
				t.Errorf("what was refused had an effect, or the touch had none: ttl %v", it.TTL)
			}
			cas = num(c.CompareAndSwap(ctx, key, []byte("swapped"), 60*24*hour, cas))
			if it := got(c.Get(ctx, key)); string(it.Value) != "swapped" || it.TTL < 60*24*hour-time.Minute {
				t.Errorf("swap: %q, ttl %v", it.Value, it.TTL)
			}
			if err := c.CompareAndDelete(ctx, key, cas); err != nil {
				t.Error(err)
			}
			num(c.Set(ctx, key, []byte("set"), time.Millisecond))
			num(c.Replace(ctx, key, []byte("replaced"), hour))
			if it := got(c.Get(ctx, key)); string(it.Value) != "replaced" {
				t.Errorf("replace: %q", it.Value)
			}
			if err := c.Delete(ctx, key); err != nil {
				t.Error(err)
			}
		}
	}
	if v := must[string](t)(c.Version(ctx)); !strings.HasPrefix(v, "1.") {
		t.Errorf("version %q", v)
	}
	stats := must[map[string]string](t)(c.Stats(ctx, ""))
	if stats["evictions"] != "0" || stats["curr_items"] != "0" {
		t.Errorf("stats: %v", stats)
	}
	if s := must[map[string]string](t)(c.Stats(ctx, "settings")); s["item_size_max"] != "1048576" {
		t.Errorf("settings: %v", s)
	}
	if _, err := c.Stats(ctx, "reset"); err == nil {
		t.Error("stats reset would change the server")
	}
}

func TestSeveralKeys(t *testing.T) {
	t.Parallel()
	c := client(t, servertest.StartMemcached(t).Addr(), nil)
	ctx := within(t, 20*time.Second)
	var keys []string
	for i := range 300 {
		key := fmt.Sprintf("key %d", i) // a space: base64
		if i%2 == 0 {
			key = fmt.Sprintf("key%d", i)
		}
		keys = append(keys, key, key)
		if i%3 != 0 {
			must[uint64](t)(c.Set(ctx, key, []byte(key), hour))
		}
	}
	got := must[map[string]memcache.Item](t)(c.GetMulti(ctx, keys...))
	if len(got) != 200 {
		t.Errorf("%d entries of 200", len(got))
	}
	for key, it := range got {
		if string(it.Value) != key || it.CAS == 0 || it.TTL <= 0 {
			t.Errorf("%q: %+v", key, it)
		}
	}
	if got, err := c.GetMulti(ctx); len(got) != 0 || err != nil {
		t.Errorf("no keys: %v, %v", got, err)
	}
}

// Each of these would harm the connection, or the data, were it sent.
func TestRefusedUnsent(t *testing.T) {
	t.Parallel()
	c := client(t, servertest.StartMemcached(t).Addr(), &memcache.Options{Connections: 1})
	ctx := within(t, 20*time.Second)
	must[uint64](t)(c.Set(ctx, "k", []byte("kept"), hour))
	before := must[map[string]string](t)(c.Stats(ctx, ""))
	long := strings.Repeat("k", 251)
	for name, err := range map[string]error{
		"get": second(c.Get(ctx, long)), "add": second(c.Add(ctx, long, nil, hour)), "delete": c.Delete(ctx, long), "multi": second(c.GetMulti(ctx, "k", long)),
	} {
		if !errors.Is(err, memcache.ErrKey) || strings.Contains(err.Error(), "kkk") || !strings.Contains(err.Error(), c.Addr()) {
			t.Errorf("%s with a key of 251 bytes: %v", name, err)
		}
	}
	for _, err := range []error{second(c.Set(ctx, "k", nil, 0)), second(c.Touch(ctx, "k", 0)), second(c.GetAndTouch(ctx, "k", -1))} {
		if !errors.Is(err, memcache.ErrTTL) {
			t.Errorf("without an end: %v", err)
		}
	}
	for _, err := range []error{second(c.CompareAndSwap(ctx, "k", nil, hour, 0)), c.CompareAndDelete(ctx, "k", 0)} {
		if !errors.Is(err, memcache.ErrNoCAS) {
			t.Errorf("CAS 0 is no condition: %v", err)
		}
	}
	for _, size := range []int{1 << 20, 1048576 - 80} {
		if _, err := c.Set(ctx, "k", make([]byte, size), hour); !errors.Is(err, memcache.ErrTooLarge) || errors.Is(err, memcache.ErrUnknown) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if it := must[memcache.Item](t)(c.Get(ctx, "k")); string(it.Value) != "kept" {
		t.Errorf("the entry is %q", it.Value)
	}
	after := must[map[string]string](t)(c.Stats(ctx, ""))
	if before["cmd_set"] != after["cmd_set"] || before["total_connections"] != after["total_connections"] {
		t.Error("something was sent, or the connection was not kept")
	}
}

func second[T any](_ T, err error) error { return err }

func TestValuesUpToTheServersLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		most int
	}{
		{nil, 1048576 - 330},
		{[]string{"-I", "4m"}, 3 << 20},
		{[]string{"-I", "512k"}, 512<<10 - 330},
	} {
		c := client(t, servertest.StartMemcached(t, tt.args...).Addr(), nil)
		ctx := within(t, 20*time.Second)
		value := make([]byte, tt.most)
		_, _ = rand.Read(value)
		key := strings.Repeat("k", 250)
		must[uint64](t)(c.Add(ctx, key, value, hour))
		if it := must[memcache.Item](t)(c.Get(ctx, key)); !bytes.Equal(it.Value, value) {
			t.Errorf("%q: %d bytes came back as %d", tt.args, len(value), len(it.Value))
		}
		if _, err := c.Set(ctx, key, make([]byte, 5<<20), hour); !errors.Is(err, memcache.ErrTooLarge) {
			t.Errorf("%q: 5 MiB: %v", tt.args, err)
		}
		if it := must[memcache.Item](t)(c.Get(ctx, key)); !bytes.Equal(it.Value, value) {
			t.Errorf("%q: a write that was too large removed the entry", tt.args)
		}
	}
	small := client(t, servertest.StartMemcached(t).Addr(), &memcache.Options{MaxValue: 10})
	if _, err := small.Set(t.Context(), "k", make([]byte, 11), hour); !errors.Is(err, memcache.ErrTooLarge) {
		t.Errorf("MaxValue: %v", err)
	}
}

func TestFullServerSaysSo(t *testing.T) {
	t.Parallel()
	c := client(t, servertest.StartMemcached(t, "-M", "-m", "2").Addr(), nil)
	ctx := within(t, 20*time.Second)
	for i := range 100 {
		_, err := c.Add(ctx, fmt.Sprint(i), make([]byte, 200_000), hour)
		if err == nil {
			continue
		}
		if !errors.Is(err, memcache.ErrFull) || errors.Is(err, memcache.ErrUnknown) {
			t.Errorf("full: %v", err)
		}
		if _, err := c.Version(ctx); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		return
	}
	t.Error("20 MB fit into 2 MB without an error")
}

func TestServerWithoutCAS(t *testing.T) {
	t.Parallel()
	c := client(t, servertest.StartMemcached(t, "-C").Addr(), nil)
	ctx := within(t, 20*time.Second)
	cas := must[uint64](t)(c.Add(ctx, "k", []byte("first"), hour))
	if _, err := c.CompareAndSwap(ctx, "k", []byte("second"), hour, cas); !errors.Is(err, memcache.ErrNoCAS) {
		t.Errorf("a swap without a condition: %v", err)
	}
	if it := must[memcache.Item](t)(c.Get(ctx, "k")); string(it.Value) != "first" {
		t.Errorf("%q", it.Value)
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(file, []byte("u:s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The server runs as another user: it reads the file through its own directory.
	readable := publicCopy(t, file)
	addr := servertest.StartMemcached(t, "-Y", readable).Addr()
	ctx := within(t, 20*time.Second)
	c := client(t, addr, &memcache.Options{User: "u", Password: "s3cret"})
	must[uint64](t)(c.Set(ctx, "k", []byte("v"), hour))
	for _, o := range []*memcache.Options{nil, {User: "u", Password: "wr0ng"}, {User: "other", Password: "s3cret"}} {
		_, err := client(t, addr, o).Get(ctx, "k")
		if !errors.Is(err, memcache.ErrAuth) || strings.Contains(err.Error(), "wr0ng") || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), addr) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	open := servertest.StartMemcached(t)
	c = client(t, open.Addr(), &memcache.Options{User: "u", Password: "s3cret"})
	must[uint64](t)(c.Set(ctx, "k", []byte("v"), hour))
	if s := must[map[string]string](t)(c.Stats(ctx, "")); s["cmd_set"] != "1" {
		t.Errorf("%s sets: the password was given to a server that stores it", s["cmd_set"])
	}
}

func publicCopy(t *testing.T, file string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "belay-memcache-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, filepath.Base(file))
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(to, content, 0o644)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestConnectionLimitOfTheServer(t *testing.T) {
	t.Parallel()
	s := servertest.StartMemcached(t, "-c", "64")
	ctx := within(t, 30*time.Second)
	c := client(t, s.Addr(), &memcache.Options{Connections: 2})
	must[uint64](t)(c.Set(ctx, "k", []byte("v"), hour)) // has one connection, may want another
	must[uint64](t)(c.Set(ctx, "k", []byte("v"), hour))
	var others []net.Conn
	defer func() {
		for _, o := range others {
			_ = o.Close()
		}
	}()
	var err error
	for range 80 {
		if err = second(client(t, s.Addr(), &memcache.Options{Connections: 1}).Version(ctx)); err != nil {
			break
		}
	}
	if !errors.Is(err, memcache.ErrBusy) || errors.Is(err, memcache.ErrUnknown) {
		t.Errorf("at the limit: %v", err)
	}
	for range 20 {
		must[memcache.Item](t)(c.Get(ctx, "k")) // who is in stays in
	}
}

func TestConnectionLimitOfTheClient(t *testing.T) {
	t.Parallel()
	s := servertest.StartMemcached(t)
	c := client(t, s.Addr(), &memcache.Options{Connections: 3})
	ctx := within(t, 30*time.Second)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() { _, _ = c.Version(ctx) })
	}
	wg.Wait()
	stats := must[map[string]string](t)(c.Stats(ctx, ""))
	// One more was opened to see whether the server answers, and may not be closed yet.
	if n := stats["curr_connections"]; n > "5" || len(n) > 1 {
		t.Errorf("%s connections: %v allowed", n, 3)
	}
	if n := stats["total_connections"]; len(n) > 1 {
		t.Errorf("%s connections were opened in all", n)
	}
}

// Every value names its key, so that an answer given to the wrong call is seen.
func TestManyCallersAndCancelledOnes(t *testing.T) {
	t.Parallel()
	c := client(t, servertest.StartMemcached(t).Addr(), nil)
	ctx := within(t, 60*time.Second)
	const callers, rounds = 200, 60
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			key := fmt.Sprintf("key%d", i)
			value := bytes.Repeat([]byte(key+" "), 1+i*3)
			if _, err := c.Set(ctx, key, value, hour); err != nil {
				t.Error(err)
				return
			}
			for n := range rounds {
				short, cancel := context.WithCancel(ctx)
				if n%3 == 0 { // ends somewhere along the way
					go cancel()
				}
				switch n % 4 {
				case 0, 1:
					it, err := c.Get(short, key)
					if err == nil && !bytes.Equal(it.Value, value) {
						t.Errorf("%s was given %.20q", key, it.Value)
					}
					check(t, err, n%3 == 0)
				case 2:
					it, err := c.GetMulti(short, key, "nothing")
					if err == nil && (len(it) != 1 || !bytes.Equal(it[key].Value, value)) {
						t.Errorf("%s was given %d entries", key, len(it))
					}
					check(t, err, n%3 == 0)
				case 3:
					_, err := c.Set(short, key, value, hour)
					check(t, err, n%3 == 0)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

func check(t *testing.T, err error, mayEnd bool) {
	t.Helper()
	if err != nil && !(mayEnd && errors.Is(err, context.Canceled)) {
		t.Error(err)
	}
}

func TestServerRestarted(t *testing.T) {
	t.Parallel()
	s := servertest.StartMemcached(t)
	c := client(t, s.Addr(), nil)
	ctx := within(t, 30*time.Second)
	must[uint64](t)(c.Set(ctx, "k", []byte("v"), hour))
	s.Kill()
	for { // the socket may close a moment later
		_, err := c.Get(ctx, "k")
		if errors.Is(err, memcache.ErrUnavailable) && strings.Contains(err.Error(), "refused") {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the server is dead: %v", err)
		}
	}
	s.Restart()
	for {
		_, err := c.Get(ctx, "k")
		if err == memcache.ErrMiss {
			break // it is back, and empty
		}
		if !errors.Is(err, memcache.ErrUnavailable) || errors.Is(err, memcache.ErrUnknown) {
			t.Fatalf("after the restart: %v", err)
		}
	}
	must[uint64](t)(c.Add(ctx, "k", []byte("v"), hour))
}

// freeze returns once the server is silent, which is a moment after it is told to stop.
func freeze(t *testing.T, s servertest.Memcached, opts *memcache.Options) {
	t.Helper()
	s.Freeze()
	for err := error(nil); err == nil; {
		probe := client(t, s.Addr(), opts)
		_, err = probe.Version(within(t, 300*time.Millisecond))
		_ = probe.Close()
	}
}

func TestFrozenServer(t *testing.T) {
	t.Parallel()
	s := servertest.StartMemcached(t)
	c := client(t, s.Addr(), &memcache.Options{Connections: 1, AnswerTimeout: 500 * time.Millisecond, ConnectTimeout: 500 * time.Millisecond})
	ctx := within(t, 30*time.Second)
	must[uint64](t)(c.Set(ctx, "k", []byte("before"), hour))
	freeze(t, s, &memcache.Options{})

	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := c.Get(short, "k"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, memcache.ErrUnknown) {
		t.Errorf("a read past its deadline: %v", err)
	}
	if _, err := c.Set(short, "k", []byte("late"), hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call past its deadline: %v", err)
	}
	// Without a deadline: the connection is given up, and takes all with it. More
	// is written than the socket takes.
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			_, err := c.Set(context.Background(), fmt.Sprint(i), make([]byte, 500_000), hour)
			if !errors.Is(err, memcache.ErrUnavailable) {
				t.Errorf("a write to a frozen server: %v", err)
			}
		})
	}
	wg.Go(func() {
		if _, err := c.Get(context.Background(), "k"); !errors.Is(err, memcache.ErrUnavailable) || errors.Is(err, memcache.ErrUnknown) {
			t.Errorf("a read from a frozen server: %v", err)
		}
	})
	wg.Wait()
	s.Thaw()
	for {
		it, err := c.Get(ctx, "k")
		if err == nil {
			if string(it.Value) != "before" {
				t.Errorf("a call that was past its deadline before it was sent took effect: %q", it.Value)
			}
			break
		}
		if !errors.Is(err, memcache.ErrUnavailable) {
			t.Fatalf("after the thaw: %v", err)
		}
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) { // not parallel: it counts goroutines
	s := servertest.StartMemcached(t)
	before := runtime.NumGoroutine()
	c, err := memcache.New(s.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.NumGoroutine() != before {
		t.Error("New started a goroutine")
	}
	ctx := within(t, 30*time.Second)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _, _ = c.Version(ctx) })
	}
	wg.Wait()
	freeze(t, s, &memcache.Options{})
	errs := make(chan error, 2)
	go func() { errs <- second(c.Set(ctx, "k", []byte("v"), hour)) }()
	go func() { errs <- second(c.Get(ctx, "k")) }()
	for range 2 {
		_ = c.Close() // twice does no harm
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, memcache.ErrClosed) || errors.Is(err, memcache.ErrUnavailable) {
			t.Errorf("a call during Close: %v", err)
		}
	}
	if _, err := c.Get(ctx, "k"); !errors.Is(err, memcache.ErrClosed) {
		t.Errorf("a call after Close: %v", err)
	}
	for n := 0; runtime.NumGoroutine() > before; n++ { // those of this test are ending
		if ctx.Err() != nil {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

func TestSocketPath(t *testing.T) {
	t.Parallel()
	asked := ""
	c := client(t, "/run/memcached.sock", &memcache.Options{Dial: func(_ context.Context, network, addr string) (net.Conn, error) {
		asked = network + " " + addr
		return nil, errors.New("connection refused")
	}})
	_, err := c.Version(t.Context())
	if asked != "unix /run/memcached.sock" || !errors.Is(err, memcache.ErrUnavailable) || !strings.Contains(err.Error(), "version: /run/memcached.sock") {
		t.Errorf("%q: %v", asked, err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		addr string
		o    memcache.Options
		want string
	}{
		{"localhost", memcache.Options{}, "host:port"},
		{":11211", memcache.Options{}, "host:port"},
		{"a:1", memcache.Options{Connections: -1}, "Connections"},
		{"a:1", memcache.Options{MaxPending: -1}, "MaxPending"},
		{"a:1", memcache.Options{MaxValue: 1 << 30}, "MaxValue"},
		{"a:1", memcache.Options{AnswerTimeout: -1}, "time-out"},
		{"a:1", memcache.Options{Password: "s3cret"}, "User"},
		{"a:1", memcache.Options{User: "u v", Password: "s3cret"}, "spaces"},
		{"a:1", memcache.Options{User: "u", Password: "s3cret\r\nflush_all"}, "line breaks"},
	} {
		_, err := memcache.New(tt.addr, &tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q %s: %v", tt.addr, tt.want, err)
		}
	}
}

// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/server"
)

// redisLine sends one command and returns the first line of the answer.
func redisLine(address, command string) (string, error) {
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

func sentinels(g *servertest.Group) string { return `"` + strings.Join(g.Addrs(), `", "`) + `"` }

// A section of the configuration is a front beside the gateway: shown by the API
// and the metrics, told to fail over, changed and taken away by a reload.
func TestRedisSection(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	gateway, api, front := freePort(t), freePort(t), freePort(t)
	text := func(redis string) string {
		return fmt.Sprintf("listeners: [{address: %q}]\nadmin: {address: %q}\nwatch: false\n%s%s", gateway, api, redis, pools)
	}
	section := fmt.Sprintf("redis: {sessions: {listen: %q, master_name: %s, sentinels: [%s]}}\n", front, servertest.SentinelName, sentinels(g))
	s := run(t, text(section))
	if got, err := redisLine(front, "SET a 1"); got != "+OK" {
		t.Fatal(got, err)
	}
	old := g.Master()
	status := func() (list []struct {
		Name, Master string
		Open         bool
	},
	) {
		body, err := get(api + "/v1/redis")
		if err == nil {
			err = json.Unmarshal([]byte(body), &list)
		}
		if err != nil {
			t.Fatal(body, err)
		}
		return list
	}
	if list := status(); len(list) != 1 || list[0].Name != "sessions" || !list[0].Open || list[0].Master != old.Addr() {
		t.Errorf("%+v", list)
	}
	metrics, err := get(api + "/metrics")
	for _, want := range []string{`belay_redis_front_open{front="sessions"} 1`, fmt.Sprintf(`belay_redis_front_node_master{front="sessions",node=%q} 1`, old.Addr())} {
		if err != nil || !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s: %v", want, err)
		}
	}

	to := g.Replicas()[0]
	for limit := time.Now().Add(time.Minute); ; {
		resp, err := http.Post("http://"+api+"/v1/redis/sessions/failover?to="+to.Addr(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			break
		}
		if resp.StatusCode != http.StatusConflict || time.Now().After(limit) {
			t.Fatal(resp.StatusCode, string(body))
		}
	}
	if list := status(); list[0].Master != to.Addr() {
		t.Errorf("%+v, want master %s", list, to.Addr())
	}

	other := freePort(t)
	s.write("belay.yaml", text(strings.Replace(section, front, other, 1)))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := redisLine(other, "GET a"); got != "$1" {
		t.Error("at the new address:", got, err)
	}
	if got, err := redisLine(front, "GET a"); err == nil {
		t.Error("at the old address:", got)
	}
	s.write("belay.yaml", text(""))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := redisLine(other, "GET a"); err == nil {
		t.Error("taken away:", got)
	}
}

// A front that runs alone has an API of its own, on loopback only.
func TestRedisFrontAlone(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	front, api := freePort(t), freePort(t)
	cfg := server.RedisFrontConfig{Name: "alone", MasterName: servertest.SentinelName, Sentinels: g.Addrs(), Listen: front}
	if err := server.RunRedisFront(t.Context(), cfg, "192.0.2.1:8081", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.RunRedisFront(ctx, cfg, api, slog.New(slog.DiscardHandler)) }()
	awaitPort(t, ctx, front)
	awaitPort(t, ctx, api)
	if got, err := redisLine(front, "PING"); got != "+PONG" {
		t.Error(got, err)
	}
	if body, err := get(api + "/v1/redis"); !strings.Contains(body, `"name":"alone"`) {
		t.Error(body, err)
	}
	if body, err := get(api + "/metrics"); !strings.Contains(body, `belay_redis_front_open{front="alone"} 1`) {
		t.Error(body, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What is in the files for TLS may change while a front runs: to clients the next
// connection is made with it, and nobody is cut off; a front that asks its
// sentinels with other certificates begins anew.
func TestRedisFilesForTLSAreReadAgain(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	gateway, api, front := freePort(t), freePort(t), freePort(t)
	cert, key, _ := servertest.Certificate(t)
	var secure []string
	for _, a := range g.Addrs() {
		secure = append(secure, servertest.TLSInFront(t, cert, key, a))
	}
	s := run(t, fmt.Sprintf("listeners: [{address: %q}]\nwatch: false%s", gateway, pools))
	s.selfSigned("old.example")
	own, _ := selfSigned(t, "stranger.example")
	s.write("clients.pem", own)
	s.write("ca.pem", own)
	s.write("belay.yaml", fmt.Sprintf(`listeners: [{address: %q}]
admin: {address: %q}
watch: false
redis:
  sessions:
    listen: %q
    master_name: %s
    sentinels: ["%s"]
    tls: {certificates: [{cert_file: site.pem, key_file: site.key}], client_certs: optional, client_ca_file: clients.pem}
    sentinel_login: {tls: {ca_file: ca.pem}}
%s`, gateway, api, front, servertest.SentinelName, strings.Join(secure, `", "`), pools))
	reload := func() {
		t.Helper()
		if err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	reload()
	for limit := time.Now().Add(30 * time.Second); ; {
		status, err := get(api + "/v1/redis")
		if strings.Contains(status, "unknown authority") {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the front trusts sentinels that it need not: ", status, err)
		}
	}
	ca, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	s.write("ca.pem", string(ca))
	reload()
	c, err := tls.Dial("tcp", front, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	ping := func() {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "PING\r\n")
		if got, err := br.ReadString('\n'); got != "+PONG\r\n" {
			t.Fatal(got, err)
		}
	}
	ping()
	s.selfSigned("new.example")
	reload()
	if got := served(t, front); got != "new.example" {
		t.Error("a new client is shown", got)
	}
	ping()
	reload() // nothing has changed
	ping()
}

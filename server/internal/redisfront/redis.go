// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"
)

// redis asks one Redis server of the group again and again.
type redis struct {
	asker
	nudge chan struct{}
	tell  func(addr string, n node)
	pause func() time.Duration
}

func (r *redis) run(ctx context.Context) {
	for ok := true; ok; ok = sleep(ctx, r.pause(), r.nudge) {
		n := r.look(ctx)
		if ctx.Err() != nil {
			break
		}
		r.tell(r.addr, n)
	}
	r.close()
}

// look asks the server about itself.
func (r *redis) look(ctx context.Context) node {
	at := time.Now()
	m, err := r.ask(ctx, []string{"INFO"})
	if err != nil {
		return node{at: at, err: err}
	}
	text, err := m[0].ToString()
	if err != nil {
		return node{at: at, err: err}
	}
	n, err := parseInfo(text)
	if err != nil {
		return node{at: at, err: err}
	}
	n.at = at
	return n
}

// parseInfo reads the answer to INFO.
func parseInfo(text string) (node, error) {
	about := map[string]string{}
	var n node
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		about[name] = value
		switch {
		case isNumbered(name, "db"): // db0:keys=1,expires=0,avg_ttl=0
			n.keys += fieldOf(value, "keys")
		case isNumbered(name, "slave") && strings.Contains(value, "state=online"):
			if time.Duration(fieldOf(value, "lag"))*time.Second <= defaultMaxLag {
				n.copies++
			}
		}
	}
	n.runID = about["run_id"]
	n.loads = about["loading"] == "1"
	switch about["role"] {
	case "master":
		n.master = true
		n.offset = number(about["master_repl_offset"])
	case "slave":
		n.of = net.JoinHostPort(about["master_host"], about["master_port"])
		n.linked = about["master_link_status"] == "up" && about["master_sync_in_progress"] == "0"
		n.lag = time.Duration(number(about["master_last_io_seconds_ago"])) * time.Second
		n.offset = number(about["slave_repl_offset"])
	default:
		return n, errors.New("its answer to INFO has no role: the front's user needs +info, +config|set, +failover and +client|kill")
	}
	if n.runID == "" {
		return n, errors.New("its answer to INFO has no run_id")
	}
	return n, nil
}

func isNumbered(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	_, err := strconv.Atoi(rest)
	return ok && err == nil
}

func fieldOf(list, name string) int64 {
	for f := range strings.SplitSeq(list, ",") {
		if v, ok := strings.CutPrefix(f, name+"="); ok {
			return number(v)
		}
	}
	return 0
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

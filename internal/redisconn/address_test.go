// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		address string
		form    form
		addrs   []string
		master  string
		db      int
		user    string
		tls     bool
	}{
		{"redis://127.0.0.1:6380/2", standalone, []string{"127.0.0.1:6380"}, "", 2, "", false},
		{"rediss://me:secret@redis.example", standalone, []string{"redis.example:6379"}, "", 0, "me", true},
		{"redis+sentinel://a:1,b,c:3/main", sentinel, []string{"a:1", "b:26379", "c:3"}, "main", 0, "", false},
		{"rediss+sentinel://me:s%40cret@a,[::1]:5,[::2]/main/3", sentinel, []string{"a:26379", "[::1]:5", "[::2]:26379"}, "main", 3, "me", true},
		{"redis+cluster://me:secret@a:1,b:2", cluster, []string{"a:1", "b:2"}, "", 0, "me", false},
		{"redis+cluster://a", cluster, []string{"a:6379"}, "", 0, "", false},
		{"valkey+cluster://a/0", cluster, []string{"a:6379"}, "", 0, "", false},
	} {
		got, err := parse(c.address)
		if err != nil {
			t.Errorf("%s: %v", c.address, err)
			continue
		}
		o := got.option
		if got.form != c.form || !slices.Equal(o.InitAddress, c.addrs) || got.master != c.master ||
			o.SelectDB != c.db || o.Username != c.user || (o.TLSConfig != nil) != c.tls {
			t.Errorf("%s: form %d, %q, master %q, db %d, user %q, TLS %v", c.address, got.form, o.InitAddress, got.master, o.SelectDB, o.Username, o.TLSConfig != nil)
		}
		if c.user != "" && !strings.Contains(o.Password, "cret") {
			t.Errorf("%s: the password is gone", c.address)
		}
		if strings.Contains(got.name, "cret") {
			t.Errorf("%s: the name for errors has the password", c.address)
		}
	}
}

func TestWrongAddresses(t *testing.T) {
	for _, address := range []string{
		"", "localhost:6379", "http://me:secret@a", "redis+ring://me:secret@a", "http+cluster://me:secret@a", "redis+cluster://",
		"redis+cluster://me:secret@a:port", "redis+cluster://me:secret@a:70000", "redis+cluster://me:secret@a/1", "redis+cluster://me:sec%ret@a",
		"redis+sentinel://me:secret@a", "redis+sentinel://me:secret@a/", "redis+sentinel://me:secret@a/main/x", "redis+sentinel://me:secret@a/main/-1",
		"redis+sentinel://me:secret@a,,b/main", "redis+sentinel://me:secret@:1/main", "redis://me:secret@a/x", "redis://me:secret@a:port",
	} {
		_, err := parse(address)
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "redisconn: ") {
			t.Errorf("%s: got %v", address, err)
		}
	}
}

func TestOldVersionIsNamed(t *testing.T) {
	c := &Conn{target: target{name: "host:1"}}
	for text, ok := range map[string]bool{"7.0.15": true, "6.2.0": true, "10.1": true, "": true, "6.x": true, "unstable": true, "6.0.16": false, "5.0.14": false} {
		err := c.version(map[string]string{"redis_version": text})
		if (err == nil) != ok {
			t.Errorf("version %q: %v", text, err)
		}
		if err != nil && (!strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "6.2") || !strings.Contains(err.Error(), "host:1")) {
			t.Errorf("version %q: %v", text, err)
		}
	}
}

func TestOneStaleSentinelIsNotBelieved(t *testing.T) {
	gone := opinion{err: errors.New("gone")}
	before, after := opinion{addr: "a:1", epoch: 3}, opinion{addr: "b:1", epoch: 4}
	for name, c := range map[string]struct {
		opinions []opinion
		seen     uint64
		want     string
	}{
		"all_agree":                         {[]opinion{before, before, before}, 3, "a:1"},
		"one_is_stale":                      {[]opinion{before, after, after}, 3, "b:1"},
		"one_knows_of_a_later_fail_over":    {[]opinion{before, before, after}, 3, "b:1"},
		"one_is_gone":                       {[]opinion{gone, after, after}, 4, "b:1"},
		"two_are_gone":                      {[]opinion{gone, gone, after}, 3, ""},
		"those_that_answer_are_stale":       {[]opinion{before, before, gone}, 4, ""},
		"none_answers":                      {[]opinion{gone, gone, gone}, 0, ""},
		"the_only_one_named_in_the_address": {[]opinion{after}, 0, "b:1"},
		"half_is_no_majority":               {[]opinion{after, gone}, 0, ""},
	} {
		got, _, err := decide(c.opinions, c.seen)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// complete fills in defaults and refuses what browsers would drop silently.
func (c *Cookie) complete() error {
	if c.Path == "" {
		c.Path = "/"
	}
	if c.SameSite == 0 || c.SameSite == http.SameSiteDefaultMode {
		c.SameSite = http.SameSiteLaxMode
	}
	if c.Name == "" {
		switch {
		case c.Insecure:
			c.Name = "id"
		case c.Domain == "" && c.Path == "/":
			c.Name = "__Host-id"
		default:
			c.Name = "__Secure-id"
		}
	}
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("session: cookie: "+format, args...))
	}
	if len(c.Name) > 256 {
		refuse("the name has %d bytes, more than 256", len(c.Name))
	}
	host := hasPrefixFold(c.Name, "__Host-")
	switch {
	case host && c.Insecure:
		refuse("the prefix __Host- needs Secure, but Insecure is set: choose another name")
	case host && c.Domain != "":
		refuse("the prefix __Host- forbids Domain %q: use the prefix __Secure-", c.Domain)
	case host && c.Path != "/":
		refuse("the prefix __Host- needs Path \"/\", not %q: use the prefix __Secure-", c.Path)
	case hasPrefixFold(c.Name, "__Secure-") && c.Insecure:
		refuse("the prefix __Secure- needs Secure, but Insecure is set: choose another name")
	}
	if c.SameSite == http.SameSiteNoneMode && c.Insecure {
		refuse("SameSite=None needs Secure, but Insecure is set")
	}
	if c.Partitioned && c.Insecure {
		refuse("Partitioned needs Secure, but Insecure is set")
	}
	probe := c.format("x", time.Time{}, time.Time{})
	if err := probe.Valid(); err != nil {
		errs = append(errs, fmt.Errorf("session: cookie: %w", err))
	}
	return errors.Join(errs...)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// format makes the Set-Cookie for a value. ends is the session's absolute end.
func (c *Cookie) format(value string, now, ends time.Time) *http.Cookie {
	k := &http.Cookie{
		Name: c.Name, Value: value, Domain: c.Domain, Path: c.Path,
		Secure: !c.Insecure, HttpOnly: true, SameSite: c.SameSite, Partitioned: c.Partitioned,
	}
	if c.Persistent {
		age := maxCookieAge
		if !ends.IsZero() {
			age = min(age, ends.Sub(now))
		}
		k.MaxAge = max(1, int(age/time.Second))
	}
	return k
}

// expire makes the Set-Cookie that removes the cookie: same name, domain, path
// and partition, or browsers keep it.
func (c *Cookie) expire() *http.Cookie {
	k := c.format("", time.Time{}, time.Time{})
	k.MaxAge = -1
	return k
}

// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/sessions"

	"github.com/belay-ha/belay/session"
)

// Options are the optional settings of New. The zero value of each field is its
// default. They are copied.
type Options struct {
	// Cookie is what each session's Options begin with. Default: Path "/",
	// MaxAge 30 days, HttpOnly, Secure, SameSite=Lax.
	//
	// MaxAge > 0 is how long the session lives after its last Save, in seconds,
	// in the browser and in the store. MaxAge 0: in the browser until it is
	// closed, in the store for Keep. MaxAge < 0, set on a session: Save deletes it.
	Cookie *sessions.Options
	// AllowInsecure takes HttpOnly and Secure from the Cookie and from each
	// session's Options as they are, for plain http on a developer's machine.
	// Default: both are always set, because false there is also what somebody
	// gets who did not think of them. SameSite is Lax if it is not set, always.
	AllowInsecure bool
	// Keep is how long a session with MaxAge 0 lives after its last Save.
	// Default 12 h.
	Keep time.Duration
	// Lifetime ends a session so long after its creation, whatever its use.
	// Default 30 days; negative: no limit.
	Lifetime time.Duration
	// Codec encodes Values, a map[any]any. Default Gob: types other than Go's
	// basic ones have to be known to gob.Register. encoding/json cannot encode
	// such a map.
	Codec session.Codec
	// Timeout bounds each call to the store. Default 2 s.
	Timeout time.Duration
	// CommitTimeout bounds a whole Save with its retries. It does not end when
	// the client goes away. Default 5 s.
	CommitTimeout time.Duration
	// Hooks are told what happens: Created, Renewed, Destroyed, Conflict, Lost,
	// Corrupt, Undecodable, BadToken and StoreError.
	Hooks session.Hooks
}

const (
	defaultAge   = 30 * 24 * time.Hour
	maxCookieAge = 400 * 24 * time.Hour // what browsers grant at most (RFC 6265bis)
)

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Cookie == nil {
		c.Cookie = &sessions.Options{
			Path: "/", MaxAge: int(defaultAge / time.Second), HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
		}
	}
	if c.Codec == nil {
		c.Codec = Gob{}
	}
	var errs []error
	for _, d := range []struct {
		name    string
		v       *time.Duration
		initial time.Duration
		off     bool
	}{
		{"Keep", &c.Keep, 12 * time.Hour, false},
		{"Lifetime", &c.Lifetime, defaultAge, true},
		{"Timeout", &c.Timeout, 2 * time.Second, false},
		{"CommitTimeout", &c.CommitTimeout, 5 * time.Second, false},
	} {
		if *d.v == 0 {
			*d.v = d.initial
		}
		if *d.v < 0 && !d.off {
			errs = append(errs, fmt.Errorf("gorilla: new: %s cannot be negative", d.name))
		}
	}
	if c.Cookie.MaxAge < 0 {
		errs = append(errs, errors.New("gorilla: new: Cookie.MaxAge is negative: every session would be deleted at its first Save"))
	}
	return c, errors.Join(errs...)
}

// Gob is the default Codec: encoding/gob.
type Gob struct{}

// Marshal encodes a value.
func (Gob) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

// Unmarshal decodes into what v points to.
func (Gob) Unmarshal(data []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(v)
}

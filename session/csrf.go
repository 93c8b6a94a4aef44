// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
)

// CSRFToken is a token for forms, bound to the session: it changes with the
// session's own token, and says nothing about it. Each call returns another
// text for the same token, so that compressing a page does not give it away.
//
// It begins a session if there is none. http.CrossOriginProtection needs no
// token in forms and suffices for today's browsers; this is for what must hold
// in others, too.
func (s *Session) CSRFToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	if s.frozen != nil || s.dead {
		return ""
	}
	if !s.exists {
		s.edit().keep = true
		s.changes++
	}
	if !s.exists || s.patch.renewal() != nil {
		more := s.more()
		if more.planned == (rawID{}) {
			more.planned = s.m.newToken()
		}
		return mask(csrf(more.planned[:]))
	}
	return mask(csrf(s.token[:]))
}

// ValidCSRF reports whether token is one that CSRFToken returned for this session.
func (s *Session) ValidCSRF(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 2*csrfSize || !s.exists {
		return false
	}
	for i := range csrfSize {
		b[csrfSize+i] ^= b[i]
	}
	return hmac.Equal(b[csrfSize:], csrf(s.token[:]))
}

// Where CSRF looks for the token.
const (
	CSRFHeader = "X-CSRF-Token"
	CSRFField  = "csrf_token"
)

// CSRF refuses, with 403, requests that may change something (all but GET, HEAD,
// OPTIONS and TRACE) and do not carry the session's CSRF token, in the header
// CSRFHeader or the form field CSRFField. It belongs inside of Handler, next to
// http.CrossOriginProtection.
func (m *Manager) CSRF(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
			next.ServeHTTP(w, r)
			return
		}
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		token := r.Header.Get(CSRFHeader)
		if token == "" {
			token = r.PostFormValue(CSRFField)
		}
		if !s.ValidCSRF(token) {
			http.Error(w, "The form has expired. Please load the page again.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

const csrfSize = 16

func csrf(id []byte) []byte {
	m := hmac.New(sha256.New, id)
	m.Write([]byte("belay csrf token"))
	return m.Sum(nil)[:csrfSize]
}

func mask(token []byte) string {
	b := make([]byte, 2*csrfSize)
	rand.Read(b[:csrfSize]) // never fails (crypto/rand)
	for i := range csrfSize {
		b[csrfSize+i] = token[i] ^ b[i]
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

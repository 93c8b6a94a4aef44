// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// What was sealed once, under a key of 32 ones, is read for as long as the version
// is the same: else an upgrade logs everybody out.
func TestWhatVersion1SealedIsRead(t *testing.T) {
	t.Parallel()
	id := session.ID{Generation: 1, Hash: [20]byte{1}}
	bytesOf := func(text string) []byte {
		t.Helper()
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Run("record", func(t *testing.T) {
		at := time.UnixMilli(1_800_000_000_000)
		rec := session.Record{
			Rev: session.Rev{Term: 2, N: 3}, Owner: "42",
			Created: at, Seen: at.Add(time.Second), Ends: at.Add(3 * time.Second), AuthTime: at.Add(4 * time.Second), // and no Issued
			Prev: session.ID{Generation: 5}, Next: session.ID{Generation: 6}, Follow: true, Once: []session.OnceKey{{7}},
			Attrs: session.Attrs{
				{Name: sealName, Value: bytesOf("01e087e710039e78e780536d6a816f527765b0c47eec7ba0e2d1da2e74c5c77129a7cc3780a905899d")},
				{Name: "role", Value: bytesOf("e087e710b1f01bccf8bad2cddb8f4983747ded1499e4c4966874d7d13dd36f9d747ca5ce1ced6e97c65569822e152ac53614c5a1")},
			},
		}
		r, err := newRing([][]byte{bytes.Repeat([]byte{1}, keySize)})
		if err != nil {
			t.Fatal(err)
		}
		attrs, err := (&store{ring: r}).open(id, &rec)
		if v, _ := attrs.Get("role"); err != nil || string(v) != "customer" {
			t.Errorf("%q, %v", v, err)
		}
	})
	t.Run("cookie", func(t *testing.T) {
		got, err := testCookies(t).Open("__Host-id", id, "AeCH5xD7rQJAB5IayTVE0qPWonC8VUW9tsUpbDHIikYOGcHA-_bD8AauC6x4E2QrUTZ-ZQxtcHW1L45zkYUdO8317Gj_AMzoGyx_9xrabvfeBeDkGEZswCQi5SQC3K-Yv2DiLYQE6UyzOuzQOIav588cPpk9S8Ys6I3DStGYZEz3_KXw2Uc")
		if err != nil || !reflect.DeepEqual(got, sample()) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

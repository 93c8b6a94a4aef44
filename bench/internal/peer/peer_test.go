// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/belay-ha/belay/bench/internal/peer"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for want, of := range map[float64][]float64{0: nil, 2: {3, 1, 2}, 2.5: {4, 1, 2, 3}} {
		if got := peer.Median(of); got != want {
			t.Errorf("%v: %v, want %v", of, got, want)
		}
	}
}

func TestFindSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := peer.Find("no-such-program"); !errors.Is(err, peer.ErrMissing) || !strings.Contains(err.Error(), "no-such-program") {
		t.Error(err)
	}
	if path, err := peer.Find("no-such-program", "sh"); err != nil || !strings.HasSuffix(path, "/sh") {
		t.Error(path, err)
	}
}

// A process that works is seen to use CPU time and memory, its children included;
// one that ends at once says why.
func TestProcess(t *testing.T) {
	dir := t.TempDir()
	p, err := peer.Start(t.Context(), dir, "busy", "", "sh", "-c", "sh -c 'while :; do :; done'; :")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if cpu, err := p.CPU(); err == nil && cpu > 0 {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("no CPU time")
		default:
		}
	}
	if rss, err := p.RSS(); err != nil || rss < 1<<16 {
		t.Error(rss, err)
	}
	p.Stop()
	select {
	case <-p.Done():
	default:
		t.Error("not ended")
	}
	addr, err := peer.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Start(t.Context(), dir, "brief", addr, "sh", "-c", "echo that is why; exit 1"); err == nil || !strings.Contains(err.Error(), "that is why") {
		t.Error(err)
	}
}

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

func TestRounds(t *testing.T) {
	t.Parallel()
	self := func(v float64) float64 { return v }
	if got := peer.MedianOf([]float64{5, 1, 3}, self); got != 3 {
		t.Error("median", got)
	}
	// Round by round: 2, 3 and 4 times; the medians of both would say 1.5.
	if got := peer.Times([]float64{2, 30, 40}, []float64{1, 10, 10}, self); got != 3 {
		t.Error("times", got)
	}
	if got := peer.Times([]float64{2, 30}, []float64{0, 10}, self); got != 3 {
		t.Error("a round without a figure counts:", got)
	}
	if got := peer.Times([]float64{2}, nil, self); got != 0 {
		t.Error("times nothing", got)
	}
}

func TestStatIsReadBehindTheName(t *testing.T) {
	t.Parallel()
	const rest = " S 7 8 9 0 -1 4194560 1 2 3 4 150 30 0 0 20 0 4 0 99 1000 10"
	f, err := peer.StatFields([]byte("42 (a) 1 (b" + ")" + rest))
	if err != nil || f[0] != "S" || f[1] != "7" || f[11] != "150" || f[12] != "30" {
		t.Error(f, err)
	}
	if _, err := peer.StatFields([]byte("42 (cut) S 7")); err == nil {
		t.Error("a line that is cut off was taken")
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	var l peer.List
	if !l.Wants("a") {
		t.Error("an empty list wants all")
	}
	if err := l.Set("a,b"); err != nil || !l.Wants("b") || l.Wants("c") || l.String() != "a,b" {
		t.Error(l, err)
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

// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/session/memcachedstore"
)

const placementTimeout = 5 * time.Second

func placementCommand() *cobra.Command {
	p := &placementStore{}
	cmd := &cobra.Command{
		Use:   "placement",
		Short: "Say where sessions live on a group of memcached servers, and change its generations",
		Long: `Placement lists the generations of a group of memcached servers: how many sessions
live in each, on which servers their copies are, and when an old generation will
be empty at the latest. It reads every session once.

To add servers without moving a session: append a generation with the servers it
shall have, wait until every process knows it (2 s by default), open it, and drain
the old one. When that is empty, close it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.with(cmd, func(context.Context, *memcachedstore.Store) error { return nil })
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&p.address, "store", "", "memcached://HOST:PORT,HOST:PORT or file:/PATH of the placement list")
	f.StringVar(&p.prefix, "prefix", "", "what the keys of the sessions begin with (default \"belay:s:\")")
	f.BoolVar(&p.asJSON, "json", false, "print JSON")

	var share int
	epoch := func(use, short string, do func(context.Context, *memcachedstore.Store, byte) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " GENERATION", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				n, err := strconv.ParseUint(args[0], 10, 8)
				if err != nil {
					return fmt.Errorf("store placement: %q is no generation: write its number", args[0])
				}
				return p.with(cmd, func(ctx context.Context, s *memcachedstore.Store) error { return do(ctx, s, byte(n)) })
			},
		}
	}
	open := epoch("open", "Let new sessions begin in a generation", func(ctx context.Context, s *memcachedstore.Store, e byte) error {
		return s.OpenGeneration(ctx, e, share)
	})
	open.Flags().IntVar(&share, "share", 1, "its part of the new sessions, compared with the other open generations")
	cmd.AddCommand(
		&cobra.Command{
			Use: "init FILE ID=HOST:PORT…", Short: "Write a file with the first generation", Args: cobra.MinimumNArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				return initPlacement(cmd.OutOrStdout(), args[0], args[1:])
			},
		},
		&cobra.Command{
			Use: "append ID=HOST:PORT…", Short: "Add a generation, which takes no sessions yet", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.with(cmd, func(ctx context.Context, s *memcachedstore.Store) error {
					_, err := s.Append(ctx, nodesOf(args)...)
					return err
				})
			},
		},
		open,
		epoch("drain", "Let no new sessions begin in a generation; those that live there go on", func(ctx context.Context, s *memcachedstore.Store, e byte) error {
			return s.DrainGeneration(ctx, e)
		}),
		epoch("close", "Give a drained generation up: whatever still lives there is not found any more", func(ctx context.Context, s *memcachedstore.Store, e byte) error {
			return s.CloseGeneration(ctx, e)
		}),
	)
	return cmd
}

// placementStore is the store that the flags name.
type placementStore struct {
	address, prefix string
	asJSON          bool
}

// with opens the store, does something with it and prints what it looks like then.
func (p *placementStore) with(cmd *cobra.Command, do func(context.Context, *memcachedstore.Store) error) error {
	if p.address == "" {
		return errors.New("store placement: say which servers with --store memcached://HOST:PORT,… or --store file:/PATH")
	}
	s, err := memcachedstore.Open(cmd.Context(), p.address, &memcachedstore.Options{Prefix: p.prefix, Timeout: placementTimeout, NodeTimeout: placementTimeout})
	if err != nil {
		return fmt.Errorf("store placement: %w", err)
	}
	defer func() { _ = s.Close() }()
	if err := do(cmd.Context(), s); err != nil {
		return fmt.Errorf("store placement: %w", err)
	}
	survey, err := s.Survey(cmd.Context())
	if err != nil {
		return fmt.Errorf("store placement: %w", err)
	}
	if p.asJSON {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(survey)
	}
	return printSurvey(cmd.OutOrStdout(), &survey, time.Now())
}

// nodesOf reads ID=HOST:PORT or HOST:PORT.
func nodesOf(args []string) []memcachedstore.Node {
	nodes := make([]memcachedstore.Node, 0, len(args))
	for _, a := range args {
		id, addr, named := strings.Cut(a, "=")
		if !named {
			id, addr = "", a
		}
		nodes = append(nodes, memcachedstore.Node{ID: id, Addr: addr})
	}
	return nodes
}

func initPlacement(out io.Writer, file string, args []string) error {
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("store placement: %s exists: append to it instead", file)
	}
	var members []placement.Member
	for _, n := range nodesOf(args) {
		if n.ID == "" {
			n.ID = n.Addr
		}
		members = append(members, placement.Member{ID: n.ID, Addr: n.Addr})
	}
	list, err := placement.New(members...)
	if err == nil {
		err = placement.WriteFile(file, list)
	}
	if err != nil {
		return fmt.Errorf("store placement: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s: generation 0 with %d members; give it to every process\n", file, len(members))
	return err
}

func printSurvey(out io.Writer, s *memcachedstore.Survey, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "placement list version %d\n\nGENERATION\tSTATE\tSHARE\tSESSIONS\tEMPTY\tMEMBERS\n", s.Version)
	for _, g := range s.Generations {
		share := "-"
		if g.Share > 0 {
			share = strconv.Itoa(g.Share)
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\n", g.Epoch, g.State, share, g.Sessions, emptyAt(&g, now), strings.Join(g.Members, " "))
	}
	_, _ = fmt.Fprintf(w, "\nNODE\tCOPIES\tEVICTIONS\n")
	for _, n := range s.Nodes {
		if n.Error != "" {
			_, _ = fmt.Fprintf(w, "%s\tdoes not answer, so there may be more: %s\n", n.Addr, n.Error)
			continue
		}
		var copies []string
		for _, g := range s.Generations {
			if c := n.Copies[g.Epoch]; c > 0 {
				copies = append(copies, fmt.Sprintf("%d of generation %d", c, g.Epoch))
			}
		}
		if len(copies) == 0 {
			copies = []string{"none"}
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", n.Addr, strings.Join(copies, ", "), n.Evictions)
	}
	return w.Flush()
}

// emptyAt says when a generation has no sessions left.
func emptyAt(g *memcachedstore.GenerationSurvey, now time.Time) string {
	switch {
	case g.State == "closed":
		return "-"
	case g.Sessions == 0 && g.State == "draining":
		return "now: it can be closed"
	case g.State == "open":
		return "takes new sessions"
	case g.Endless > 0:
		return fmt.Sprintf("never by itself: %d sessions have no end", g.Endless)
	}
	return fmt.Sprintf("in %v at the latest", g.EmptyAt.Sub(now).Round(time.Second))
}

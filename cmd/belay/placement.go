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
		Short: "Say where sessions live on memcached servers or SQL shards, and change the generations of these",
		Long: `Placement lists the generations of a group of memcached servers, or of the shards
of a router over SQL databases: how many sessions live in each, on which servers or
shards they are, and when an old generation will be empty at the latest. It reads
every session once.

To add servers without moving a session: append a generation with the servers it
shall have, wait until every process knows it (2 s by default), open it, and drain
the old one. When that is empty, close it.

For SQL --store is the router's home. A shard is found by its address in the list
if that is one of these as well, with #PREFIX at its end unless the tables begin
with belay_; user, password and parameters that it lacks are those of --store. Other
addresses mean what the program makes of them: say with --shard where such a shard is.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.with(cmd, func(context.Context, *grouped) error { return nil })
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&p.address, "store", "", "memcached://HOST:PORT,HOST:PORT or file:/PATH of the placement list; postgres://USER@HOST:PORT/NAME, mysql://USER@HOST:PORT/NAME or sqlite:///PATH of the home")
	f.StringVar(&p.prefix, "prefix", "", "what the keys of the sessions (default \"belay:s:\"), or the home's tables (default \"belay_\"), begin with")
	f.StringVar(&p.passwordFile, "password-file", "", "`file` with the password of the user in --store, for SQL")
	f.StringArrayVar(&p.shards, "shard", nil, "`ID=ADDRESS` of a shard whose address in the list is none of those above; may be repeated")
	f.BoolVar(&p.asJSON, "json", false, "print JSON")

	var share int
	epoch := func(use, short string, do func(context.Context, *grouped, byte) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " GENERATION", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				n, err := strconv.ParseUint(args[0], 10, 8)
				if err != nil {
					return fmt.Errorf("store placement: %q is no generation: write its number", args[0])
				}
				return p.with(cmd, func(ctx context.Context, s *grouped) error { return do(ctx, s, byte(n)) })
			},
		}
	}
	open := epoch("open", "Let new sessions begin in a generation", func(ctx context.Context, s *grouped, e byte) error {
		return s.OpenGeneration(ctx, e, share)
	})
	open.Flags().IntVar(&share, "share", 1, "its part of the new sessions, compared with the other open generations")
	cmd.AddCommand(
		&cobra.Command{
			Use: "init FILE ID=HOST:PORT…", Short: "Write a file with the first generation, of memcached servers", Args: cobra.MinimumNArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				return initPlacement(cmd.OutOrStdout(), args[0], args[1:])
			},
		},
		&cobra.Command{
			Use: "append ID=ADDRESS…", Short: "Add a generation of these servers or shards, which takes no sessions yet", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.with(cmd, func(ctx context.Context, s *grouped) error { return s.append(ctx, args) })
			},
		},
		open,
		epoch("drain", "Let no new sessions begin in a generation; those that live there go on", func(ctx context.Context, s *grouped, e byte) error {
			return s.DrainGeneration(ctx, e)
		}),
		epoch("close", "Give a drained generation up: whatever still lives there is not found any more", func(ctx context.Context, s *grouped, e byte) error {
			return s.CloseGeneration(ctx, e)
		}),
	)
	return cmd
}

// grouped is a store whose sessions live in generations.
type grouped struct {
	generations
	append func(ctx context.Context, args []string) error
	survey func(ctx context.Context) (survey, error)
	close  func()
}

type generations interface {
	OpenGeneration(ctx context.Context, epoch byte, share int) error
	DrainGeneration(ctx context.Context, epoch byte) error
	CloseGeneration(ctx context.Context, epoch byte) error
}

// survey is what a store says of itself: for programs, and for people.
type survey struct {
	json        any
	version     uint64
	generations []surveyed
	// places are the lines of a table of servers, with its head first.
	places []string
	// partly: some server does not answer, so there may be more.
	partly bool
}

// surveyed is a generation.
type surveyed struct {
	epoch             byte
	state             string
	share             int
	members           []string
	sessions, endless int
	emptyAt           time.Time
}

// placementStore is the store that the flags name.
type placementStore struct {
	address, prefix, passwordFile string
	shards                        []string
	asJSON                        bool
}

// with opens the store, does something with it and prints what it looks like then.
func (p *placementStore) with(cmd *cobra.Command, do func(context.Context, *grouped) error) error {
	if p.address == "" {
		return errors.New("store placement: say which servers with --store memcached://HOST:PORT,…, file:/PATH, postgres://…, mysql://… or sqlite:///PATH")
	}
	open := p.openMemcached
	if isSQL(p.address) {
		open = p.openRouter
	}
	s, err := open(cmd.Context())
	if err != nil {
		return fmt.Errorf("store placement: %w", err)
	}
	defer s.close()
	if err := do(cmd.Context(), s); err != nil {
		return fmt.Errorf("store placement: %w", err)
	}
	survey, err := s.survey(cmd.Context())
	if err != nil {
		return fmt.Errorf("store placement: %w", err)
	}
	if p.asJSON {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(survey.json)
	}
	return survey.print(cmd.OutOrStdout(), time.Now())
}

func (p *placementStore) openMemcached(ctx context.Context) (*grouped, error) {
	s, err := memcachedstore.Open(ctx, p.address, &memcachedstore.Options{Prefix: p.prefix, Timeout: placementTimeout, NodeTimeout: placementTimeout})
	if err != nil {
		return nil, err
	}
	return &grouped{
		generations: s,
		append: func(ctx context.Context, args []string) error {
			_, err := s.Append(ctx, nodesOf(args)...)
			return err
		},
		survey: func(ctx context.Context) (survey, error) {
			found, err := s.Survey(ctx)
			return surveyOfMemcached(found), err
		},
		close: func() { _ = s.Close() },
	}, nil
}

// idAndAddr reads ID=ADDRESS, or an address, whose ID is empty.
func idAndAddr(arg string) (id, addr string) {
	id, addr, named := strings.Cut(arg, "=")
	if !named {
		return "", arg
	}
	return id, addr
}

// nodesOf reads ID=HOST:PORT or HOST:PORT.
func nodesOf(args []string) []memcachedstore.Node {
	nodes := make([]memcachedstore.Node, 0, len(args))
	for _, a := range args {
		id, addr := idAndAddr(a)
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

func surveyOfMemcached(s memcachedstore.Survey) survey {
	out := survey{json: s, version: s.Version, places: []string{"NODE\tCOPIES\tEVICTIONS"}}
	for _, g := range s.Generations {
		out.generations = append(out.generations, surveyed{g.Epoch, g.State, g.Share, g.Members, g.Sessions, g.Endless, g.EmptyAt})
	}
	for _, n := range s.Nodes {
		if n.Error != "" {
			out.silent(n.Addr, n.Error)
			continue
		}
		out.places = append(out.places, n.Addr+"\t"+out.byGeneration(n.Copies)+"\t"+n.Evictions)
	}
	return out
}

// silent notes a server that does not answer.
func (s *survey) silent(place, why string) {
	s.partly = true
	s.places = append(s.places, place+"\tdoes not answer, so there may be more: "+why)
}

// byGeneration says of how many sessions of each generation something is there.
func (s *survey) byGeneration(counts map[byte]int) string {
	var list []string
	for _, g := range s.generations {
		if n := counts[g.epoch]; n > 0 {
			list = append(list, fmt.Sprintf("%d of generation %d", n, g.epoch))
		}
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func (s *survey) print(out io.Writer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "placement list version %d\n\nGENERATION\tSTATE\tSHARE\tSESSIONS\tEMPTY\tMEMBERS\n", s.version)
	for _, g := range s.generations {
		share := "-"
		if g.share > 0 {
			share = strconv.Itoa(g.share)
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\n", g.epoch, g.state, share, g.sessions, g.empty(now, s.partly), strings.Join(g.members, " "))
	}
	_, _ = fmt.Fprintln(w)
	for _, line := range s.places {
		_, _ = fmt.Fprintln(w, line)
	}
	return w.Flush()
}

// empty says when a generation has no sessions left.
func (g *surveyed) empty(now time.Time, partly bool) string {
	switch {
	case g.state == "closed":
		return "-"
	case g.state == "draining" && partly:
		return "not known: see below"
	case g.sessions == 0 && g.state == "draining":
		return "now: it can be closed"
	case g.state == "open":
		return "takes new sessions"
	case g.endless > 0:
		return fmt.Sprintf("never by itself: %d sessions have no end", g.endless)
	}
	return fmt.Sprintf("in %v at the latest", g.emptyAt.Sub(now).Round(time.Second))
}

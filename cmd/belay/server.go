// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func serverCommand() *cobra.Command {
	api := &adminClient{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "server",
		Short: "List the app servers of a running gateway, drain one, bring it back",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("server: there is no command %q; there are list, drain, ready and maint", args[0])
		},
	}
	cmd.PersistentFlags().StringVar(&api.base, "admin", adminURL, "`URL` of the gateway's admin API")
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON")

	var deadline time.Duration
	order := func(use, short, action string) *cobra.Command {
		return &cobra.Command{
			Use: use + " [POOL/]NAME", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				path := "/v1/servers/" + url.PathEscape(args[0]) + "/" + action
				if deadline != 0 {
					path += "?deadline=" + url.QueryEscape(deadline.String())
				}
				body, err := api.call(cmd.Context(), http.MethodPost, path)
				if err != nil {
					return err
				}
				return printServers(cmd.OutOrStdout(), body, asJSON, false)
			},
		}
	}
	drain := order("drain", "Send no new users to a server; those it has stay until the deadline", "drain")
	drain.Flags().DurationVar(&deadline, "deadline", 0, "move the users that are left after this `time`, like 30s (default: let them stay)")
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the servers and their states", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				body, err := api.call(cmd.Context(), http.MethodGet, "/v1/servers")
				if err != nil {
					return err
				}
				return printServers(cmd.OutOrStdout(), body, asJSON, true)
			},
		},
		drain,
		order("ready", "Let a server take everybody again", "ready"),
		order("maint", "Move everybody off a server at once", "maintenance"),
	)
	return cmd
}

const adminURL = "http://127.0.0.1:8081"

// processCommand makes belay reload and belay upgrade.
func processCommand(name, short string) *cobra.Command {
	api := &adminClient{}
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := api.call(cmd.Context(), http.MethodPost, "/v1/"+name)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(body)
			return err
		},
	}
	cmd.Flags().StringVar(&api.base, "admin", adminURL, "`URL` of the gateway's admin API")
	return cmd
}

// adminClient calls the admin API of a gateway.
type adminClient struct{ base string }

func (c *adminClient) call(ctx context.Context, method, path string) ([]byte, error) {
	base := strings.TrimSuffix(c.base, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second) // an upgrade may take a minute
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("server: %w; give the URL of the admin API with --admin", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("server: %w; is the gateway running, and is %s its admin.address? (--admin)", err, base)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("server: read the answer of %s: %w", base, err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error == "" {
		said.Error = "the answer is not that of an admin API"
	}
	return nil, fmt.Errorf("server: %s answered %s: %s", base, resp.Status, said.Error)
}

func printServers(out io.Writer, body []byte, asJSON, list bool) error {
	if asJSON {
		_, err := out.Write(body)
		return err
	}
	if !list {
		body = append(append([]byte{'['}, body...), ']')
	}
	var servers []struct {
		Pool         string     `json:"pool"`
		Name         string     `json:"name"`
		Address      string     `json:"address"`
		State        string     `json:"state"`
		Weight       float64    `json:"weight"`
		InFlight     int64      `json:"in_flight"`
		LiveSessions *int       `json:"live_sessions"`
		Unflushed    *int64     `json:"unflushed"`
		Library      bool       `json:"library"`
		DrainUntil   *time.Time `json:"drain_until"`
		EjectedUntil *time.Time `json:"ejected_until"`
		Checks       struct {
			Error string `json:"error"`
		} `json:"checks"`
	}
	if err := json.Unmarshal(body, &servers); err != nil {
		return fmt.Errorf("server: the answer is not that of an admin API: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POOL\tNAME\tADDRESS\tSTATE\tWEIGHT\tIN FLIGHT\tLIVE\tFENCED\tREMARK")
	for _, s := range servers {
		var remarks []string
		if s.Checks.Error != "" {
			remarks = append(remarks, s.Checks.Error)
		}
		if s.EjectedUntil != nil {
			remarks = append(remarks, "ejected until "+s.EjectedUntil.Format(time.TimeOnly))
		}
		if s.DrainUntil != nil {
			remarks = append(remarks, "users move at "+s.DrainUntil.Format(time.TimeOnly))
		}
		if s.Unflushed != nil {
			remarks = append(remarks, fmt.Sprintf("%d sessions are not stored yet", *s.Unflushed))
		}
		fenced, live := "no", "-"
		if s.Library {
			fenced = "yes"
		}
		if s.LiveSessions != nil {
			live = strconv.Itoa(*s.LiveSessions)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.4g\t%d\t%s\t%s\t%s\n", s.Pool, s.Name, s.Address, s.State, s.Weight, s.InFlight, live, fenced, strings.Join(remarks, "; "))
	}
	return w.Flush()
}

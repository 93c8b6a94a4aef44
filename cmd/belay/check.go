// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/belay-ha/belay/server"
	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check -c belay.yaml",
		Short: "Check a configuration and print every mistake in it",
		Long: `Read a configuration and print every mistake in it, each with line and column,
or "ok". Nothing is started. The exit status is 1 if there is a mistake.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := server.Load(file)
			list := server.ConfigErrors(err)
			if err != nil && list == nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				if list == nil {
					list = []*server.ConfigError{}
				}
				if jerr := json.NewEncoder(out).Encode(map[string]any{"ok": err == nil, "errors": list}); jerr != nil {
					return jerr
				}
			} else {
				for _, e := range list {
					fmt.Fprintln(out, e)
				}
				if err == nil {
					fmt.Fprintln(out, "ok")
				}
			}
			if err != nil {
				return errors.New("check: " + mistakes(len(list)) + " in " + file)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "belay.yaml", "configuration `file`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func mistakes(n int) string {
	if n == 1 {
		return "1 mistake"
	}
	return fmt.Sprintf("%d mistakes", n)
}

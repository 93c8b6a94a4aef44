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
	var asJSON, schema, effective bool
	cmd := &cobra.Command{
		Use:   "check -c belay.yaml",
		Short: "Check a configuration and print every mistake in it",
		Long: `Read a configuration and print every mistake in it, each with line and column,
or "ok". What is allowed and probably not meant is printed as a warning. Nothing
is started. The exit status is 1 if there is a mistake.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schema {
				_, err := cmd.OutOrStdout().Write(server.ConfigSchema())
				return err
			}
			cfg, err := server.Load(file)
			list := server.ConfigErrors(err)
			if err != nil && list == nil {
				return err
			}
			warnings := []*server.ConfigError{}
			if err == nil {
				warnings = append(warnings, cfg.Lints()...)
			}
			out := cmd.OutOrStdout()
			switch {
			case asJSON:
				if list == nil {
					list = []*server.ConfigError{}
				}
				if jerr := json.NewEncoder(out).Encode(map[string]any{"ok": err == nil, "errors": list, "warnings": warnings}); jerr != nil {
					return jerr
				}
			case effective && err == nil:
				if _, err := out.Write(cfg.YAML()); err != nil {
					return err
				}
			default:
				for _, e := range list {
					fmt.Fprintln(out, e)
				}
				for _, e := range warnings {
					fmt.Fprintln(out, "warning:", e)
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
	cmd.Flags().BoolVar(&effective, "print", false, "print the configuration with every default filled in")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON schema of configurations, for editors")
	return cmd
}

func mistakes(n int) string {
	if n == 1 {
		return "1 mistake"
	}
	return fmt.Sprintf("%d mistakes", n)
}

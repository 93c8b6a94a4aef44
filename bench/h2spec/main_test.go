// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"strings"
	"testing"
)

const example = `<testsuites><testsuite package="http2/6.5.3">
<testcase package="http2/6.5.3" classname="Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE"><failure>Expect: HEADERS
Actual: Connection closed</failure></testcase>
<testcase package="http2/6.5.3" classname="Sends another"></testcase></testsuite></testsuites>`

func TestReportAndPage(t *testing.T) {
	var r report
	if err := xml.Unmarshal([]byte(example), &r); err != nil {
		t.Fatal(err)
	}
	var list []failed
	for _, on := range []string{"TLS", "h2c"} {
		for _, c := range r.Suites[0].Cases {
			if c.Failure != "" {
				list = add(list, failed{c.Package, c.Name, last(c.Failure), nil}, on)
			}
		}
	}
	if len(list) != 1 || strings.Join(list[0].on, " ") != "TLS h2c" || list[0].got != "Actual: Connection closed" {
		t.Fatalf("%+v", list)
	}
	if reasons[list[0].section+" "+list[0].name] == (reason{}) {
		t.Error("a case that is explained was not found")
	}
	text := string(page(list, 145))
	for _, want := range []string{"145 cases", "| 6.5.3 | Sends multiple values", "| TLS, h2c | Actual: Connection closed |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

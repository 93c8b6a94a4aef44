// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"strconv"
)

// Rev is the revision of a record: chosen by the Manager, kept inside the
// record, compared as a pair. Every write raises N by one; a new owner of the
// session raises Term. The zero Rev is older than every record.
type Rev struct {
	Term, N uint64
}

// Compare returns -1, 0 or +1 as r is older than, equal to or newer than o.
func (r Rev) Compare(o Rev) int {
	return cmp.Or(cmp.Compare(r.Term, o.Term), cmp.Compare(r.N, o.N))
}

// Next is the revision of the write that follows r in the same term.
func (r Rev) Next() Rev { return Rev{r.Term, r.N + 1} }

func (r Rev) String() string {
	b := strconv.AppendUint(make([]byte, 0, 41), r.Term, 10)
	return string(strconv.AppendUint(append(b, '.'), r.N, 10))
}

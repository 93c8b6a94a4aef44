// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"strconv"
	"strings"
)

// statement is a text for one engine, and which argument each of its parameters is.
type statement struct {
	text  string
	order []int // nil: the parameters are numbered as the arguments are
}

func (s statement) args(given []any) []any {
	if s.order == nil {
		return given
	}
	list := make([]any, len(s.order))
	for i, n := range s.order {
		list[i] = given[n]
	}
	return list
}

// statements of a store. Arguments are given in the order that is noted there.
type statements struct {
	load, head, create, revive, update, touch, alive statement
	owner, entry, indexed, index, entries            statement
	epoch, raise                                     statement
	lock, holder, extend, unlock                     statement
	list, firstList, nextList                        statement
	after                                            statement

	due  map[string]statement // by table
	ends statement            // due sessions, whole
	w    writer
}

// tables that are swept, with the columns of their keys.
var tables = map[string][]string{
	"sessions": {"id"},
	"owners":   {"owner"},
	"entries":  {"owner", "id"},
	"leases":   {"id"},
}

// columns of each table, as a schema must have them.
var columns = map[string]string{
	"sessions": "id, term, n, nonce, expires, due, data",
	"owners":   "owner, seq, epoch, due",
	"entries":  "owner, id, seq, added, due",
	"leases":   "id, lease, until, holder, due",
}

const (
	// dueMillis is how exactly a row says when a sweep may take it. It is coarse so
	// that few writes have to change an index for it.
	dueMillis = 5 * 60_000
	// never is when what has no end expires, and dueNever when it is due.
	never    = 1<<63 - 1
	dueNever = 1<<31 - 1
	// ownerKept is how long an owner's numbers are remembered.
	ownerKept = "13" // times dueMillis: an hour at least
)

func newStatements(d *Dialect, prefix string) statements {
	w := writer{d: d, words: strings.NewReplacer(
		"{p}", prefix,
		"{us}", d.Clock,
		"{ms}", "("+d.Clock+" "+d.Div+" 1000)",
		"{now}", "("+d.Clock+" "+d.Div+" "+strconv.Itoa(dueMillis*1000)+")",
		"{greatest}", d.Greatest,
	)}
	s := statements{
		load: w.write("id", `SELECT expires, data FROM {p}sessions WHERE id = :id`),
		head: w.write("id", `SELECT term, n, nonce, expires FROM {p}sessions WHERE id = :id`),
		create: w.write("id term n nonce expires due data",
			`INSERT INTO {p}sessions (id, term, n, nonce, expires, due, data) VALUES (:id, :term, :n, :nonce, :expires, :due, :data)`),
		revive: w.write("id term n nonce expires due data now",
			`UPDATE {p}sessions SET term = :term, n = :n, nonce = :nonce, expires = :expires, due = :due, data = :data
			WHERE id = :id AND expires <= :now`),
		update: w.write("id term n nonce expires due data now ifterm ifn",
			`UPDATE {p}sessions SET term = :term, n = :n, nonce = :nonce, expires = :expires, due = :due, data = :data
			WHERE id = :id AND term = :ifterm AND n = :ifn AND expires > :now`),
		touch: w.write("id expires due now",
			`UPDATE {p}sessions SET expires = :expires, due = :due WHERE id = :id AND expires > :now AND expires < :expires`),
		alive: w.write("id now", `SELECT COUNT(*) FROM {p}sessions WHERE id = :id AND expires > :now`),

		owner: w.write("owner", `INSERT INTO {p}owners (owner, seq, epoch, due) VALUES (:owner, {us}, 0, {now} + `+ownerKept+`) `+
			d.Upsert("owner")+` seq = {greatest}({p}owners.seq + 1, {us}), due = {now} + `+ownerKept),
		entry: w.write("owner id due", `INSERT INTO {p}entries (owner, id, seq, added, due)
			SELECT owner, :id, seq, {ms}, :due FROM {p}owners WHERE owner = :owner `+
			d.Upsert("owner, id")+` seq = `+d.New("seq")+`, added = `+d.New("added")+`, due = `+d.New("due")),
		indexed: w.write("owner id", `SELECT seq, added FROM {p}entries WHERE owner = :owner AND id = :id`),
		entries: w.write("owner", `SELECT id, seq, added FROM {p}entries WHERE owner = :owner ORDER BY seq`),
		epoch:   w.write("owner", `SELECT epoch FROM {p}owners WHERE owner = :owner`),
		raise: w.write("owner", `INSERT INTO {p}owners (owner, seq, epoch, due) VALUES (:owner, 0, {us}, {now} + `+ownerKept+`) `+
			d.Upsert("owner")+` epoch = {greatest}({p}owners.epoch + 1, {us}), due = {now} + `+ownerKept),

		// The order of the assignments matters: some engines use new values at once,
		// others the old ones, and both are right here.
		lock: w.write("id holder ttl due", `INSERT INTO {p}leases (id, lease, until, holder, due) VALUES (:id, {us}, {ms} + :ttl, :holder, {now} + :due) `+
			d.Upsert("id")+` lease = CASE WHEN {p}leases.until <= {ms} OR {p}leases.holder = :holder
				THEN {greatest}({p}leases.lease + 1, {us}) ELSE {p}leases.lease END,
			holder = CASE WHEN {p}leases.until <= {ms} THEN :holder ELSE {p}leases.holder END,
			due = {greatest}({p}leases.due, {now} + :due),
			until = CASE WHEN {p}leases.holder = :holder OR {p}leases.until <= {ms} THEN {ms} + :ttl ELSE {p}leases.until END`),
		holder: w.write("id", `SELECT lease, holder FROM {p}leases WHERE id = :id`),
		extend: w.write("id lease ttl due", `UPDATE {p}leases SET until = {ms} + :ttl, due = {greatest}(due, {now} + :due)
			WHERE id = :id AND lease = :lease AND until > {ms}`),
		unlock: w.write("id lease", `UPDATE {p}leases SET until = 0 WHERE id = :id AND lease = :lease`),

		list:      w.write("id", `SELECT list FROM {p}placement WHERE id = :id`),
		firstList: w.write("id version list", `INSERT INTO {p}placement (id, version, list) VALUES (:id, :version, :list)`),
		nextList:  w.write("id version list old", `UPDATE {p}placement SET version = :version, list = :list WHERE id = :id AND version = :old`),

		after: w.write("id limit", `SELECT id, expires, data FROM {p}sessions WHERE id > :id ORDER BY id LIMIT :limit`),

		due: map[string]statement{},
		w:   w,
	}
	if d.Index != "" {
		s.index = w.write("owner id due", d.Index)
	}
	const due = " WHERE due <= {now} LIMIT :limit "
	for table, key := range tables {
		s.due[table] = w.write("limit", "SELECT "+strings.Join(key, ", ")+" FROM {p}"+table+due+d.SkipLocked)
	}
	s.ends = w.write("limit", "SELECT id, data, expires FROM {p}sessions"+due+d.SkipLocked)
	return s
}

// removal deletes rows by their keys, which are given one row after the other.
func (s *statements) removal(table string, rows int) statement {
	key := tables[table]
	var names, ors []string
	for i := range rows {
		var ands []string
		for _, column := range key {
			name := column + letters(i)
			names = append(names, name)
			ands = append(ands, column+" = :"+name)
		}
		ors = append(ors, strings.Join(ands, " AND "))
	}
	return s.w.write(strings.Join(names, " "), "DELETE FROM {p}"+table+" WHERE "+strings.Join(ors, " OR "))
}

// letters is a number in a form that names may have.
func letters(n int) string { return string([]rune{'a' + rune(n/26%26), 'a' + rune(n%26)}) }

type writer struct {
	d     *Dialect
	words *strings.Replacer
}

// write makes a statement of a text with :names, given in this order.
func (w writer) write(names, text string) statement {
	list := strings.Fields(names)
	var s statement
	var b strings.Builder
	text = w.words.Replace(text)
	for {
		i := strings.IndexByte(text, ':')
		if i < 0 {
			b.WriteString(text)
			s.text = b.String()
			return s
		}
		if strings.HasPrefix(text[i:], "::") { // a cast
			b.WriteString(text[:i+2])
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		name := text[i+1:]
		if end := strings.IndexFunc(name, func(r rune) bool { return r < 'a' || r > 'z' }); end >= 0 {
			name = name[:end]
		}
		text = text[i+1+len(name):]
		n := indexOf(list, name)
		if w.d.Numbered {
			b.WriteString("$" + strconv.Itoa(n+1))
			continue
		}
		b.WriteByte('?')
		s.order = append(s.order, n)
	}
}

func indexOf(list []string, name string) int {
	for i, n := range list {
		if n == name {
			return i
		}
	}
	panic("sqlstore: a statement has the unknown parameter " + name)
}

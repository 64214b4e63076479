// Package memdb is a database in memory for database/sql, which answers every query with one row.
package memdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"time"
)

// Open gives a pool of at most so many connections, each query of which takes so long.
func Open(connections int, takes time.Duration) *sql.DB {
	db := sql.OpenDB(connector{takes})
	db.SetMaxOpenConns(connections)
	return db
}

type connector struct{ takes time.Duration }

func (c connector) Connect(context.Context) (driver.Conn, error) { return &conn{c.takes}, nil }
func (c connector) Driver() driver.Driver                        { return nil }

type conn struct{ takes time.Duration }

func (c *conn) Prepare(string) (driver.Stmt, error) { return &statement{c}, nil }
func (c *conn) Close() error                        { return nil }
func (c *conn) Begin() (driver.Tx, error)           { return c, nil }
func (c *conn) Commit() error                       { return nil }
func (c *conn) Rollback() error                     { return nil }

type statement struct{ conn *conn }

func (s *statement) Close() error                               { return nil }
func (s *statement) NumInput() int                              { return -1 }
func (s *statement) Exec([]driver.Value) (driver.Result, error) { return driver.ResultNoRows, nil }

func (s *statement) Query([]driver.Value) (driver.Rows, error) {
	time.Sleep(s.conn.takes)
	return &rows{}, nil
}

type rows struct{ read bool }

func (r *rows) Columns() []string { return []string{"value"} }
func (r *rows) Close() error      { return nil }

func (r *rows) Next(into []driver.Value) error {
	if r.read {
		return io.EOF
	}
	r.read = true
	into[0] = int64(1)
	return nil
}

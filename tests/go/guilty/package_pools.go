package main

import (
	"context"
	"time"

	"gordian.example/fixtures/memdb"
)

// A pool in a global, as services have it: everybody can reach it.
var (
	db     = memdb.Open(2, 0)
	ending context.Context
	end    context.CancelFunc
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

//go:noinline
func queryInsideOfAnother() {
	rows := must(db.Query("outer"))
	defer rows.Close()
	settle()
	must(db.Query("inner")).Close()
}

// Rows that were read to their end have given their connection back, and stay until the function returns.
//
//go:noinline
func statementBehindRowsThatEnded() {
	rows := must(db.Query("first"))
	defer rows.Close()
	for rows.Next() {
	}
	for range 5 {
		settle()
	}
	must(db.Exec("next"))
}

//go:noinline
func statementBesideItsTransaction() {
	transaction := must(db.Begin())
	settle()
	must(db.Exec("outside of it"))
	_ = transaction.Commit()
}

//go:noinline
func queryInsideOfAnotherUntil(ctx context.Context) {
	rows := must(db.QueryContext(ctx, "outer"))
	defer rows.Close()
	settle()
	must(db.QueryContext(ctx, "inner")).Close()
}

func init() {
	several := func(work ...func()) func() int {
		return func() int {
			for _, each := range work {
				go each()
			}
			time.Sleep(250 * time.Millisecond)
			return len(work)
		}
	}
	families["package-pool-queries"] = several(queryInsideOfAnother, queryInsideOfAnother)
	families["package-pool-rows-that-ended"] = func() int {
		later := func() { settle(); queryInsideOfAnother() }
		return several(statementBehindRowsThatEnded, statementBehindRowsThatEnded, later, later)()
	}
	families["package-pool-transactions"] = several(
		statementBesideItsTransaction, statementBesideItsTransaction, statementBesideItsTransaction)
	families["package-pool-contexts"] = func() int {
		ending, end = context.WithCancel(context.Background())
		work := func() { queryInsideOfAnotherUntil(ending) }
		return several(work, work)()
	}
	for _, family := range []string{"queries", "rows-that-ended", "transactions", "contexts"} {
		likely["package-pool-"+family] = true
	}
}

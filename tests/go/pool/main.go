// A service whose pool of connections is exhausted: `lost`, because rows were never closed, or `slow`, because those who have
// the connections do something else for minutes.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

	"gordian.example/fixtures/memdb"
)

var db = memdb.Open(2, 0)

//go:noinline
func forgets() {
	rows, err := db.Query("kept open")
	if err != nil {
		panic(err)
	}
	rows.Next()
}

//go:noinline
func takesLong() {
	transaction, err := db.Begin()
	if err != nil {
		panic(err)
	}
	time.Sleep(10 * time.Minute)
	_ = transaction.Commit()
}

//go:noinline
func waits() {
	_, _ = db.Exec("next")
}

func main() {
	work := map[string]func(){"lost": forgets, "slow": takesLong}[os.Args[1]]
	for range 2 {
		go work()
	}
	time.Sleep(50 * time.Millisecond)
	for range 3 {
		go waits()
	}
	time.Sleep(50 * time.Millisecond)
	fmt.Println(`{"ready": true}`)
	bufio.NewScanner(os.Stdin).Scan()
}

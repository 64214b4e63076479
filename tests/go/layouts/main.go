// Whatever it does: what counts is the debuginfo that the linker gives it. The network is imported for the poller, and
// database/sql for its pools.
package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"gordian.example/fixtures/memdb"
)

func main() {
	var once sync.Once
	channel := make(chan int, 1)
	once.Do(func() { channel <- 1 })
	select {
	case <-channel:
	case <-time.After(time.Second):
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	db := memdb.Open(3, 0)
	rows, _ := db.Query("")
	transaction, _ := db.Begin()
	connection, _ := db.Conn(context.Background())
	fmt.Println(listener, err, rows, transaction, connection)
}

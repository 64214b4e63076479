package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"gordian.example/fixtures/memdb"
)

func init() {
	families["http-server"] = func() {
		sessions := sync.Map{}
		server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
			result := make(chan int, 1)
			go func() { pause(); result <- 1 }()
			sessions.Store(rand.Intn(1000), request.RemoteAddr)
			select {
			case value := <-result:
				fmt.Fprint(answer, value)
			case <-request.Context().Done():
			}
		}))
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
		forever(8, func() {
			if answer, err := client.Get(server.URL); err == nil {
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
		})
	}
	families["pool-of-connections"] = func() {
		db := memdb.Open(2, 300*time.Microsecond)
		forever(12, func() {
			if rows, err := db.Query("one"); err == nil {
				rows.Close()
			}
		})
	}
	// In a global, with transactions that others end, and statements that everybody uses.
	families["pool-in-a-global"] = func() {
		database = memdb.Open(3, 200*time.Microsecond)
		statement, err := database.Prepare("prepared")
		if err != nil {
			panic(err)
		}
		handed := make(chan *sql.Tx)
		forever(6, func() {
			if transaction, err := database.Begin(); err == nil {
				if rows, err := transaction.Query("one"); err == nil {
					rows.Close()
				}
				handed <- transaction
			}
		})
		forever(2, func() { transaction := <-handed; pause(); _ = transaction.Commit() })
		forever(4, func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if rows, err := database.QueryContext(ctx, "two"); err == nil {
				rows.Close()
			}
		})
		forever(2, func() { _, _ = statement.Exec() })
	}
	// Now and then all connections are with those who wait for one more, until their time is up.
	families["pool-with-deadlines"] = func() {
		database = memdb.Open(3, 200*time.Microsecond)
		forever(9, func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			if transaction, err := database.BeginTx(ctx, nil); err == nil {
				_, _ = database.ExecContext(ctx, "beside it")
				_ = transaction.Rollback()
			}
		})
	}
	families["tickers"] = func() {
		for range 20 {
			go func() {
				for {
					ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
					ticker := time.NewTicker(3 * time.Millisecond)
					for ticking := true; ticking; {
						select {
						case <-ticker.C:
						case <-ctx.Done():
							ticking = false
						}
					}
					ticker.Stop()
					cancel()
				}
			}()
		}
	}
	families["timers-that-are-reset"] = func() {
		for range 20 {
			go func() {
				idle := time.NewTimer(10 * time.Millisecond)
				for {
					<-idle.C
					idle.Reset(time.Duration(rand.Intn(5000)) * time.Microsecond)
				}
			}()
		}
	}
	families["token-ring"] = func() {
		const stations = 50
		ring := make([]chan int, stations)
		for i := range ring {
			ring[i] = make(chan int)
		}
		for i := range ring {
			in, out := ring[i], ring[(i+1)%stations]
			go func() {
				for token := range in {
					out <- token + 1
				}
			}()
		}
		ring[0] <- 0
	}
	families["slots"] = func() {
		slots := make(chan struct{}, 3)
		forever(15, func() {
			slots <- struct{}{}
			pause()
			<-slots
		})
	}
	families["broadcast"] = func() {
		go func() {
			for {
				begin := make(chan struct{})
				var ready sync.WaitGroup
				for range 30 {
					ready.Add(1)
					go func() { <-begin; ready.Done() }()
				}
				pause()
				close(begin)
				ready.Wait()
			}
		}()
	}
	families["group-with-a-limit"] = func() {
		go func() {
			for {
				slots := make(chan struct{}, 4)
				var group sync.WaitGroup
				for range 20 {
					slots <- struct{}{}
					group.Add(1)
					go func() {
						defer func() { <-slots; group.Done() }()
						pause()
					}()
				}
				group.Wait()
			}
		}()
	}
	families["echo"] = func() {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		go func() {
			for {
				if peer, err := listener.Accept(); err == nil {
					go func() { _, _ = io.Copy(peer, peer); peer.Close() }()
				}
			}
		}()
		forever(10, func() {
			peer, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return
			}
			for range 100 {
				_, _ = peer.Write([]byte("text"))
				_, _ = io.ReadFull(peer, make([]byte, 4))
			}
			peer.Close()
		})
	}
	families["pipes"] = func() {
		forever(5, func() {
			reader, writer := io.Pipe()
			go func() { _, _ = writer.Write(make([]byte, 1000)); writer.Close() }()
			_, _ = io.Copy(io.Discard, reader)
		})
	}
}

var database *sql.DB

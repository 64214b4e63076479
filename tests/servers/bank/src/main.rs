//! A bank: accounts in PostgreSQL, connections from a deadpool pool, axum in front. `bank SOCKET_DIRECTORY HABIT`.
//!
//! With the habit `careful` a transfer takes one connection and gives it back. With the habit `greedy` it takes a second one
//! for the audit trail while it has the first: as many transfers at once as there are connections, and none ever ends.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use deadpool_postgres::{Config, ManagerConfig, Pool, PoolConfig, PoolError, RecyclingMethod, Runtime};
use serde::Serialize;
use tokio_postgres::NoTls;

/// Connections of the pool.
const CONNECTIONS: usize = 4;
const ACCOUNTS: i32 = 50;

struct Bank {
    pool: Pool,
    is_greedy: bool,
}

#[derive(Serialize)]
struct Receipt {
    from: i32,
    to: i32,
    balance: i64,
}

/// What a handler answers when the database does not.
struct Failed(PoolError);

impl<E: Into<PoolError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0.to_string()).into_response()
    }
}

async fn note(bank: &Bank, from: i32, to: i32) -> Result<(), Failed> {
    let client = bank.pool.get().await?;
    client.execute("INSERT INTO audit (source, destination) VALUES ($1, $2)", &[&from, &to]).await?;
    Ok(())
}

async fn transfer(bank: &Bank, from: i32, to: i32) -> Result<Receipt, Failed> {
    let mut client = bank.pool.get().await?;
    let transaction = client.transaction().await?;
    let (first, second) = (from.min(to), from.max(to));
    transaction.query("SELECT 1 FROM account WHERE id IN ($1, $2) ORDER BY id FOR UPDATE", &[&first, &second]).await?;
    transaction.execute("UPDATE account SET balance = balance - 1 WHERE id = $1", &[&from]).await?;
    transaction.execute("UPDATE account SET balance = balance + 1 WHERE id = $1", &[&to]).await?;
    let row = transaction.query_one("SELECT balance FROM account WHERE id = $1", &[&from]).await?;
    if bank.is_greedy {
        note(bank, from, to).await?;
    }
    transaction.commit().await?;
    drop(client);
    if !bank.is_greedy {
        note(bank, from, to).await?;
    }
    Ok(Receipt { from, to, balance: row.get(0) })
}

async fn order(State(bank): State<Arc<Bank>>) -> Result<Json<Receipt>, Failed> {
    transfer(&bank, 1, 2).await.map(Json)
}

async fn pay(State(bank): State<Arc<Bank>>, Path((from, to)): Path<(i32, i32)>) -> Result<Json<Receipt>, Failed> {
    transfer(&bank, from.rem_euclid(ACCOUNTS), to.rem_euclid(ACCOUNTS)).await.map(Json)
}

async fn prepare(pool: &Pool) -> Result<(), PoolError> {
    let client = pool.get().await?;
    let schema = "CREATE TABLE IF NOT EXISTS account (id int PRIMARY KEY, balance bigint NOT NULL);
                  CREATE TABLE IF NOT EXISTS audit (source int NOT NULL, destination int NOT NULL);";
    client.batch_execute(schema).await?;
    let fill = "INSERT INTO account SELECT id, 1000 FROM generate_series(0, $1 - 1) id ON CONFLICT DO NOTHING";
    client.execute(fill, &[&ACCOUNTS]).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(socket), Some(habit)) = (arguments.next(), arguments.next()) else {
        return Err("bank SOCKET_DIRECTORY careful|greedy".into());
    };
    let mut config = Config::new();
    (config.host, config.user, config.dbname) = (Some(socket), Some("bank".into()), Some("postgres".into()));
    config.manager = Some(ManagerConfig { recycling_method: RecyclingMethod::Fast });
    config.pool = Some(PoolConfig::new(CONNECTIONS));
    let pool = config.create_pool(Some(Runtime::Tokio1), NoTls)?;
    prepare(&pool).await?;

    let bank = Arc::new(Bank { pool, is_greedy: habit == "greedy" });
    let routes = Router::new().route("/orders", get(order)).route("/pay/{from}/{to}", get(pay)).with_state(bank);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "pid": std::process::id(), "port": listener.local_addr()?.port() }));
    axum::serve(listener, routes).await?;
    Ok(())
}

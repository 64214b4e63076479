//! A service that runs its customers' rules as WebAssembly over what SQL selects: small by itself, and made of crates that
//! make its debuginfo large. Two of its tasks will never move again.
//!
//! To be found: one `deadlock` of two tasks over two `tokio::sync::Mutex`es.

use std::{error::Error, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use gordian_fixtures::{say, task_id};
use regex::Regex;
use serde_json::json;
use sqlparser::{dialect::PostgreSqlDialect, parser::Parser};
use tokio::{
    net::TcpListener,
    sync::{Barrier, Mutex},
};
use wasmtime::{Engine, Instance, Module, Store};

/// A customer's rule: how much of an amount is charged.
const RULE: &str = r#"(module (func (export "charge") (param i64) (result i64)
    local.get 0 i64.const 20 i64.add))"#;

struct Service {
    rules: Mutex<Vec<Module>>,
    queries: Mutex<Vec<String>>,
    /// Makes the unlucky moment certain: both tasks hold their first lock before either asks for its second.
    unlucky: Barrier,
}

async fn apply_rule(service: Arc<Service>) -> usize {
    let rules = service.rules.lock().await;
    service.unlucky.wait().await;
    rules.len() + service.queries.lock().await.len()
}

async fn plan_query(service: Arc<Service>) -> usize {
    let queries = service.queries.lock().await;
    service.unlucky.wait().await;
    queries.len() + service.rules.lock().await.len()
}

/// Compiles the rule and tries it out.
fn rule() -> Result<Module, Box<dyn Error>> {
    let engine = Engine::default();
    let module = Module::new(&engine, RULE)?;
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[])?;
    let charge = instance.get_typed_func::<i64, i64>(&mut store, "charge")?;
    if charge.call(&mut store, 100)? != 120 {
        return Err("the rule charges something else".into());
    }
    Ok(module)
}

/// The query as it is run: for one customer.
fn query(customer: &str) -> Result<String, Box<dyn Error>> {
    let customer = Regex::new(r"^\p{L}+$")?.find(customer).ok_or("no name")?;
    let text = format!("SELECT amount FROM orders WHERE customer = '{}'", customer.as_str());
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, &text)?;
    Ok(parsed.iter().map(ToString::to_string).collect())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Arc::new(Service {
        rules: Mutex::new(vec![rule()?]),
        queries: Mutex::new(vec![query("Gordias")?]),
        unlucky: Barrier::new(3),
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let tasks = [tokio::spawn(apply_rule(Arc::clone(&service))), tokio::spawn(plan_query(Arc::clone(&service)))];
    service.unlucky.wait().await;
    // Nothing outside gordian shows that a task is queued at a lock; this is long enough on a busy machine.
    tokio::time::sleep(Duration::from_millis(500)).await;
    say(&json!({ "pid": std::process::id(), "port": port, "tasks": tasks.each_ref().map(task_id) }));
    axum::serve(listener, Router::new().route("/", get(|| async { "open\n" }))).await?;
    Ok(())
}

//! Keys, roles, tenants, and the refusal to be open to the world.

use flowfleet_core::KeyId;
use flowfleet_core::port::{NewKey, Role};
use flowfleet_dispatcher::{Dispatcher, keys};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Parts, Server, answer, id};

/// Makes a key behind the API's back.
pub(crate) async fn key(server: &Server, tenant: &str, role: Role) -> String {
    let (plaintext, hash) = keys::generate();
    let key = NewKey {
        id: KeyId::generate(),
        tenant: tenant.parse().unwrap(),
        name: "test".to_owned(),
        role,
        hash,
    };
    server.store.create_key(key).await.unwrap();
    plaintext
}

async fn status(server: &Server, key: Option<&str>, method: Method, path: &str, body: &Value) -> u16 {
    let mut request = server.client.request(method, format!("{}{path}", server.url));
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    if !body.is_null() {
        request = request.json(body);
    }
    answer(request.send().await.unwrap()).await.0.as_u16()
}

#[tokio::test]
async fn another_address_than_loopback_needs_a_key() {
    let mut parts = Parts::new().await;
    parts.config.listen = "0.0.0.0:0".parse().unwrap();
    let error = Dispatcher::bind(parts.config.clone(), parts.deps.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("flowfleet keys create"), "{error}");
    let (_, hash) = keys::generate();
    let key = NewKey {
        id: KeyId::generate(),
        tenant: "default".parse().unwrap(),
        name: "first".to_owned(),
        role: Role::Admin,
        hash,
    };
    parts.deps.store.create_key(key).await.unwrap();
    Dispatcher::bind(parts.config, parts.deps).await.unwrap();
}

#[tokio::test]
async fn the_first_key_closes_the_server_and_revoking_ends_access() {
    let mut server = Server::with_flow().await;
    assert_eq!(
        server
            .post("/v1/keys", &json!({"name": "ci", "role": "submit"}))
            .await
            .0,
        422,
        "the first is an admin's"
    );
    let (status, admin) = server
        .post("/v1/keys", &json!({"name": "root", "role": "admin"}))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{admin}");
    let (status, problem) = server.get("/v1/runs").await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (401, Some("unauthorized"))
    );
    server.key = admin["key"].as_str().map(str::to_owned);
    assert_eq!(server.get("/v1/runs").await.0, StatusCode::OK);
    for (body, pointer) in [
        (json!({"name": "", "role": "read"}), "/name"),
        (json!({"name": "x", "role": "god"}), "/role"),
        (json!({"name": "x", "role": "read", "tenant": "a b"}), "/tenant"),
        (json!({"name": "x", "role": "read", "colour": 1}), "/colour"),
    ] {
        let (status, problem) = server.post("/v1/keys", &body).await;
        assert_eq!(
            (status.as_u16(), problem["errors"][0]["pointer"].as_str()),
            (422, Some(pointer)),
            "{problem}"
        );
    }
    let (_, reader) = server
        .post("/v1/keys", &json!({"name": "dash", "role": "read"}))
        .await;
    let (_, list) = server.get("/v1/keys").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    assert!(
        !list.to_string().contains(reader["key"].as_str().unwrap()),
        "a key is shown once"
    );
    let path = format!("/v1/keys/{}", reader["id"].as_str().unwrap());
    let admin_key = server.key.replace(reader["key"].as_str().unwrap().to_owned());
    assert_eq!(server.get("/v1/runs").await.0, StatusCode::OK);
    server.key = admin_key;
    assert_eq!(
        server.call(Method::DELETE, &path, &Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        server.call(Method::DELETE, &path, &Value::Null).await.0,
        StatusCode::NOT_FOUND
    );
    server.key = reader["key"].as_str().map(str::to_owned);
    assert_eq!(
        server.get("/v1/runs").await.0,
        StatusCode::UNAUTHORIZED,
        "revoked here: at once"
    );
    server.key = admin["key"].as_str().map(str::to_owned);
    let (_, audit) = server.get("/v1/audit").await;
    let actions: Vec<_> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["key.revoke", "key.create", "key.create", "flow.put"]);
    let (_, page) = server.get("/v1/audit?limit=3").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, page) = server.get(&format!("/v1/audit?limit=3&cursor={cursor}")).await;
    assert_eq!(page["items"][0]["action"], "flow.put");
    assert_eq!(page["items"][0]["actor"], "loopback");
}

#[tokio::test]
async fn roles_allow_what_they_say() {
    let server = Server::with_flow().await;
    let (admin, submit, read) = (
        key(&server, "default", Role::Admin).await,
        key(&server, "default", Role::Submit).await,
        key(&server, "default", Role::Read).await,
    );
    // The look for any key is cached for a moment.
    crate::harness::until("keys are needed", async || server.get("/v1/runs").await.0 == 401).await;
    let run = json!({"flow": "hello", "input": "x"});
    let filter = json!({"all": true, "dry_run": true});
    let null = Value::Null;
    // Method, path, body, then what admin, submit, read and nobody get.
    for (method, path, body, expected) in [
        (Method::GET, "/v1/runs", &null, [200, 200, 200, 401]),
        (Method::POST, "/v1/runs", &run, [202, 202, 403, 401]),
        (
            Method::POST,
            "/v1/runs/batch",
            &json!([run]),
            [202, 202, 403, 401],
        ),
        (Method::POST, "/v1/runs/cancel", &filter, [200, 200, 403, 401]),
        (Method::POST, "/v1/runs/replay", &filter, [200, 200, 403, 401]),
        (Method::GET, "/v1/flows", &null, [200, 200, 200, 401]),
        (Method::GET, "/v1/flows/hello", &null, [200, 200, 200, 401]),
        (
            Method::PUT,
            "/v1/flows/other",
            &serde_json::from_str(crate::harness::HELLO).unwrap(),
            [201, 200, 403, 401],
        ),
        (Method::DELETE, "/v1/flows/nobody", &null, [404, 404, 403, 401]),
        (Method::GET, "/v1/fleet", &null, [200, 200, 200, 401]),
        (Method::GET, "/v1/keys", &null, [200, 403, 403, 401]),
        (Method::GET, "/v1/audit", &null, [200, 403, 403, 401]),
        (
            Method::POST,
            "/v1/keys",
            &json!({"name": "x", "role": "read"}),
            [201, 403, 403, 401],
        ),
        (Method::GET, "/health/live", &null, [200, 200, 200, 200]),
        (Method::GET, "/openapi.json", &null, [200, 200, 200, 200]),
    ] {
        let callers = [Some(admin.as_str()), Some(&submit), Some(&read), None];
        for (caller, expected) in callers.into_iter().zip(expected) {
            assert_eq!(
                status(&server, caller, method.clone(), path, body).await,
                expected,
                "{method} {path}"
            );
        }
    }
    for bad in ["ff_unknown", "nonsense", &"x".repeat(5_000)] {
        assert_eq!(
            status(&server, Some(bad), Method::GET, "/v1/runs", &null).await,
            401
        );
    }
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let mut server = Server::start().await;
    let (one, two) = (
        key(&server, "one", Role::Admin).await,
        key(&server, "two", Role::Admin).await,
    );
    crate::harness::until("keys are needed", async || server.get("/v1/runs").await.0 == 401).await;
    server.key = Some(one);
    server.put_flow("hello").await;
    let run = json!({"flow": "hello", "input": "x", "idempotency_key": "same"});
    let first = server.submit(&run).await;
    server.key = Some(two);
    assert_eq!(server.post("/v1/runs", &run).await.1["code"], "flow_not_found");
    assert_eq!(server.get("/v1/flows").await.1["items"], json!([]));
    assert_eq!(server.get("/v1/runs").await.1["items"], json!([]));
    assert_eq!(server.get("/v1/audit").await.1["items"], json!([]));
    assert_eq!(
        server.get("/v1/keys").await.1["items"].as_array().map(Vec::len),
        Some(1)
    );
    for path in ["", "/events", "/explain"] {
        assert_eq!(
            server.get(&format!("/v1/runs/{first}{path}")).await.0,
            StatusCode::NOT_FOUND
        );
    }
    for path in ["/cancel", "/replay"] {
        assert_eq!(
            server
                .post(&format!("/v1/runs/{first}{path}"), &Value::Null)
                .await
                .0,
            StatusCode::NOT_FOUND
        );
    }
    let (status, _) = server
        .post("/v1/keys", &json!({"name": "x", "role": "read", "tenant": "one"}))
        .await;
    assert_eq!(
        status,
        StatusCode::FORBIDDEN,
        "only the default tenant's admins make keys of others"
    );
    server.put_flow("hello").await;
    let (status, body) = server.post("/v1/runs", &run).await;
    assert_eq!(status, StatusCode::ACCEPTED, "keys of requests are per tenant");
    assert_ne!(id(&body), first);
}

#[tokio::test]
async fn without_keys_a_web_page_elsewhere_cannot_reach_it() {
    let server = Server::with_flow().await;
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let request = server.request(Method::GET, "/v1/runs").header(name, value);
        assert_eq!(
            answer(request.send().await.unwrap()).await.0,
            StatusCode::FORBIDDEN,
            "{name}"
        );
    }
}

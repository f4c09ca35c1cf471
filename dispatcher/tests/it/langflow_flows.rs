//! Flows as Langflow's clients keep them: created, read, changed and deleted by id.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{HELLO, Server};

const ID: &str = "0f1ee700-0000-4000-8000-000000000001";

fn hello() -> Value {
    serde_json::from_str(HELLO).unwrap()
}

#[tokio::test]
async fn a_flow_is_created_read_changed_and_deleted() {
    let server = Server::start().await;
    let mut asked = json!({"name": "My Flow (2)", "data": hello()["data"], "folder_id": ID, "tags": ["a"]});
    let (status, made) = server.post("/api/v1/flows/", &asked).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(
        (&made["name"], &made["endpoint_name"]),
        (&json!("My Flow (2)"), &json!("my-flow-2"))
    );
    assert_eq!((&made["folder_id"], &made["tags"]), (&Value::Null, &json!(["a"])));
    let id = made["id"].as_str().unwrap();
    let path = format!("/api/v1/flows/{id}");
    assert_eq!(server.get(&path).await, (StatusCode::OK, made.clone()));
    assert_eq!(server.get("/api/v1/flows/my-flow-2").await.1["id"], id);
    // The same flow of the native API.
    let (_, native) = server.get("/v1/flows/my-flow-2").await;
    assert_eq!((&native["id"], &native["version"]), (&made["id"], &json!(1)));

    let change = json!({"description": "said", "data": null});
    let (status, changed) = server.call(Method::PATCH, &path, &change).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    assert_eq!(
        (&changed["description"], &changed["data"]),
        (&json!("said"), &made["data"])
    );
    assert_eq!(server.get("/v1/flows/my-flow-2").await.1["version"], 2);

    // Another one with the name is another flow.
    asked["endpoint_name"] = json!("my-flow-2");
    let (_, other) = server.post("/api/v1/flows/", &asked).await;
    assert_eq!(other["endpoint_name"], "my-flow-2-1");
    assert_ne!(other["id"], made["id"]);

    let (status, _) = server.call(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.get(&path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        server.call(Method::DELETE, &path, &Value::Null).await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn putting_by_id_creates_then_changes() {
    let server = Server::start().await;
    let path = format!("/api/v1/flows/{ID}");
    let (status, made) = server.call(Method::PUT, &path, &hello()).await;
    assert_eq!((status, &made["id"]), (StatusCode::CREATED, &json!(ID)), "{made}");
    let (status, same) = server.call(Method::PUT, &path, &hello()).await;
    assert_eq!((status, same), (StatusCode::OK, made.clone()));
    assert_eq!(
        server.get("/v1/flows/hello-prompt").await.1["version"],
        1,
        "nothing changed"
    );
    let mut renamed = hello();
    renamed["name"] = json!("Greeter");
    let (status, changed) = server.call(Method::PUT, &path, &renamed).await;
    assert_eq!((status, &changed["name"]), (StatusCode::OK, &json!("Greeter")));
    assert_eq!(
        changed["endpoint_name"], "hello-prompt",
        "the name for calls stays"
    );
    let (status, body) = server.post("/api/v1/flows/", &hello()).await;
    assert_eq!(
        (status.as_u16(), body["code"].as_str()),
        (409, Some("wrong_state"))
    );
}

#[tokio::test]
async fn flows_are_listed_whole_in_pages_or_as_headers() {
    let server = Server::start().await;
    for n in 0..5 {
        server.put_flow(&format!("f{n}")).await;
    }
    let names = async |query: &str| {
        let (status, body) = server.get(&format!("/api/v1/flows/{query}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let name = |flow: &Value| flow["endpoint_name"].as_str().unwrap().to_owned();
        body.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names("").await.len(), 5);
    assert_eq!(names("?get_all=false&page=2&size=2").await, ["f2", "f3"]);
    assert_eq!(names("?get_all=false&page=4&size=2").await, [""; 0]);
    assert_eq!(names("?components_only=true").await, [""; 0]);
    let (_, headers) = server.get("/api/v1/flows/?header_flows=true").await;
    assert_eq!(headers[0]["data"], Value::Null);
    for bad in [
        "?page=0",
        "?size=101",
        "?get_all=maybe",
        "?colour=red",
        "?folder_id=x",
    ] {
        assert_eq!(
            server.get(&format!("/api/v1/flows/{bad}")).await.0,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_and_nothing_is_stored() {
    let server = Server::start().await;
    let with = |field: &str, value: Value| {
        let mut flow = hello();
        flow[field] = value;
        flow
    };
    for (body, code) in [
        (json!({"name": "empty"}), "flow_invalid"),
        (with("is_component", json!(true)), "not_available"),
        (with("mcp_enabled", json!(true)), "not_available"),
        (with("id", json!("x")), "invalid"),
        (with("endpoint_name", json!("a b")), "invalid"),
        (with("name", json!(3)), "invalid"),
        (json!([]), "invalid"),
    ] {
        let (status, answer) = server.post("/api/v1/flows/", &body).await;
        assert_eq!(
            (status.as_u16(), answer["code"].as_str()),
            (422, Some(code)),
            "{answer}"
        );
    }
    assert_eq!(server.get("/v1/flows").await.1["items"], json!([]));
    let (_, made) = server.post("/api/v1/flows/", &hello()).await;
    let path = format!("/api/v1/flows/{}", made["id"].as_str().unwrap());
    let rename = json!({"endpoint_name": "other"});
    let (status, answer) = server.call(Method::PATCH, &path, &rename).await;
    assert_eq!(
        (status.as_u16(), answer["code"].as_str()),
        (422, Some("invalid")),
        "{answer}"
    );
    let (status, _) = server.call(Method::PUT, "/api/v1/flows/no-uuid", &hello()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

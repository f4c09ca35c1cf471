//! Knowledge bases through Langflow's API.

use flowfleet_core::knowledge::{Chunk, Ingest, Ingested, Tags};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Server;

const PATH: &str = "/api/v1/knowledge_bases";

fn base(name: &str) -> Value {
    json!({"name": name, "embedding_provider": "OpenAI", "embedding_model": "text-embedding-3-small",
        "column_config": [{"column_name": "text", "vectorize": true, "identifier": true}], "backend_type": null})
}

#[tokio::test]
async fn bases_are_made_listed_and_deleted() {
    let server = Server::with_flow().await;
    let (status, made) = server.post(PATH, &base(" my docs")).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let shown = json!({"dir_name": "my_docs", "name": "my docs", "status": "empty", "chunks": 0,
        "embedding_provider": "OpenAI", "embedding_model": "text-embedding-3-small"});
    for (name, value) in shown.as_object().unwrap() {
        assert_eq!(made[name], *value, "{name}");
    }
    assert_eq!(made["column_config"][0]["column_name"], "text");
    let (status, problem) = server.post(PATH, &base("my_docs")).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::CONFLICT, &json!("name_taken"))
    );
    let lease = server.claim(server.run().await).await.lease;
    let chunk = Chunk {
        id: uuid::Uuid::now_v7(),
        hash: "h".to_owned(),
        content: "two words".to_owned(),
        metadata: json!({}),
        tags: Tags::new(),
        vector: vec![1.0, 2.0],
    };
    let ingest = Ingest {
        lease,
        knowledge: made["id"].as_str().unwrap().parse().unwrap(),
        chunks: vec![chunk],
        unique: true,
    };
    assert_eq!(
        server.store.ingest(&ingest).await.unwrap(),
        Ingested::Kept(vec![true])
    );
    let (_, listed) = server.get(PATH).await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let (status, one) = server.get(&format!("{PATH}/my_docs")).await;
    assert_eq!((status, &one), (StatusCode::OK, &listed[0]));
    let counts = [
        "status",
        "chunks",
        "words",
        "characters",
        "avg_chunk_size",
        "size",
    ];
    let counts = counts.map(|name| one[name].clone());
    assert_eq!(json!(counts), json!(["ready", 1, 2, 9, 9.0, 17]));
    let (status, gone) = server
        .call(Method::DELETE, &format!("{PATH}/my_docs"), &Value::Null)
        .await;
    assert_eq!(
        (status, &gone["message"]),
        (
            StatusCode::OK,
            &json!("Knowledge base 'my_docs' deleted successfully")
        )
    );
    for method in [Method::GET, Method::DELETE] {
        let (status, _) = server
            .call(method, &format!("{PATH}/my_docs"), &Value::Null)
            .await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn bad_bases_are_refused_with_their_places() {
    let server = Server::with_flow().await;
    let with = |name: &str, value: Value| {
        let mut body = base("docs");
        body[name] = value;
        body
    };
    for (body, pointer) in [
        (with("name", json!("../x")), "/name"),
        (with("name", json!(" ")), "/name"),
        (with("name", json!(5)), "/name"),
        (with("embedding_provider", json!("Ollama")), "/embedding_provider"),
        (with("embedding_model", json!("gpt-4o")), "/embedding_model"),
        (with("column_config", json!({})), "/column_config"),
        (with("model_selection", json!("x".repeat(100 << 10))), ""),
    ] {
        let (status, problem) = server.post(PATH, &body).await;
        assert_eq!(
            (status, &problem["errors"][0]["pointer"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(pointer))
        );
    }
    assert_eq!(server.get(PATH).await.1, json!([]));
}

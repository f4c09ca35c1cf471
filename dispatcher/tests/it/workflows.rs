//! `/api/v2/workflows`: jobs as its clients make, watch and stop them. The engine itself plays the worker.

use flowfleet_core::RunId;
use flowfleet_core::port::Role;
use flowfleet_core::run::Ending;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{HELLO, Parts, Server, answer, until};
use crate::langflow::{HELLO_ID, claim, executed, finish, input};

const PATH: &str = "/api/v2/workflows";

fn ask(server: &Server, body: &Value) -> tokio::task::JoinHandle<(StatusCode, Value)> {
    let request = server.request(Method::POST, PATH).json(body);
    tokio::spawn(async move { answer(request.send().await.unwrap()).await })
}

fn job(body: &Value) -> RunId {
    body["job_id"]
        .as_str()
        .unwrap_or_else(|| panic!("{body}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_workflow_is_a_run_and_its_answer_langflows() {
    let server = Server::with_flow().await;
    let body =
        json!({"flow_id": HELLO_ID, "input_value": "Ada", "globals": {"CITY": "Ghent"}, "session_id": "s-1"});
    let call = ask(&server, &body);
    let claimed = claim(&server).await;
    let given = input(&claimed);
    assert_eq!(given.input, "Ada");
    assert_eq!(given.variables["CITY"], "Ghent");
    assert_eq!(given.langflow["workflow"]["mode"], "sync");
    let outputs = executed(&claimed).await;
    finish(&server, &claimed, Ending::Succeeded, outputs).await;
    let (status, body) = call.await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(job(&body), claimed.lease.run);
    let text = "Hello, Ada! This flow ran on Flowfleet.";
    assert_eq!(
        (&body["status"], &body["session_id"]),
        (&json!("completed"), &json!("s-1"))
    );
    let output = &body["output"];
    assert_eq!(
        (&output["reason"], &output["text"]),
        (&json!("single"), &json!(text))
    );
    let component = &body["outputs"][output["source"].as_str().unwrap()];
    assert_eq!(
        (&component["type"], &component["content"]),
        (&json!("message"), &json!(text))
    );
    // It can be asked about later, and says nothing of its variables then.
    let (status, later) = server.get(&format!("{PATH}?job_id={}", claimed.lease.run)).await;
    assert_eq!((status, &later["outputs"]), (StatusCode::OK, &body["outputs"]));
    assert_eq!(later["globals"], json!({}));
}

#[tokio::test]
async fn a_job_goes_its_way_in_the_background() {
    let server = Server::with_flow().await;
    let body = |input: &str| json!({"flow_id": HELLO_ID, "mode": "background", "input_value": input, "idempotency_key": "k"});
    let (status, made) = ask(&server, &body("Ada")).await.unwrap();
    assert_eq!(
        (status, &made["status"]),
        (StatusCode::OK, &json!("queued")),
        "{made}"
    );
    let (_, again) = ask(&server, &body("other")).await.unwrap();
    assert_eq!(job(&again), job(&made), "the key decides");
    let status = async || server.get(made["links"]["status"].as_str().unwrap()).await;
    assert_eq!(status().await.1["status"], "queued");
    let claimed = server.claim(job(&made)).await;
    assert_eq!(status().await.1["status"], "in_progress");
    let outputs = executed(&claimed).await;
    finish(&server, &claimed, Ending::Succeeded, outputs).await;
    let (code, body) = status().await;
    assert_eq!(
        (code, &body["status"]),
        (StatusCode::OK, &json!("completed")),
        "{body}"
    );
    let (_, stopped) = server
        .post(&format!("{PATH}/stop"), &json!({"job_id": job(&made)}))
        .await;
    let message = stopped["message"].as_str().unwrap();
    assert!(message.ends_with("already finished (completed)."), "{message}");
}

#[tokio::test]
async fn a_job_is_stopped_once() {
    let server = Server::with_flow().await;
    let (_, made) = ask(&server, &json!({"flow_id": HELLO_ID, "mode": "background"}))
        .await
        .unwrap();
    let stop = async || {
        server
            .post(&format!("{PATH}/stop"), &json!({"job_id": job(&made)}))
            .await
    };
    let (status, body) = stop().await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .ends_with("cancelled successfully."),
        "{body}"
    );
    assert!(
        stop().await.1["message"]
            .as_str()
            .unwrap()
            .ends_with("is already cancelled.")
    );
    let (status, body) = server.get(&format!("{PATH}?job_id={}", job(&made))).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("cancelled")));
    let events = server.request(Method::GET, &format!("{PATH}/{}/events", job(&made)));
    let text = events.send().await.unwrap().text().await.unwrap();
    assert!(
        text.contains("\"cancelled\"") && text.ends_with("id: 1\n\n"),
        "{text}"
    );
    // Others are not stopped here: whoever waits for them may leave.
    let run = server.run().await;
    let (status, body) = server
        .post(&format!("{PATH}/stop"), &json!({"job_id": run}))
        .await;
    assert_eq!(
        (status, &body["detail"]["code"]),
        (StatusCode::NOT_FOUND, &json!("JOB_NOT_FOUND"))
    );
}

#[tokio::test]
async fn what_failed_is_said_to_who_waits_and_who_asks() {
    let server = Server::with_flow().await;
    let call = ask(&server, &json!({"flow_id": HELLO_ID}));
    let claimed = claim(&server).await;
    finish(&server, &claimed, Ending::Failed, Value::Null).await;
    let (status, body) = call.await.unwrap();
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("failed")));
    assert_eq!(body["errors"][0]["error"], "the model refused the key");
    let (status, body) = server.get(&format!("{PATH}?job_id={}", claimed.lease.run)).await;
    assert_eq!(
        (status.as_u16(), &body["detail"]["code"]),
        (500, &json!("JOB_FAILED"))
    );
    assert_eq!(body["detail"]["error_detail"]["type"], "model_unauthorized");
}

#[tokio::test]
async fn a_workflow_that_takes_longer_is_named_and_goes_on() {
    let mut parts = Parts::new().await;
    parts.config.limits.wait_s = 0;
    let server = parts.start().await;
    server.put_flow("hello").await;
    let (status, body) = ask(&server, &json!({"flow_id": HELLO_ID})).await.unwrap();
    assert_eq!(
        (status.as_u16(), &body["detail"]["code"]),
        (408, &json!("EXECUTION_TIMEOUT"))
    );
    let (status, body) = server
        .get(&format!("{PATH}?job_id={}", job(&body["detail"])))
        .await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("queued")));
}

#[tokio::test]
async fn tenants_see_their_jobs_only() {
    let server = Server::with_flow().await;
    let (_, made) = ask(&server, &json!({"flow_id": HELLO_ID, "mode": "background"}))
        .await
        .unwrap();
    let key = crate::auth::key(&server, "other", Role::Submit).await;
    until("keys are needed", async || server.get("/v1/runs").await.0 == 401).await;
    let call = async |method: Method, path: String, body: Value| {
        let request = server
            .request(method, &path)
            .header("x-api-key", &key)
            .json(&body);
        answer(request.send().await.unwrap()).await.0.as_u16()
    };
    let job = job(&made);
    assert_eq!(
        call(Method::GET, format!("{PATH}?job_id={job}"), Value::Null).await,
        404
    );
    assert_eq!(
        call(Method::GET, format!("{PATH}/{job}/events"), Value::Null).await,
        404
    );
    assert_eq!(
        call(Method::POST, format!("{PATH}/stop"), json!({"job_id": job})).await,
        404
    );
    assert_eq!(
        call(Method::POST, PATH.to_owned(), json!({"flow_id": HELLO_ID})).await,
        404
    );
}

fn upload(server: &Server, path: &str, name: &str, bytes: &[u8]) -> reqwest::RequestBuilder {
    let mut form =
        format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n")
            .into_bytes();
    form.extend_from_slice(bytes);
    form.extend_from_slice(b"\r\n--b--\r\n");
    let request = server.request(Method::POST, path);
    request
        .header("content-type", "multipart/form-data; boundary=b")
        .body(form)
}

#[tokio::test]
async fn files_are_kept_for_flows_to_read() {
    let mut parts = Parts::new().await;
    parts.config.limits.file_bytes = 1_000;
    let blob = parts.deps.blob.clone();
    let server = parts.start().await;
    server.put_flow("hello").await;
    let sent = upload(
        &server,
        "/api/v1/files/upload/hello",
        "a b.txt",
        b"some bytes\r\n",
    );
    let (status, body) = answer(sent.send().await.unwrap()).await;
    assert_eq!(
        (status, &body["flowId"]),
        (StatusCode::CREATED, &json!(HELLO_ID)),
        "{body}"
    );
    let path = body["file_path"].as_str().unwrap();
    assert!(path.starts_with(HELLO_ID) && path.ends_with("_a_b.txt"), "{path}");
    let kept = blob.get(&format!("langflow-files/default/{path}")).await.unwrap();
    assert_eq!(kept.unwrap().as_ref(), b"some bytes\r\n");
    let (_, name) = path.split_once('/').unwrap();
    let found = server.request(Method::GET, &format!("/api/v1/files/download/{HELLO_ID}/{name}"));
    assert_eq!(
        found.send().await.unwrap().text().await.unwrap(),
        "some bytes\r\n"
    );

    let (status, body) = answer(
        upload(&server, "/api/v2/files", "c.csv", b"1,2")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        (status, &body["name"], &body["size"]),
        (StatusCode::CREATED, &json!("c"), &json!(3))
    );
    let (_, listed) = server.get("/api/v2/files").await;
    assert_eq!(
        (&listed[0]["id"], &listed[0]["path"]),
        (&body["id"], &body["path"])
    );
    let one = format!("/api/v2/files/{}", body["id"].as_str().unwrap());
    for expected in [200, 404] {
        let (status, _) = server.call(Method::DELETE, &one, &Value::Null).await;
        assert_eq!(status, expected);
    }
    assert_eq!(server.get("/api/v2/files").await.1, json!([]));
    let of_flow = || server.get("/api/v1/files/list/hello");
    assert_eq!(of_flow().await.1["files"], json!([name]));
    let gone = format!("/api/v1/files/delete/{HELLO_ID}/{name}");
    server.call(Method::DELETE, &gone, &Value::Null).await;
    assert_eq!(of_flow().await.1["files"], json!([]));
    for (path, bytes, expected) in [
        ("/api/v1/files/upload/nobody", 1, 404),
        ("/api/v2/files", 2_000, 413),
    ] {
        let sent = upload(&server, path, "x", &vec![b'x'; bytes]);
        assert_eq!(answer(sent.send().await.unwrap()).await.0.as_u16(), expected);
    }
    let (status, _) = server.post("/api/v2/files", &json!({})).await;
    assert_eq!(status, 422);
    let (status, _) = server
        .get(&format!("/api/v1/files/download/{HELLO_ID}/..%2Fx"))
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn flows_come_and_go_in_bundles() {
    let server = Server::with_flow().await;
    let (status, taken) = answer(
        upload(&server, "/api/v1/flows/upload/", "f.json", HELLO.as_bytes())
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{taken}");
    assert_ne!(taken[0]["id"], HELLO_ID, "the id is taken");
    let mut flow: Value = serde_json::from_str(HELLO).unwrap();
    flow.as_object_mut().unwrap().remove("id");
    let (status, made) = server
        .post("/api/v1/flows/batch/", &json!({"flows": [flow.clone(), flow]}))
        .await;
    assert_eq!(
        (status, made.as_array().map(Vec::len)),
        (StatusCode::CREATED, Some(2)),
        "{made}"
    );
    let (status, _) = server.post("/api/v1/flows/batch/", &json!({"flows": [3]})).await;
    assert_eq!(status, 422);

    let (_, projects) = server.get("/api/v1/projects/").await;
    let project = projects[0]["id"].as_str().unwrap().to_owned();
    let (_, whole) = server.get(&format!("/api/v1/projects/{project}")).await;
    assert_eq!(whole["flows"].as_array().map(Vec::len), Some(4));
    let archive = server.request(Method::GET, &format!("/api/v1/projects/download/{project}"));
    let archive = archive.send().await.unwrap().bytes().await.unwrap();
    assert!(archive.starts_with(b"PK\x03\x04"));
    let (status, one) = server.post("/api/v1/flows/download/", &json!([HELLO_ID])).await;
    assert_eq!((status, &one["id"]), (StatusCode::OK, &json!(HELLO_ID)));
    let several = server.request(Method::POST, "/api/v1/flows/download/");
    let several = several
        .json(&json!([HELLO_ID, made[0]["id"]]))
        .send()
        .await
        .unwrap();
    assert_eq!(several.headers()["content-type"], "application/zip");
    for (method, path, expected) in [
        (Method::POST, "/api/v1/projects/".to_owned(), 422),
        (Method::DELETE, format!("/api/v1/projects/{project}"), 422),
        (Method::GET, format!("/api/v1/projects/{HELLO_ID}"), 404),
    ] {
        assert_eq!(
            server.call(method, &path, &Value::Null).await.0.as_u16(),
            expected,
            "{path}"
        );
    }
}

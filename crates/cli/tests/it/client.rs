//! What a client is refused, and how it says so.

use crate::program::{Ended, Server, flowfleet, items, until};

#[test]
fn exit_codes_of_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let model = Server::mock_model(&["--fail-every", "1", "--fail-status", "400"]);
    let up = Server::up(dir.path(), &model.url);
    up.push("ask-model");
    let failed = up
        .call(&["submit", "ask-model", "--input", "x", "--wait"])
        .expect(1);
    assert!(
        failed.err.contains("failed") && failed.out.is_empty(),
        "{failed:#?}"
    );
    let failed = up
        .call(&["submit", "ask-model", "--input", "x", "--wait", "--json"])
        .expect(1);
    assert_eq!(failed.json()["state"], "failed");
    up.call(&["submit", "ask-model", "--input", "x", "--follow"])
        .expect(1);

    let unknown = up.call(&["submit", "nobody", "--input", "x"]).expect(2);
    assert!(
        unknown.err.contains("nobody") && unknown.err.contains("flows list"),
        "{}",
        unknown.err
    );
    let nothing = "019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f";
    for args in [
        &["runs", "show", nothing][..],
        &["runs", "events", nothing],
        &["runs", "explain", nothing],
    ] {
        let ended = up.call(args).expect(2);
        assert!(ended.err.contains(nothing), "{args:?}: {}", ended.err);
    }
    let slow = up.call(&[
        "submit",
        "ask-model",
        "--input",
        "x",
        "--delay",
        "1h",
        "--wait",
        "--wait-timeout",
        "1s",
    ]);
    let slow = slow.expect(3);
    assert!(slow.err.contains("goes on without us"), "{}", slow.err);

    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.json");
    std::fs::write(&broken, r#"{"data": {"nodes": [{"id": "x"}], "edges": "none"}}"#).unwrap();
    let refused = up.call(&["flows", "push", broken.to_str().unwrap()]).expect(2);
    assert!(
        refused.err.contains("(at /"),
        "points at the place: {}",
        refused.err
    );
    assert_eq!(
        items(&up.call(&["flows", "list", "--json"]).expect(0)).len(),
        1,
        "nothing was stored"
    );
}

#[test]
fn keys_are_needed_once_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let up = Server::up(dir.path(), "http://127.0.0.1:1/v1");
    up.push("hello-prompt");
    let admin = up
        .call(&["keys", "create", "--name", "ops", "--role", "admin", "--quiet"])
        .expect(0)
        .out;
    let admin = admin.trim();
    let with = |key: &str, args: &[&str]| {
        let output = flowfleet()
            .env("FLOWFLEET_URL", &up.url)
            .env("FLOWFLEET_API_KEY", key)
            .args(args)
            .output();
        Ended::from(output.unwrap())
    };
    until("keys are asked for", || up.call(&["runs", "list"]).code == 3);
    let refused = up.call(&["runs", "list"]).expect(3);
    assert!(refused.err.contains("FLOWFLEET_API_KEY"), "{}", refused.err);
    let reader = with(
        admin,
        &["keys", "create", "--name", "look", "--role", "read", "--json"],
    )
    .expect(0)
    .json();
    let reader = reader["key"].as_str().unwrap().to_owned();
    with(&reader, &["runs", "list"]).expect(0);
    with(&reader, &["submit", "hello-prompt", "--input", "x"]).expect(3);
    let keys = items(&with(admin, &["keys", "list", "--json"]).expect(0));
    assert_eq!(keys.len(), 2);
    let table = with(admin, &["keys", "list"]).expect(0).out;
    assert!(table.contains("look") && !table.contains(&reader), "{table}");
}

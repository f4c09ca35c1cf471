//! What works, and what is refused, without a server.

use crate::program::{Server, call, example, flowfleet};

#[test]
fn run_prints_the_output_and_the_nodes() {
    let ended = call(&["run", &example("hello-prompt"), "--input", "Ada"]).expect(0);
    assert_eq!(ended.out, "Hello, Ada! This flow ran on Flowfleet.\n");
    for said in ["Chat Input", "Prompt", "Chat Output", "3 nodes"] {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
    let quiet = call(&["run", &example("hello-prompt"), "--input", "Ada", "--quiet"]).expect(0);
    assert_eq!(quiet.err, "");
    let json = call(&["run", &example("hello-prompt"), "--input", "Ada", "--json"])
        .expect(0)
        .json();
    assert_eq!(json["output"], "Hello, Ada! This flow ran on Flowfleet.");
    assert_eq!(json["nodes_run"], 3);
}

#[test]
fn run_streams_tokens_of_a_model() {
    let model = Server::mock_model(&[]);
    let ended = call(&[
        "run",
        &example("ask-model"),
        "--input",
        "What is a lease?",
        "--var",
        "OPENAI_API_KEY=k",
        "--var",
        &format!("OPENAI_BASE_URL={}", model.url),
    ])
    .expect(0);
    assert_eq!(ended.out, "echo: What is a lease?\n");
    assert!(ended.err.contains("» "), "streams: {}", ended.err);
    assert!(ended.err.contains("tokens in"), "{}", ended.err);
}

#[test]
fn run_takes_tweaks_and_stdin() {
    let tweaks = r#"{"Prompt-greet": {"template": "Bye, {name}."}}"#;
    let ended = call(&[
        "run",
        &example("hello-prompt"),
        "--input",
        "Ada",
        "--tweaks",
        tweaks,
    ])
    .expect(0);
    assert_eq!(ended.out, "Bye, Ada.\n");
    let flow = std::fs::File::open(example("hello-prompt")).unwrap();
    let output = flowfleet()
        .args(["run", "-", "--input", "Ada"])
        .stdin(flow)
        .output()
        .unwrap();
    assert!(output.status.success());
}

#[test]
fn a_run_that_fails_exits_with_1() {
    let model = Server::mock_model(&["--fail-every", "1", "--fail-status", "400"]);
    let ended = call(&[
        "run",
        &example("ask-model"),
        "--input",
        "x",
        "--var",
        "OPENAI_API_KEY=k",
        "--var",
        &format!("OPENAI_BASE_URL={}", model.url),
    ])
    .expect(1);
    assert!(
        ended.err.contains("error:") && ended.err.contains("LanguageModel"),
        "{}",
        ended.err
    );
    assert_eq!(ended.out, "");
}

#[test]
fn usage_errors_exit_with_2_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.json");
    std::fs::write(&bad, "{]").unwrap();
    let bad = bad.to_str().unwrap();
    let hello = example("hello-prompt");
    let table: &[(&[&str], &str)] = &[
        (&[], "Usage:"),
        (&["fly"], "unrecognized subcommand"),
        (&["up", "--slots", "0"], "--slots"),
        (&["up", "--listen", "nowhere"], "--listen"),
        (&["run", "missing.json"], "cannot read missing.json"),
        (&["run", bad], "not a flow"),
        (&["run", &hello, "--tweaks", "{"], "--tweaks is not JSON"),
        (&["run", &hello, "--var", "novalue"], "KEY=VALUE"),
        (&["submit"], "required"),
        (&["submit", "a/b", "--input", "x"], "flow name"),
        (
            &["submit", "a", "--input", "x", "--input-file", "y"],
            "cannot be used with",
        ),
        (&["submit", "a", "--delay", "soon"], "is no duration"),
        (&["submit", "a", "--priority", "urgent"], "high, normal or low"),
        (
            &["submit", "a", "--batch", "missing.ndjson"],
            "cannot read missing.ndjson",
        ),
        (&["submit", "--batch", bad], "line 1"),
        (&["runs", "list", "--state", "done"], "is not known"),
        (&["runs", "list", "--since", "yesterday"], "is no time"),
        (&["runs", "show", "17"], "invalid value"),
        (&["runs", "cancel"], "ids, or a filter"),
        (
            &["keys", "create", "--name", "x", "--role", "king"],
            "admin, submit or read",
        ),
        (&["flows", "push", "-"], "needs a name"),
        (&["--url", "ftp://x", "runs", "list"], "not an http"),
    ];
    for (args, said) in table {
        let ended = call(args).expect(2);
        assert!(ended.err.contains(said), "{args:?}: {}", ended.err);
    }
}

#[test]
fn a_server_that_is_not_there_exits_with_3() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{free}");
    for args in [
        &["runs", "list"][..],
        &["flows", "list"],
        &["submit", "a", "--input", "x"],
        &["fleet", "status"],
        &["keys", "list"],
    ] {
        let ended = flowfleet()
            .args(["--url", &url])
            .args(args)
            .output()
            .map(super::program::Ended::from)
            .unwrap();
        let ended = ended.expect(3);
        assert!(
            ended.err.contains("cannot reach") && ended.err.contains("flowfleet up"),
            "{args:?}: {}",
            ended.err
        );
    }
}

#[test]
fn migrate_makes_a_store_once_and_the_first_key_needs_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/new/flowfleet.db", dir.path().display());
    let early = call(&["keys", "create", "--name", "ops", "--store", &url]);
    assert_eq!(early.code, 3, "{early:#?}");
    let first = call(&["migrate", "--store-url", &url, "--json"]).expect(0).json();
    assert!(first["migrations"].as_u64().unwrap() > 0);
    let again = flowfleet()
        .env("FLOWFLEET_STORE_URL", &url)
        .arg("migrate")
        .output()
        .unwrap();
    let again = super::program::Ended::from(again).expect(0);
    assert!(again.out.contains("no migration ran"), "{}", again.out);

    let made = call(&[
        "keys", "create", "--name", "ops", "--role", "admin", "--store", &url,
    ])
    .expect(0);
    assert!(
        made.out.starts_with("ff_") && made.out.trim().len() > 40,
        "{}",
        made.out
    );
    let listed = call(&["keys", "list", "--store", &url, "--json"]).expect(0);
    assert!(!listed.out.contains(made.out.trim()), "a key is shown once only");
    let listed = listed.json();
    assert_eq!(listed["items"][0]["name"], "ops");
    let id = listed["items"][0]["id"].as_str().unwrap();
    call(&["keys", "revoke", id, "--store", &url]).expect(0);
    call(&["keys", "revoke", id, "--store", &url]).expect(2);
    call(&["migrate", "--store-url", "mysql://x/y"]).expect(3);
}

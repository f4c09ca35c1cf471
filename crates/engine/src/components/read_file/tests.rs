//! What a node makes of the files it names, as lfx 1.13 does of the same files.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::super::testing::{Stored, call, edge, field, text_of, with_files};
use super::*;
use crate::component::Kind;

fn files() -> Arc<Stored> {
    Stored::with(&[
        ("f/a.txt", b"one\r\ntwo\rthree\n"),
        ("f/b.json", br#"{ "k" : [1, 2.50], "t": "x" }"#),
        ("f/c.csv", b"n,w\n1,x\n,y\n"),
        ("f/d.md", b""),
        ("f/e.bin", b"?"),
        ("f/latin.txt", b"caf\xe9"),
    ])
}

fn node(paths: &[&str], params: &[(&str, Param)]) -> NodeCall {
    let mut all = vec![("path", field(json!(paths)))];
    all.extend_from_slice(params);
    call(Kind::File, &all)
}

async fn made(mut call: NodeCall, output: &str, method: &str) -> Result<NodeOutput, &'static str> {
    call.wanted = vec![output.to_owned()].into();
    call.methods = vec![(output.to_owned(), method.to_owned())].into();
    run(&call, &with_files(&files()))
        .await
        .map_err(|error| error.code)
}

async fn message(paths: &[&str], params: &[(&str, Param)]) -> Result<String, &'static str> {
    let output = made(node(paths, params), "message", "load_files_message").await?;
    Ok(text_of(&output, "message"))
}

async fn table(paths: &[&str], method: &str) -> Json {
    match &made(node(paths, &[]), "dataframe", method).await.unwrap().values["dataframe"] {
        Value::Table(rows) => json!(rows),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn text_of_files() {
    let none: [(&str, Param); 0] = [];
    assert_eq!(message(&["f/a.txt"], &none).await.unwrap(), "one\ntwo\nthree\n");
    assert_eq!(
        message(&["f/b.json"], &none).await.unwrap(),
        r#"{"k":[1,2.5],"t":"x"}"#
    );
    assert_eq!(message(&["f/c.csv"], &none).await.unwrap(), "n,w\n1,x\n,y\n");
    let empty = "{\n  \"file_path\": \"f/d.md\",\n  \"text\": \"\",\n  \"encoding\": \"utf-8\"\n}";
    assert_eq!(message(&["f/d.md"], &none).await.unwrap(), empty);
    let both = message(&["f/a.txt", "f/b.json"], &[("separator", field("|"))]).await;
    assert_eq!(both.unwrap(), "one\ntwo\nthree\n|{\"k\":[1,2.5],\"t\":\"x\"}");
    assert_eq!(
        message(&["f/a.txt", "f/e.bin"], &none).await.unwrap(),
        "one\ntwo\nthree\n"
    );
    let latin = [("text_encoding", field(" Latin-1 "))];
    assert_eq!(message(&["f/latin.txt"], &latin).await.unwrap(), "café");
}

#[tokio::test]
async fn what_is_known_of_files() {
    let output = made(
        node(&["f/a.txt", "f/b.json", "f/a.txt"], &[]),
        "message",
        "load_files_message",
    );
    let output = output.await.unwrap();
    let Value::Message(message) = &output.values["message"] else {
        panic!("{output:?}")
    };
    let extra = Json::Object(Map::clone(&message.extra));
    assert_eq!(extra["filename"], "a.txt");
    assert_eq!(extra["file_size"], 15);
    assert_eq!(extra["mimetype"], "text/plain");
    assert_eq!(extra["encoding"], "ascii");
    let twice = "one\ntwo\nthree\n\n\none\ntwo\nthree\n";
    assert_eq!(extra["source_files"][0]["text"], twice);
    assert_eq!(extra["source_files"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn rows_and_data() {
    let rows = table(&["f/b.json", "f/c.csv"], "load_files").await;
    assert_eq!(
        rows[0],
        json!({"file_path": "f/b.json", "text": r#"{"k":[1,2.5],"t":"x"}"#, "encoding": "ascii"})
    );
    assert_eq!(rows[1]["text"], "n,w\n1,x\n,y\n");
    let rows = table(&["f/c.csv"], "load_files_structured").await;
    assert_eq!(rows, json!([{"n": 1.0, "w": "x"}, {"n": null, "w": "y"}]));
    let rows = table(&["f/b.json", "f/c.csv"], "load_files_structured").await;
    assert_eq!(rows.as_array().unwrap().len(), 1);
    let output = made(node(&["f/b.json"], &[]), "json", "load_files_json")
        .await
        .unwrap();
    assert_eq!(
        output.values["json"],
        Value::Data(json!({"k": [1, 2.5], "t": "x"}).as_object().cloned().unwrap())
    );
    let output = made(node(&["f/a.txt", "f/b.json"], &[]), "path", "load_files_path")
        .await
        .unwrap();
    assert_eq!(text_of(&output, "path"), "f/a.txt\nf/b.json");
}

#[tokio::test]
async fn paths_of_other_nodes_go_first() {
    let data = Value::Data(json!({"file_path": "f/b.json"}).as_object().cloned().unwrap());
    let given = Param::Edges(vec![Message::of("f/a.txt").into(), data]);
    let text = message(&["f/c.csv"], &[("file_path", given), ("separator", field("|"))]).await;
    assert_eq!(text.unwrap(), "one\ntwo\nthree\n|{\"k\":[1,2.5],\"t\":\"x\"}");
    let without = || edge(Value::Data(Map::new()));
    assert_eq!(
        message(&["f/a.txt"], &[("file_path", without())]).await,
        Err("field_invalid")
    );
    let ignores = ("ignore_unspecified_files", field(true));
    assert_eq!(
        message(&["f/a.txt"], &[("file_path", without()), ignores]).await,
        Err("file_missing")
    );
}

#[tokio::test]
async fn refusals() {
    let silent = || ("silent_errors", field(true));
    for (paths, params, code) in [
        (&[][..], vec![], "file_missing"),
        (&["f/none.txt"], vec![], "file_missing"),
        (&["f/none.txt"], vec![silent()], "file_missing"),
        (&["f/e.bin"], vec![], "file_missing"),
        (
            &["f/e.bin"],
            vec![("ignore_unsupported_extensions", field(false))],
            "file_unreadable",
        ),
        (&["f/latin.txt"], vec![], "file_unreadable"),
        (
            &["f/a.txt"],
            vec![("text_encoding", field("klingon"))],
            "file_unreadable",
        ),
        (&["f/x.pdf"], vec![], "file_unreadable"),
        (&["f/x.yaml"], vec![], "file_unreadable"),
        (&["f/x.zip"], vec![], "file_unreadable"),
    ] {
        assert_eq!(message(paths, &params).await, Err(code), "{paths:?}");
    }
    assert_eq!(
        message(&["f/none.txt", "f/a.txt"], &[silent()]).await.unwrap(),
        "one\ntwo\nthree\n"
    );
}

#[tokio::test]
async fn as_a_tool_it_reads_what_was_uploaded() {
    let ctx = with_files(&files());
    let call = node(&["f/a.txt", "f/b.json"], &[]);
    assert_eq!(
        description(&call),
        "Loads and returns the content from uploaded files. Available files: a.txt, b.json. Call this tool to read \
         these files."
    );
    assert_eq!(
        tool(&call, &ctx).await,
        "one\ntwo\nthree\n\n\n{\"k\":[1,2.5],\"t\":\"x\"}"
    );
    let error = tool(&node(&[], &[]), &ctx).await;
    assert!(error.starts_with("Error reading files: "), "{error}");
    assert_eq!(
        description(&node(&[], &[])),
        "Loads and returns the content from uploaded files."
    );
}

//! API Request: the same random requests through Langflow's lfx and through this engine, to a server that tells what it
//! was asked.

use std::net::SocketAddr;

use flowfleet_engine::OutboundSettings;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::draw::Draw;
use crate::lfx::{Chance, differences, number, ours, theirs};
use crate::run::Runner;

/// One request a connection, until the runtime ends.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&piece[..length]),
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        });
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    let (status, headers, body) = match path.trim_start_matches('/') {
        "close" => return,
        "slow" => {
            tokio::time::sleep(std::time::Duration::from_secs(4)).await;
            return;
        }
        path => said(path, &head, &target, &body),
    };
    let mut answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut answer = format!("{answer}\r\n").into_bytes();
    answer.extend_from_slice(&body);
    // Who asked may be gone.
    let _ = stream.write_all(&answer).await;
}

type Said = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn said(path: &str, head: &str, target: &str, body: &str) -> Said {
    let of = |kind: &str| vec![("Content-Type", kind.to_owned())];
    let moved = |status: u16, to: &str| (status, vec![("Location", to.to_owned())], b"moved".to_vec());
    match path {
        "text" => (200, of("text/plain"), "plain 'text' é\n\t\"x\"\\".into()),
        "latin" => (200, of("text/plain; charset=ISO-8859-1"), b"caf\xe9".to_vec()),
        "broken" => (200, of("text/plain"), b"caf\xe9 \xf0\x9f".to_vec()),
        "odd" => (200, of("text/plain; charset=no-such"), b"caf\xc3\xa9".to_vec()),
        "bom" => (200, of("application/json"), b"\xef\xbb\xbf{\"a\": 1}".to_vec()),
        "binary" => (200, of("application/octet-stream"), b"{\"a\": 1}".to_vec()),
        "binary2" => (200, of("application/binary; x=y"), b"abc".to_vec()),
        "list" => (
            200,
            of("text/html"),
            b" [1, 2.0, 1e16, 1e-7, null, {\"a\": \"b\"}]".to_vec(),
        ),
        "number" => (200, of("application/json"), b"12".to_vec()),
        "empty" => (204, Vec::new(), Vec::new()),
        "gone" => (404, of("application/json"), b"{\"detail\": \"gone\"}".to_vec()),
        "fails" => (503, of("text/html"), b"<h1>busy</h1>".to_vec()),
        "double" => {
            let headers = vec![
                ("X-A", "1".to_owned()),
                ("X-B", "b, c".to_owned()),
                ("x-a", "2".to_owned()),
            ];
            (200, headers, b"{}".to_vec())
        }
        "m301" => moved(301, "/echo?moved=1"),
        "m302" => moved(302, "echo"),
        "m303" => moved(303, "/m307"),
        "m307" => moved(307, "./echo?a=b"),
        "m308" => moved(308, "/m302"),
        "round" => moved(302, "/round"),
        "inside" => moved(302, "http://10.0.0.1/secret"),
        "mail" => moved(302, "mailto:a@b.example"),
        "nowhere" => moved(302, "http://127.0.0.1:1/x"),
        "elsewhere" => {
            let host = header(head, "host").unwrap_or_default();
            let port = host.rsplit(':').next().unwrap_or_default();
            moved(307, &format!("http://127.0.0.2:{port}/echo"))
        }
        "here" => (302, Vec::new(), b"stays".to_vec()),
        _ => (200, of("application/json"), echo(head, target, body)),
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    let line = head
        .lines()
        .find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// What was asked, without what a client says of itself.
fn echo(head: &str, target: &str, body: &str) -> Vec<u8> {
    let ours = ["accept-encoding", "connection", "host"];
    let is_client = |value: &str| value.starts_with("python-httpx") || value.starts_with("flowfleet");
    let mut headers: Vec<String> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim()))
        .filter(|(name, value)| !ours.contains(&name.as_str()) && !is_client(value))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    let method = head.split(' ').next();
    let said = json!({"method": method, "target": target, "headers": headers, "body": body});
    serde_json::to_vec(&said).unwrap()
}

const PATHS: [&str; 30] = [
    "",
    "echo",
    "text",
    "latin",
    "broken",
    "odd",
    "bom",
    "binary",
    "binary2",
    "list",
    "number",
    "empty",
    "gone",
    "fails",
    "double",
    "m301",
    "m302",
    "m303",
    "m307",
    "m308",
    "round",
    "inside",
    "mail",
    "nowhere",
    "elsewhere",
    "here",
    "close",
    "echo/../x/./y/..",
    "é/%zz%41/100%;p",
    "echo;",
];
const QUERIES: [&str; 10] = [
    "",
    "",
    "",
    "?a=1",
    "?a=1&b=%C3%A9+x&c=&a=2",
    "?a=<\"é\">",
    "?a",
    "?a=1;b",
    "?x=a=b&",
    "?a=1#part",
];
const VALUES: [&str; 18] = [
    "1",
    "x",
    "",
    "true",
    "null",
    "[1, 2.50, 1e16, 1e-7]",
    "{\"a\": \"1\", \"é\": [\"\\u00e9\\n\"]}",
    "\"[1]\"",
    "\"\\\"2\\\"\"",
    "é 'quoted' \"x\"",
    " 7 ",
    "0x1",
    "-1.5",
    "1.0",
    "{'a': 1}",
    "\"\\u0001\u{7f}/\"",
    "1e5",
    "18446744073709551615",
];

fn pairs(chance: &mut Chance, keys: &[&str], values: &[&str]) -> Json {
    let mut rows: Vec<Json> = Vec::new();
    for key in chance.some(keys, 3) {
        rows.push(json!({"key": key, "value": chance.one(values)}));
    }
    if chance.below(8) == 0 {
        rows.push(json!({"key": "no value"}));
    }
    Json::Array(rows)
}

fn flow() -> Draw {
    Draw::new()
        .released("ChatInput-1", "ChatInput")
        .released("APIRequest-1", "APIRequest")
        .released("ChatOutput-1", "ChatOutput")
        .edge("ChatInput-1", "message", "APIRequest-1", "url_input")
}

/// A request between a chat input, which is its address, and a chat output, its answer printed in one of several ways.
fn draw(chance: &mut Chance, address: SocketAddr) -> (Draw, String) {
    let path = *chance.one(&PATHS);
    let place = match chance.below(12) {
        0 => "http://127.0.0.1:1".to_owned(),
        1 => format!("http://user:p%40ss@{address}"),
        2 => (*chance.one(&[
            "",
            "10.0.0.1",
            "http://localhost",
            "http://a_b.example",
            "ftp://a.example",
            "http://169.254.169.254",
        ]))
        .to_owned(),
        _ => format!("http://{address}"),
    };
    let url = match place.as_str() {
        "" => String::new(),
        place => format!("{place}/{path}{}", chance.one(&QUERIES)),
    };
    let headers = [
        "A",
        "a",
        "User-Agent",
        "Content-Type",
        "Authorization",
        "Cookie",
        "Accept",
        "X-Z",
    ];
    let texts = ["v", "text/plain", "", "a\tb", "a b, c", "é", "it's"];
    let mut draw = flow()
        .set(
            "APIRequest-1",
            "method",
            *chance.one(&["GET", "GET", "POST", "PATCH", "PUT", "DELETE", "post", "HEAD"]),
        )
        .set("APIRequest-1", "follow_redirects", chance.below(2) == 0)
        .set("APIRequest-1", "include_httpx_metadata", chance.below(2) == 0)
        .set(
            "APIRequest-1",
            "body",
            pairs(chance, &["a", "b", "é", "a"], &VALUES),
        )
        .set("APIRequest-1", "headers", pairs(chance, &headers, &texts));
    if chance.below(2) == 0 {
        draw = draw.set("APIRequest-1", "mode", "cURL").set(
            "APIRequest-1",
            "curl_input",
            "curl http://x.example",
        );
    }
    for (field, odds) in [("query_params", 4), ("body", 6), ("headers", 12)] {
        if chance.below(odds) == 0 {
            let (node, text) = (
                format!("TypeConverterComponent-{field}"),
                format!("TextInput-{field}"),
            );
            draw = draw
                .released(&node, "TypeConverterComponent")
                .set(&node, "auto_parse", true)
                .output(&node, "data_output")
                .released(&text, "TextInput")
                .set(&text, "input_value", *chance.one(&INPUTS))
                .edge(&text, "text", &node, "input_data")
                .edge(&node, "data_output", "APIRequest-1", field);
        }
    }
    (printed(draw, chance), url)
}

fn printed(draw: Draw, chance: &mut Chance) -> Draw {
    let (mode, pattern) = match chance.below(4) {
        0 => return draw.edge("APIRequest-1", "data", "ChatOutput-1", "input_value"),
        1 => {
            return draw
                .released("TypeConverterComponent-out", "TypeConverterComponent")
                .edge("APIRequest-1", "data", "TypeConverterComponent-out", "input_data")
                .edge(
                    "TypeConverterComponent-out",
                    "message_output",
                    "ChatOutput-1",
                    "input_value",
                );
        }
        2 => ("Stringify", ""),
        _ => (
            "Parser",
            "{status_code} {source} {result} {response_headers} {headers!r} {error} {redirection_history}",
        ),
    };
    draw.released("ParserComponent-1", "ParserComponent")
        .set("ParserComponent-1", "mode", mode)
        .set("ParserComponent-1", "pattern", pattern)
        .edge("APIRequest-1", "data", "ParserComponent-1", "input_data")
        .edge("ParserComponent-1", "parsed_text", "ChatOutput-1", "input_value")
}

const INPUTS: [&str; 5] = [
    "words",
    r#"{"a": 1, "b": [1, null], "é": "x y", "c": "&=;"}"#,
    r#"{"key": "k", "value": "[1]"}"#,
    r#"{"n": null, "t": true, "f": 1.0, "s": "\"1\""}"#,
    "{}",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_those_of_lfx() {
    let address = serve().await;
    let mut chance = Chance::new();
    let mut flows: Vec<(Draw, String)> = (0..number("FLOWFLEET_TEST_CASES", 48))
        .map(|_| draw(&mut chance, address))
        .collect();
    let slow = flow().set("APIRequest-1", "timeout", 1);
    flows.push((
        slow.edge("APIRequest-1", "data", "ChatOutput-1", "input_value"),
        format!("http://{address}/slow"),
    ));
    let cases: Vec<(&Draw, &str)> = flows.iter().map(|(draw, input)| (draw, input.as_str())).collect();
    let theirs = theirs(&cases, &[("LANGFLOW_SSRF_ALLOWED_HOSTS", "127.0.0.1,127.0.0.2")]);
    let mut ended = Vec::new();
    for (draw, input) in &cases {
        let mut runner = Runner::new(input);
        runner.outbound = OutboundSettings {
            hosts: ["127.0.0.1", "127.0.0.2"]
                .map(|host| host.parse().unwrap())
                .to_vec(),
            ..OutboundSettings::default()
        };
        ended.push(ours(draw, &runner).await);
    }
    let different = differences(&cases, &ended, &theirs);
    assert!(
        different.is_empty(),
        "{} differ:\n{}",
        different.len(),
        different.join("\n")
    );
    // A flow that did not run has no output either.
    let silent = ended.iter().filter(|ended| ended["outputs"] == json!({}));
    assert_eq!(silent.count(), 0);
    let answered = ended
        .iter()
        .filter(|ended| ended.get("outputs").is_some())
        .count();
    assert!(answered > cases.len() / 3, "only {answered} were answered");
}

#[test]
fn what_needs_python_says_so() {
    let draw = flow().set("APIRequest-1", "save_to_file", true).edge(
        "APIRequest-1",
        "data",
        "ChatOutput-1",
        "input_value",
    );
    let plan = crate::run::plan(&draw);
    let said = format!("{:?}", plan.unsupported());
    assert!(said.contains("saves answers to temporary files"), "{said}");
}

//! What flows can do in Python, on one host: each start of lfx costs many seconds.

use flowfleet_engine::{EngineKind, Request};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::draw::{custom, node, starter};
use crate::rig::{Kept, Rig, plan, request};

#[tokio::test(flavor = "multi_thread")]
async fn flows_run_in_python() {
    let rig = Rig::new(|settings| settings.output_mib = 1).await;
    an_own_component(&rig).await;
    an_edited_component_streams(&rig).await;
    tweaks_and_variables(&rig).await;
    what_components_print_goes_elsewhere(&rig).await;
    the_environment_is_scrubbed(&rig).await;
    errors_name_the_node(&rig).await;
    too_much_is_refused(&rig).await;
    memory_is_supplied_and_told(&rig).await;
    langflows_answer_is_lfxs(&rig).await;
}

async fn an_own_component(rig: &Rig) {
    let flow = custom("text = text.upper() + '!'");
    assert_eq!(plan(&flow).engine(), EngineKind::Python);
    let ran = rig.run(&flow, &request("hello")).await;
    assert_eq!(ran.output(), "HELLO!");
    let nodes = ran.nodes();
    let [input, own, output] = ["ChatInput", "Custom-1", "ChatOutput"].map(|id| {
        let at = |word: &str| {
            nodes
                .iter()
                .position(|said| said.starts_with(&format!("{word} {id}")))
        };
        (at("started").unwrap(), at("finished").unwrap())
    });
    assert!(input.1 < own.0 && own.1 < output.0, "{nodes:?}");
    let outcome = ran.outcome.unwrap();
    assert_eq!(outcome.nodes_run, 3);
    assert_eq!(outcome.session_id, "5f0c9e0c-2589-4754-ac61-8cf88df4a07e");
    assert!(outcome.langflow.is_none());
}

async fn an_edited_component_streams(rig: &Rig) {
    let mut flow = starter("Basic Prompting");
    let code = &mut node(&mut flow, "LanguageModelComponent")["data"]["node"]["template"]["code"]["value"];
    *code = format!("{}\n# edited\n", code.as_str().unwrap()).into();
    assert_eq!(plan(&flow).engine(), EngineKind::Python);
    let ran = rig.run(&flow, &request("one two three")).await;
    assert_eq!(ran.output(), "echo: one two three");
    assert_eq!(ran.tokens(), "echo: one two three");
    let usage = ran.outcome.unwrap().usage;
    assert!(usage.input_tokens > 0 && usage.output_tokens > 0, "{usage:?}");
}

async fn tweaks_and_variables(rig: &Rig) {
    let mut flow = custom("text = f'{self.word} {text} {os.environ.get(\"MY_TOKEN\")}'");
    let mut asked = request("x");
    asked.tweaks = json!({"Custom-1": {"word": "tweaked"}});
    asked.variables.insert("MY_TOKEN".to_owned(), "mine".to_owned());
    assert_eq!(rig.run(&flow, &asked).await.output(), "tweaked x mine");
    // Nothing of it is left for the next run in the same process.
    assert_eq!(rig.run(&flow, &request("y")).await.output(), "plain y None");
    let word = &mut node(&mut flow, "Custom")["data"]["node"]["template"]["word"];
    word["value"] = "MY_TOKEN".into();
    word["load_from_db"] = true.into();
    let mut asked = asked.clone();
    asked.tweaks = Json::Null;
    assert_eq!(rig.run(&flow, &asked).await.output(), "mine x mine");
    asked.tweaks = json!({"Custom-1": {"code": "import os"}});
    assert_eq!(rig.run(&flow, &asked).await.error().0, "TWEAKS_REFUSED");
}

async fn what_components_print_goes_elsewhere(rig: &Rig) {
    let flow = custom(
        "print('{\"event\": \"result\"}', flush=True)\nos.write(1, b'x' * 300000 + b'\\n')\nos.write(2, b'{}\\n')\nos.close(0)",
    );
    assert_eq!(rig.run(&flow, &request("quiet")).await.output(), "quiet");
}

async fn the_environment_is_scrubbed(rig: &Rig) {
    let flow = custom("text = json.dumps(dict(os.environ))");
    let ran = rig.run(&flow, &request("")).await;
    let found: Json = serde_json::from_str(ran.output().as_str().unwrap()).unwrap();
    assert_eq!(found["OPENAI_API_KEY"], "operators-key");
    let allowed = [
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LC_CTYPE",
        "TZ",
        "NO_COLOR",
        "DO_NOT_TRACK",
        "LANGFLOW_DO_NOT_TRACK",
        "LANGFLOW_SSRF_PROTECTION_ENABLED",
        "TOKENIZERS_PARALLELISM",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ];
    for name in found.as_object().unwrap().keys() {
        let fine = allowed.contains(&name.as_str())
            || name.ends_with("_NUM_THREADS")
            || name.to_lowercase().ends_with("_proxy")
            // What libraries set for themselves.
            || name.starts_with("KMP_") || name.starts_with("OTEL_SEMCONV_") || name == "USER_AGENT";
        assert!(fine, "{name} is in the environment of a component");
    }
    // A caller that sends calls elsewhere does not get the operator's key for it.
    let mut asked = request("");
    asked
        .variables
        .insert("OPENAI_BASE_URL".to_owned(), "http://elsewhere".to_owned());
    let ran = rig.run(&flow, &asked).await;
    let found: Json = serde_json::from_str(ran.output().as_str().unwrap()).unwrap();
    assert_eq!(
        (&found["OPENAI_BASE_URL"], &found["OPENAI_API_KEY"]),
        (&json!("http://elsewhere"), &Json::Null)
    );
}

async fn errors_name_the_node(rig: &Rig) {
    let ran = rig
        .run(&custom("raise ValueError('no luck')"), &request("x"))
        .await;
    let (code, message) = ran.error();
    assert_eq!(code, "python_component_failed");
    assert!(
        message.contains("Custom (Custom-1)") && message.contains("no luck"),
        "{message}"
    );
    assert_eq!(ran.outcome.as_ref().unwrap_err().node(), Some("Custom-1"));
    assert!(
        ran.nodes().contains(&"failed Custom-1".to_owned()),
        "{:?}",
        ran.nodes()
    );
    let ran = rig.run(&custom("sys.exit(4)"), &request("x")).await;
    assert!(ran.error().1.contains("sys.exit"), "{:?}", ran.error());
    // A status says that a later try may succeed.
    let passing = custom("error = RuntimeError('busy')\nerror.status_code = 429\nraise error");
    assert!(
        rig.run(&passing, &request("x"))
            .await
            .outcome
            .unwrap_err()
            .retryable()
    );
    let broken = custom("raise ValueError('x')");
    assert!(
        !rig.run(&broken, &request("x"))
            .await
            .outcome
            .unwrap_err()
            .retryable()
    );
}

async fn too_much_is_refused(rig: &Rig) {
    let ran = rig.run(&custom("text = 'x' * (2 << 20)"), &request("x")).await;
    assert_eq!(ran.error().0, "python_output_too_large", "{:?}", ran.error());
}

async fn memory_is_supplied_and_told(rig: &Rig) {
    let message = |id: &str, sender: &str, text: &str, at: u32| {
        json!({"id": id, "timestamp": format!("2026-11-21 08:00:0{at}.000000 UTC"), "sender": sender,
            "sender_name": sender, "session_id": "s", "text": text, "files": [], "error": false, "properties": {}})
    };
    let kept = Kept {
        history: vec![
            message("a", "User", "first", 1),
            message("b", "Machine", "second", 2),
        ],
        ..Kept::default()
    };
    let flow = custom(
        "from lfx.memory import aget_messages
found = await aget_messages(session_id='s', order='ASC', limit=10)
last = await aget_messages(session_id='s', sender='Machine', order='DESC')
text = ' '.join(m.text for m in found) + ' / ' + last[0].text",
    );
    let asked = Request {
        session_id: Some("s".to_owned()),
        ..request("third")
    };
    let token = CancellationToken::new();
    let ran = rig.run_in("default", "run-m", &flow, &asked, &kept, token).await;
    assert_eq!(ran.output(), "first second third / second");
    let told = kept.messages.lock().unwrap();
    let last = |sender: &str| {
        told.iter()
            .rev()
            .find(|message| message["sender"] == sender)
            .unwrap()
    };
    assert_eq!(last("User")["text"], "third");
    assert_eq!(last("Machine")["text"], "first second third / second");
    assert!(
        told.iter()
            .all(|message| message["session_id"] == "s" && message["id"].is_string())
    );
}

async fn langflows_answer_is_lfxs(rig: &Rig) {
    let asked = Request {
        langflow_id: Some("c1cb7b3c-2589-4754-ac61-8cf88df4a07e".to_owned()),
        session_id: Some("demo-1".to_owned()),
        ..request("hello")
    };
    let ran = rig.run(&starter("Basic Prompting"), &asked).await;
    let answer = ran.outcome.unwrap().langflow.unwrap();
    let component = &answer[0]["outputs"][0];
    assert_eq!(answer[0]["inputs"], json!({"input_value": "hello"}));
    assert_eq!(component["results"]["message"]["text"], "echo: hello");
    assert_eq!(component["artifacts"]["message"], "echo: hello");
    assert_eq!(component["messages"][0]["session_id"], "demo-1");
    let keys: Vec<&String> = component["results"]["message"]["data"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    let expected = [
        "timestamp",
        "sender",
        "sender_name",
        "session_id",
        "context_id",
        "text",
        "files",
        "error",
        "edit",
        "properties",
        "category",
        "content_blocks",
        "session_metadata",
        "id",
        "flow_id",
        "run_id",
        "duration",
    ];
    assert_eq!(keys, expected);
}

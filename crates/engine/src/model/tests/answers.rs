//! Answers in all the shapes servers give them.

use super::*;

#[tokio::test]
async fn a_streamed_answer_arrives_token_by_token() {
    let model = mock::spawn(mock::Config::default()).await.unwrap();
    let (reply, tokens) = asked(&model.base_url(), &quick()).await;
    assert_eq!(
        reply.unwrap(),
        Reply {
            text: "echo: hi".to_owned(),
            tool_calls: Vec::new(),
            usage: Usage {
                input_tokens: 1,
                output_tokens: 2
            },
            blocks: Vec::new(),
        }
    );
    assert_eq!(tokens, ["echo:", " hi"]);
    assert_eq!(model.requests(), 1);
}

#[tokio::test]
async fn the_request_is_what_openai_expects() {
    let server = Scripted::start(vec![Answer::Close(events(&format!("{}{END}", piece("x"))))]).await;
    assert_eq!(asked(&server.base, &quick()).await.0.unwrap(), reply("x"));
    assert_eq!(
        server.bodies(),
        [json!({
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.1,
            "max_completion_tokens": 9,
            "stream": true,
            "stream_options": {"include_usage": true},
        })]
    );
}

#[tokio::test]
async fn unusual_but_valid_streams_are_read() {
    let blocks = "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"b\"}]},\"finish_reason\":null}],\"usage\":null}\n\n";
    let cases = [
        format!(": keep-alive\n\n{}{}{END}", piece("a"), piece("b")),
        format!("{}{}", piece("ab"), END.replace("\n\n", "\r\n\r\n")),
        // Without [DONE], but finished.
        format!("{}{}", piece("ab"), END.replace("data: [DONE]\n\n", "")),
        format!("{}{blocks}{END}", piece("a")),
        format!("event: message\nid: 1\n{}{END}", piece("ab")),
        format!(
            "data: {{\"choices\":[{{\"index\":1,\"delta\":{{\"content\":\"other\"}}}}]}}\n\n{}{END}",
            piece("ab")
        ),
    ];
    for case in cases {
        let server = Scripted::start(vec![Answer::Close(events(&case))]).await;
        assert_eq!(
            asked(&server.base, &quick()).await.0.unwrap(),
            reply("ab"),
            "{case}"
        );
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
    let server = Scripted::start(vec![response(200, "", &body.to_string())]).await;
    let (got, tokens) = asked(&server.base, &quick()).await;
    assert_eq!((got.unwrap(), tokens), (reply("whole"), vec!["whole".to_owned()]));
}

#[tokio::test]
async fn refused_parameters_are_left_out() {
    let refuse = |body: Json| response(400, "", &body.to_string());
    let server = Scripted::start(vec![
        refuse(json!({"error": {"message": "no", "param": "stream_options"}})),
        refuse(json!({"error": {"message": "Unsupported parameter: 'temperature'"}})),
        refuse(json!({"detail": "extra inputs: max_completion_tokens"})),
        refuse(json!({"error": {"message": "verify your organization", "param": "stream"}})),
        response(
            200,
            "",
            &json!({"choices": [{"message": {"content": "x"}}]}).to_string(),
        ),
    ])
    .await;
    assert_eq!(asked(&server.base, &quick()).await.0.unwrap().text, "x");
    let bodies = server.bodies();
    assert_eq!(bodies.len(), 5);
    assert_eq!(
        bodies[4],
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "stream": false})
    );
}

#[tokio::test]
async fn a_parameter_refused_twice_is_an_error() {
    let body = json!({"error": {"message": "no", "param": "temperature"}}).to_string();
    let server = Scripted::start(vec![response(400, "", &body)]).await;
    let error = asked(&server.base, &quick()).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_bad_request", false));
    assert_eq!(server.bodies().len(), 2);
}
